"""Every exception that this library raises.

::

    ResilienceError
    ├── Rejected                 the call was not made: no effects, safe to send elsewhere
    │   ├── CircuitOpen          a breaker is open
    │   ├── BulkheadFull         no place, and no queue or no patience left
    │   ├── RateLimited          too many in this period
    │   └── Overloaded           an adaptive limit or a throttle sheds load
    └── DeadlineExceeded         also a TimeoutError; `started` says whether the call was made

The fields are the arguments, the sentence is made when somebody looks: so an
error is cheap to raise and survives ``copy`` and ``pickle`` as it is. Most of what a rejection
costs is its error, which is why those of `Rejected` are read off ``args``, and a policy makes
one by `new_error` from all four.
"""

from __future__ import annotations

from typing import Final, final

__all__ = [
    "BulkheadFull", "CircuitOpen", "DeadlineExceeded", "Overloaded", "RateLimited", "Rejected",
    "ResilienceError",
]  # fmt: skip


new_error: Final = Exception.__new__
"""``new_error(CircuitOpen, policy, retry_after, reason, why)``, without the ``__init__``."""


def _seconds(value: float) -> str:
    """A length of time as people write it: three digits, and no exponent for long ones."""
    return f"{value:.0f} s" if value >= 100 else f"{value:.3g} s"  # noqa: PLR2004  # where %g turns to 1e+02


class ResilienceError(Exception):
    """The root: everything that this library raises by its own decision."""

    __slots__ = ()


class Rejected(ResilienceError):  # noqa: N818  # named for what happened
    """A policy did not make the call it guards."""

    __slots__ = ()
    _what = "rejected"

    def __init__(
        self,
        policy: str,
        retry_after: float | None = None,
        reason: str = "rejected",
        why: object = None,
    ) -> None:
        self.args = (policy, retry_after, reason, why)

    @property
    def policy(self) -> str:
        """The name of the policy that said no."""
        return self.args[0]  # type: ignore[no-any-return]  # as __init__ has put it there

    @property
    def retry_after(self) -> float | None:
        """Seconds after which another try can succeed; ``None`` where nobody knows."""
        return self.args[1]  # type: ignore[no-any-return]  # the same

    @property
    def reason(self) -> str:
        """One word for programs and metrics, such as ``"open"`` or ``"would_block"``."""
        return self.args[2]  # type: ignore[no-any-return]  # the same

    @property
    def why(self) -> object:
        """What led to it, for people; its ``str`` stands in the message."""
        return self.args[3]

    def __str__(self) -> str:
        why = "" if self.why is None else f" ({self.why})"
        return f"{self.policy}: {self._headline()}{why}; {self._advice()}"

    def _headline(self) -> str:
        return self._what

    def _advice(self) -> str:
        if self.retry_after is None:
            return "the call was not made"
        return f"try again in {_seconds(self.retry_after)}"


@final
class CircuitOpen(Rejected):
    """A breaker turned the call away.

    ``reason`` is ``"open"``, ``"half_open"`` (every probe's place is taken) or ``"forced_open"``.
    ``retry_after`` is what is left of the cooldown, ``None`` for the other two.
    """

    __slots__ = ()

    def _headline(self) -> str:
        return "circuit " + self.reason.replace("_", " ").replace("half open", "half-open")

    def _advice(self) -> str:
        if self.retry_after is not None:
            return f"next probe in {_seconds(self.retry_after)}"
        if self.reason == "half_open":
            return "every probe is out; try again when one has reported"
        return "it stays so until reset()"


@final
class BulkheadFull(Rejected):
    """No place was free, and the queue was full or the wait too long."""

    __slots__ = ()
    _what = "bulkhead full"


@final
class RateLimited(Rejected):
    """The rate is used up for longer than the call may wait."""

    __slots__ = ()
    _what = "rate limited"


@final
class Overloaded(Rejected):
    """An adaptive limit or a throttle sheds load."""

    __slots__ = ()
    _what = "overloaded"


@final
class DeadlineExceeded(ResilienceError, TimeoutError):  # noqa: N818  # named for what happened
    """A time limit passed.

    Attributes:
        policy: the name of the policy that guards the call: ``started`` speaks of that call.
        seconds: the limit that was set.
        elapsed: seconds since that limit began.
        started: whether the guarded call was made; if not, it had no effects.
        ended_ago: for a limit inherited from a block that is over: seconds since its end.
    """

    def __init__(
        self,
        policy: str,
        seconds: float,
        elapsed: float,
        started: bool,  # noqa: FBT001  # positional, so that args are the fields
        ended_ago: float | None = None,
    ) -> None:
        super().__init__()  # OSError reads two to five arguments as errno and file names
        self.args = (policy, seconds, elapsed, started, ended_ago)
        self.policy = policy
        self.seconds = seconds
        self.elapsed = elapsed
        self.started = started
        self.ended_ago = ended_ago

    def __str__(self) -> str:
        if self.started:
            return (
                f"{self.policy}: limit of {_seconds(self.seconds)} exceeded after "
                f"{_seconds(self.elapsed)}; the call had started, its effects are unknown"
            )
        if self.ended_ago is not None:
            return (
                f"{self.policy}: not started, deadline of {_seconds(self.seconds)} was inherited "
                f"from a block that ended {_seconds(self.ended_ago)} ago; "
                "start this task inside detached()"
            )
        return (
            f"{self.policy}: not started, nothing was left of the deadline of "
            f"{_seconds(self.seconds)} after {_seconds(self.elapsed)}; the call was not made"
        )
