"""What clients of ours were answered, for a server of ours that has to say so to its own caller."""

from __future__ import annotations

from typing import Any, NamedTuple
from weakref import WeakKeyDictionary


class Met(NamedTuple):
    """An answer that is a failure."""

    status: int
    retry_after: float | None


answers: WeakKeyDictionary[Any, Met] = WeakKeyDictionary()
"""By the answer, for as long as the caller keeps it: ``raise_for_status`` puts it into an error.
Or by the error, where the library has no answers.
"""


def met_by(error: BaseException) -> Met | None:
    """What a client of ours met, if that is what *error*, the library's own, is about."""
    answer = getattr(error, "response", None)
    try:
        return answers.get(error if answer is None else answer)
    except TypeError:  # it is something else
        return None
