"""What the libraries of HTTP have in common."""

from __future__ import annotations

import abc
from typing import Any

from resilient._core.checks import refuse, refuse_type
from resilient._core.http import Hint, forbids_retry, retry_after_of
from resilient._runtime import clock
from resilient.integrations._client.met import Met, note
from resilient.integrations.http import BadStatus, Wire


class HttpLibrary(abc.ABC):
    """The part of a `Library` that speaks of headers and statuses."""

    leeway = 0.1

    @abc.abstractmethod
    def values(self, answer: Any, name: str) -> list[str]:
        """Each value of a header of *answer*."""

    def hint(self, answer: Any, wire: Wire | None) -> Hint:
        """What *answer*, a failure, says of another attempt."""
        after = retry_after_of(
            self.values(answer, "retry-after"), self.values(answer, "retry-after-ms"),
            self.values(answer, "date"), clock.wall(),
        )  # fmt: skip
        name = None if wire is None else wire.should_retry
        return Hint(after, name is None or not forbids_retry(self.values(answer, name)))

    def in_error(self, answer: Any) -> object:
        """What the library's own error for *answer*, of ``raise_for_status``, has of it."""
        return answer

    def remember(self, error: BadStatus) -> None:
        """Let a server of ours know what the answer was that its handler gets."""
        note(self.in_error(error.response), Met(error.status, error.retry_after))

    def check_status(self, failures: object, status: object) -> None:
        """Refuse what is no status in the argument *failures*."""
        if isinstance(status, bool) or not isinstance(status, int):
            refuse_type("failures", failures, "a collection of whole numbers")
        if not 100 <= status <= 599:  # noqa: PLR2004  # what HTTP has
            refuse("failures", failures, "statuses from 100 to 599")

    def check_method(self, idempotent: object, method: str) -> None:  # noqa: B027  # all are right
        """Every name is the name of a method."""
