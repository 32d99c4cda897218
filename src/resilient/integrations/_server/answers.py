"""What leaves a handler before its answer has begun, as an answer (W23)."""

from __future__ import annotations

from typing import NamedTuple

from resilient._core.http import problem, whole_seconds
from resilient._core.matching import leaves
from resilient.errors import DeadlineExceeded, RateLimited, Rejected
from resilient.integrations._client.met import met_by

BUSY = {429, 503}


class Answer(NamedTuple):
    """An answer of ours; it tells nothing of the inside."""

    status: int
    retry_after: float | None = None

    def headers(self, *, is_head: bool) -> list[tuple[str, str]]:
        """Its headers."""
        found = [
            ("content-type", "application/problem+json"),
            ("content-length", str(len(self.body(is_head=False)))),
            ("cache-control", "no-store"),
        ]
        if is_head:
            del found[1]
        if self.status in BUSY:
            found.append(("retry-after", str(whole_seconds(self.retry_after))))
        return found

    def body(self, *, is_head: bool) -> bytes:
        """Its body; a HEAD has none."""
        return b"" if is_head else problem(self.status)


def answer_to(error: BaseException) -> Answer | None:
    """The answer to what left a handler; ``None`` where the error is no matter of ours."""
    if isinstance(error, BaseExceptionGroup):
        answers = [_answer_to_leaf(leaf) for leaf in leaves(error)]
        return None if None in answers or not answers else answers[0]
    return _answer_to_leaf(error)


def _answer_to_leaf(error: BaseException) -> Answer | None:
    if isinstance(error, DeadlineExceeded):
        return Answer(504)
    if isinstance(error, Rejected):
        return Answer(503, error.retry_after)
    met = met_by(error)
    if met is not None and met.status == 504:  # noqa: PLR2004  # what the one below has said
        return Answer(504)
    if met is not None and met.status in BUSY and met.retry_after is not None:
        return Answer(503, met.retry_after)
    return None


def answer_to_shed(error: Rejected) -> Answer:
    """The answer where the server's own ``limit`` has refused."""
    return Answer(429 if isinstance(error, RateLimited) else 503, error.retry_after)
