"""A cache's runs: what they bring in, and what is served when they fail."""

from __future__ import annotations

from collections.abc import Hashable
from contextvars import Context, copy_context
from typing import Any, Final

from resilient._core.cache import Entry, StaleResult
from resilient._policies.cache.store import CacheStore
from resilient._policies.deadline.block import set_deadline_here
from resilient._policies.singleflight.backends import running
from resilient._runtime import background, clock
from resilient._runtime.decorate import AnyFunction, AwaitableReturned, not_awaitable

NOT_RUN: Final = object()
"""In place of a result that there is not."""


class CacheExecution:
    """How one key is brought in; its two forms are what a flight runs."""

    __slots__ = (
        "_args", "_failed", "_fn", "_kwargs", "_store", "claimed", "generation", "key", "result",
    )  # fmt: skip

    def __init__(
        self,
        store: CacheStore,
        key: Hashable,
        fn: AnyFunction,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        claimed: Entry | None = None,
    ) -> None:
        self._store, self.key = store, key
        self._fn, self._args, self._kwargs = fn, args, kwargs
        self.claimed = claimed  # the entry, still fresh, that is to be refreshed
        self._failed = False
        self.generation = store.generation
        self.result: Any = NOT_RUN  # what the function returned to this very call

    def argument(self) -> Any:
        """The key of a call for people, where no ``key=`` says it: its single argument."""
        return self._args[0] if self._args else next(iter(self._kwargs.values()))

    def run(self) -> Any:
        """Call the function, and keep its result; `StaleResult` if it fails and one is there."""
        core = self._store.core
        if self.claimed is None and (entry := core.fresh(self.key, clock.now())) is not None:
            return entry.value  # another run ended between our look and our beginning
        fetching = self._store.begin(self.key)
        try:
            self.result = not_awaitable(self._fn, self._fn(*self._args, **self._kwargs))
            result = self._store.keep(self.key, self.result, fetching)
        except AwaitableReturned:  # a mistake, which must be seen
            raise
        except Exception as error:
            stale = core.stale_result(self.key, clock.now(), error)
            if stale is None:
                raise
            try:
                return stale
            finally:
                del stale  # which has the error, and this frame is in its traceback
        finally:
            core.end(fetching)
        return result

    async def run_async(self) -> Any:
        """`run` for an async function."""
        core = self._store.core
        if self.claimed is None and (entry := core.fresh(self.key, clock.now())) is not None:
            return entry.value
        fetching = self._store.begin(self.key)
        try:
            self.result = await self._fn(*self._args, **self._kwargs)
            result = self._store.keep(self.key, self.result, fetching)
        except Exception as error:
            stale = core.stale_result(self.key, clock.now(), error)
            if stale is None:
                raise
            try:
                return stale
            finally:
                del stale  # which has the error, and this frame is in its traceback
        finally:
            core.end(fetching)
        return result

    # For a caller that has an old value, and little time.

    def within(self, seconds: float) -> Any:
        """What comes of the run that a caller waits for so many *seconds* at most. It goes on."""
        flight, aside = self._store.flight, self._aside()
        if (found := flight._fly_aside(self.key, aside.run, seconds, _detached())) is not None:
            self.result = aside.result
            return found[0]
        late = self._store.core.late_result(self.key, clock.now())
        return flight._fly_sync(self.key, self.run) if late is None else late

    async def within_async(self, seconds: float) -> Any:
        """`within` for an async function."""
        from anyio import move_on_after  # noqa: PLC0415  # most programs are never late

        flight, aside = self._store.flight, self._aside()
        with move_on_after(seconds):
            found = await flight._fly(self.key, aside.run_async, (), {}, goes_on=True)
            self.result = aside.result
            return found
        late = self._store.core.late_result(self.key, clock.now())
        return await flight._fly(self.key, self.run_async, (), {}) if late is None else late

    def _aside(self) -> CacheExecution:
        """One of its own for a run that may outlive the wait: what that brings later is not this
        call's.
        """
        return CacheExecution(self._store, self.key, self._fn, self._args, self._kwargs)

    # Ahead of the end. What is no Exception ends the thread or the task as it would any other, and
    # is no failure.

    def refresh(self) -> None:
        """Bring the key in again, in a thread of its own."""
        name = f"resilient.cache {self._store.flight.name}"
        try:
            background.start_thread(self._refresh, name, _detached())
        except RuntimeError:  # there are no more threads to be had, and the caller has its value
            self._failed = True
            self._over()

    def refresh_async(self) -> None:
        """Bring the key in again, in a task of its own."""
        name = f"resilient.cache {self._store.flight.name}"
        background.start(self._refresh_async, self._over, name, _detached())

    def _refresh(self) -> None:
        try:
            result = self._store.flight._fly_sync(self.key, self.run)
            self._failed = isinstance(result, StaleResult)
        except Exception:  # noqa: BLE001  # counted; nobody waits for it
            self._failed = True
        finally:
            self._over()

    async def _refresh_async(self) -> None:
        try:
            result = await self._store.flight._fly(self.key, self.run_async, (), {})
            self._failed = isinstance(result, StaleResult)
        except Exception:  # noqa: BLE001  # the same
            self._failed = True

    def _over(self) -> None:
        assert self.claimed is not None
        self._store.refreshed(self.claimed, self.generation, failed=self._failed)


def _detached() -> Context:
    """A copy of the present context, without its deadline. Nor is it part of the runs that are
    under way there: none of them waits for it.
    """
    context = copy_context()
    context.run(set_deadline_here, None)
    context.run(running.set, ())
    return context
