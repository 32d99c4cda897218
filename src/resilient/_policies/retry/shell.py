"""The retry policy: its stats, its loop form, and the wrappers of functions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, final

from resilient._core.functions import is_coroutine_function
from resilient._core.retry import Reason
from resilient._core.snapshot import ReadOnlyDict
from resilient._policies.common.keyed import KeyedState
from resilient._policies.common.repeats import Repeats
from resilient._policies.retry import fast_path
from resilient._policies.retry.attempts import Attempt, Attempts
from resilient._policies.retry.budget import RetryBudget
from resilient._policies.retry.deciding import DecidingRetry, Settings
from resilient._policies.retry.state import RetryState, Within
from resilient._runtime import clock
from resilient._runtime.decorate import AnyFunction
from resilient._runtime.keying import key_of

MAX_KEYS: Final = 1024


@dataclass(frozen=True, slots=True)
class RetryStats:
    """Totals of a retry.

    ``attempts = calls + retries``; ``recovered`` calls succeeded after a retry; ``gave_up`` counts
    the others that failed, by reason.
    """

    name: str
    calls: int
    attempts: int
    retries: int
    recovered: int
    gave_up: Mapping[Reason, int]


@final
class Retry(DecidingRetry):
    """Tries again what failed and may be repeated; `retry` makes it.

    Decorates functions, sync and async; ``for attempt in policy:`` and ``async for attempt in
    policy:``, with ``with attempt:`` inside, repeat a block.
    """

    def __init__(self, name: str | None, settings: Settings) -> None:
        super().__init__(name, settings)
        self._budgets: KeyedState[RetryBudget] | None = None
        if settings.key is not None and settings.budget is not None:
            self._budgets = KeyedState(
                settings.budget._copy,
                settings.key,
                MAX_KEYS,
                idle=lambda _: True,
                healthy=RetryBudget._untouched,
                totals=lambda _: {},
            )
        self._register()

    def stats(self) -> RetryStats:
        """A snapshot; see `RetryStats`."""
        reasons = ReadOnlyDict[Reason, int](
            {why: total.read() for why, total in self._gave_up_by.items()}
        )
        recovered, retries, calls = (
            total.read() for total in (self._recovered, self._retries, self._calls)
        )
        return RetryStats(self.name, calls, calls + retries, retries, recovered, reasons)

    def __iter__(self) -> Iterator[Attempt]:
        """Repeat a block: ``for attempt in policy:`` with ``with attempt:`` inside."""
        return self._attempts()

    def __aiter__(self) -> AsyncIterator[Attempt]:
        """Repeat a block: ``async for attempt in policy:`` with ``with attempt:`` inside."""
        return self._attempts()

    def _attempts(self) -> Attempts:
        if self._settings.strategy_is_async:
            raise TypeError(
                "on= is a strategy of tenacity.asyncio, which a loop can't await: "
                "decorate a function"
            )
        if self._settings.key is not None:
            raise TypeError(
                "key= reads a call's arguments, and a loop has none: decorate a function"
            )
        return Attempts(self)

    def _reset(self) -> None:
        with self._lock:
            for total in (
                self._calls, self._retries, self._recovered, *self._gave_up_by.values()
            ):  # fmt: skip
                total.reset()
            if self._budgets is not None:
                self._budgets.restart(self._budgets._new)
        if self._budgets is not None:
            self._budgets.release_evicted()
        if self._budget is not None:
            self._budget._reset()

    # Wrappers.

    def _wrap_sync(self, fn: AnyFunction) -> AnyFunction:
        if self._settings.strategy_is_async:
            raise TypeError(
                f"on= is a strategy of tenacity.asyncio, which {fn!r}, a sync function, can't await"
            )
        discard = self._settings.discard
        if is_coroutine_function(discard):
            raise TypeError(
                f"discard {discard!r} is an async def, which {fn!r}, a sync function, can't await: "
                "write a plain function"
            )
        return fast_path.wrap_sync(self, fn) if self._is_plain() else self._repeating(fn)

    def _repeating(self, fn: AnyFunction, repeats: Repeats | None = None) -> AnyFunction:
        """`_wrap_sync` for whatever it is set to; *repeats* may know better what to repeat."""
        budget_of = self._budget_of(fn)

        def retrying(*args: Any, **kwargs: Any) -> Any:
            began, budget = clock.now(), budget_of(*args, **kwargs)
            self._begin(began, budget)
            state = RetryState(self, fn, args, kwargs, began, budget, repeats=repeats)
            with Within(self, state):
                return state.go(*state.attempt_once())

        return retrying

    def _wrap_async(self, fn: AnyFunction) -> AnyFunction:
        return fast_path.wrap_async(self, fn) if self._is_plain() else self._repeating_async(fn)

    def _repeating_async(self, fn: AnyFunction, repeats: Repeats | None = None) -> AnyFunction:
        """`_repeating` for an async function."""
        budget_of = self._budget_of(fn)

        async def retrying(*args: Any, **kwargs: Any) -> Any:
            began, budget = clock.now(), budget_of(*args, **kwargs)
            self._begin(began, budget)
            state = RetryState(self, fn, args, kwargs, began, budget, repeats=repeats)
            with Within(self, state):
                return await state.go_async(*await state.attempt_once_async())

        return retrying

    def _budget_of(self, fn: AnyFunction) -> Callable[..., RetryBudget | None]:
        """How to find the budget of a call of *fn*."""
        if self._settings.key is None:
            return lambda *_args, **_kwargs: self._budget
        find = key_of(self._settings.key, fn)
        return lambda *args, **kwargs: self._keyed_budget(find(*args, **kwargs))

    def _keyed_budget(self, key: Hashable) -> RetryBudget | None:
        if self._budgets is None:
            return None
        with self._lock:
            budget = self._budgets.find(key)
        self._budgets.release_evicted()
        return budget
