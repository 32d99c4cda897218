"""What the policies say of an error before its ``on`` and ``ignore`` are asked."""

from __future__ import annotations

from typing import Final

from resilient._core.matching import Judge, Verdict
from resilient._runtime.decorate import AwaitableReturned
from resilient._runtime.notify import log_predicate_error
from resilient.errors import DeadlineExceeded, Rejected

CLASSIFIED: Final = (Rejected, AwaitableReturned, DeadlineExceeded)
"""The types of which `classify_first` says anything."""


def classify_first(error: BaseException) -> Verdict | None:
    """*Ignored* if the call was not made. *failure* if a time limit of ours cut it short; else
    nothing.
    """
    if isinstance(error, (Rejected, AwaitableReturned)):
        return Verdict.IGNORED
    if isinstance(error, DeadlineExceeded):
        return Verdict.FAILURE if error.started else Verdict.IGNORED
    return None


def judge_of(
    on: object, ignore: object = (), *, on_predicate_error: Verdict = Verdict.FAILURE
) -> Judge:
    """The judge of a policy."""
    return Judge(
        on,
        ignore,
        classify_first=classify_first,
        classified_types=CLASSIFIED,
        log=log_predicate_error,
        on_predicate_error=on_predicate_error,
    )
