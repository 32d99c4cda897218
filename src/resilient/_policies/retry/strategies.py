"""What `wait`, `stop` and `on` may be: our own words, and every strategy of tenacity.

tenacity supplies the vocabulary, this engine runs it: a strategy sees a
`tenacity.RetryCallState` whose times come from our clock. tenacity is imported only when
somebody hands in an object of it.
"""

from __future__ import annotations

import datetime as dt
import math
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from resilient._core.checks import Seconds, check_seconds, check_sync, check_takes, refuse_type
from resilient._core.functions import at_once
from resilient._policies.backoff import Backoff
from resilient._runtime import clock

if TYPE_CHECKING:
    import tenacity
    from tenacity.stop import stop_base
    from tenacity.wait import wait_base

    Wait: TypeAlias = Backoff | Seconds | Callable[[int, BaseException | None], Seconds] | wait_base
    Stop: TypeAlias = stop_base | Callable[[tenacity.RetryCallState], bool]

State: TypeAlias = "tenacity.RetryCallState"


WAITS: Final = (
    "a backoff, seconds, a function (attempt, error) -> seconds, or a tenacity wait strategy"
)
STOPS: Final = "a tenacity stop strategy, a function of tenacity's state, or None"
WaitRule: TypeAlias = float | Callable[[int, BaseException | None], float]
"""Always the same, or a function of the attempt and its error."""


def wait_rule(wait: object) -> WaitRule | None:
    """What *wait* says; ``None`` if it is tenacity's, which must be shown a state."""
    if isinstance(wait, Backoff):
        return lambda attempt, _error: wait.delay(attempt)
    if isinstance(wait, (int, float, dt.timedelta)):
        return check_seconds("wait", wait)
    if _is("tenacity.wait", "wait_base", wait):
        return None
    if not callable(wait) or isinstance(wait, type):
        refuse_type("wait", wait, WAITS)
    check_sync("wait", wait, WAITS)
    check_takes("wait", wait, 2, WAITS)
    return lambda attempt, error: _usable(wait(attempt, error))


def stateful_wait(wait: object) -> Callable[[State], float] | None:
    """A wait strategy of tenacity's, as a function of its state; none if *wait* is no such."""
    if _is("tenacity.wait", "wait_base", wait):
        return lambda state: _usable(wait(state))  # type: ignore[operator]  # wait_base
    return None


def stop_rule(stop: object) -> Callable[[Any], bool] | None:
    """*stop* as a function of tenacity's state."""
    if stop is None:
        return None
    if not callable(stop) or isinstance(stop, type):
        refuse_type("stop", stop, STOPS)
    check_sync("stop", stop, STOPS)
    check_takes("stop", stop, 1, STOPS)
    return lambda state: bool(at_once(stop(state)))


def is_retry_strategy(on: object) -> bool:
    """Whether *on* is tenacity's, to be asked with a state instead of an error."""
    if isinstance(on, tuple) and any(is_retry_strategy(one) for one in on):
        refuse_type(
            "on",
            on,
            "one tenacity strategy (combine them with |), or exception types and predicates",
        )
    return _is("tenacity.retry", "retry_base", on)


def is_async_strategy(on: object) -> bool:
    """Whether *on* must be awaited."""
    return _is("tenacity.asyncio.retry", "async_retry_base", on)


class TenacityView:
    """One call as tenacity's strategies are shown it: a `tenacity.RetryCallState`."""

    __slots__ = ("_args", "_began", "_fn", "_kwargs", "_state", "attempt")

    def __init__(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], began: float
    ) -> None:
        self._fn, self._args, self._kwargs, self._began = fn, args, kwargs, began
        self._state: State | None = None
        self.attempt = 1

    def show(self, error: BaseException | None, result: object) -> Any:
        """The state after the present attempt, which ended so."""
        import tenacity  # noqa: PLC0415  # only where one of its strategies is used

        state = self._state
        if state is None:
            state = tenacity.RetryCallState(tenacity.Retrying(), self._fn, self._args, self._kwargs)
            state.start_time = self._began
            self._state = state
        if state.outcome is None or state.attempt_number != self.attempt:
            state.attempt_number = self.attempt
            outcome = tenacity.Future(self.attempt)
            if error is None:
                outcome.set_result(result)
            else:
                outcome.set_exception(error)
            state.outcome, state.outcome_timestamp = outcome, clock.now()
        return state

    def slept(self, seconds: float) -> None:
        """Another attempt follows after *seconds*."""
        if self._state is not None:
            self._state.idle_for += seconds


async def ask_async(strategy: Callable[[State], Awaitable[object]], state: State) -> bool:
    """Ask one of `tenacity.asyncio`'s strategies."""
    return bool(await strategy(state))


def _usable(value: object) -> float:
    if isinstance(value, dt.timedelta):
        value = value.total_seconds()
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not value >= 0
        or math.isnan(value)
    ):
        at_once(value)
        raise ValueError(f"wait must give seconds of at least 0, not {value!r}")
    return float(value)


def _is(module: str, name: str, value: object) -> bool:
    kind = getattr(sys.modules.get(module), name, None)
    return kind is not None and isinstance(value, kind)
