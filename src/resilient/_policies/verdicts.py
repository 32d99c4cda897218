"""What the policies know of an error before anybody's ``on`` and ``ignore`` is asked."""

from __future__ import annotations

from typing import Final

from resilient._core.matching import Verdict
from resilient._runtime.decorate import CoroutineReturned
from resilient.errors import DeadlineExceeded, Rejected

KNOWN: Final = (Rejected, CoroutineReturned, DeadlineExceeded)
"""The types that they know something of."""


def known(error: BaseException) -> Verdict | None:
    """*Ignored* if the call was not made.

    *failure* if a time limit of ours cut it short; else nothing.
    """
    if isinstance(error, (Rejected, CoroutineReturned)):
        return Verdict.IGNORED
    if isinstance(error, DeadlineExceeded):
        return Verdict.FAILURE if error.started else Verdict.IGNORED
    return None
