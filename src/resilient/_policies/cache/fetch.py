"""A cache's runs: what they bring in, and what is served when they fail."""

from __future__ import annotations

from collections.abc import Hashable
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any

from resilient._core.cache import Entry
from resilient._policies.deadline.block import set_deadline_here
from resilient._policies.singleflight.worlds import running
from resilient._runtime import background
from resilient._runtime.decorate import AnyFunction, refuse_if_coroutine

if TYPE_CHECKING:
    from resilient._policies.cache.shell import Cache


class Old:
    """A run failed with ``error``; this entry is served in its place."""

    __slots__ = ("entry", "error")

    def __init__(self, entry: Entry, error: Exception) -> None:
        self.entry, self.error = entry, error


class Fetch:
    """How one key is brought in; its two forms are what a flight runs."""

    __slots__ = ("_args", "_cache", "_failed", "_fn", "_kwargs", "claimed", "generation", "key")

    def __init__(
        self,
        cache: Cache[Any],
        key: Hashable,
        fn: AnyFunction,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        claimed: Entry | None = None,
    ) -> None:
        self._cache, self.key = cache, key
        self._fn, self._args, self._kwargs = fn, args, kwargs
        self.claimed = claimed  # the entry, still fresh, that is to be refreshed
        self._failed = False
        self.generation = cache.generation

    @property
    def argument(self) -> Any:
        """The key of a call for people, where no ``key=`` says it: its single argument."""
        return self._args[0] if self._args else next(iter(self._kwargs.values()))

    def run(self) -> Any:
        """Call the function, and keep what it returns; `Old` if it fails and that can be helped."""
        cache = self._cache
        if self.claimed is None and (entry := cache.fresh(self.key)) is not None:
            return entry.value  # another run ended between our look and our beginning
        fetching = cache.begin(self.key)
        try:
            result = refuse_if_coroutine(self._fn, self._fn(*self._args, **self._kwargs))
            cache.keep(self.key, result, fetching)
        except Exception as error:
            if (entry := cache.better_than_nothing(self.key)) is None:
                raise
            return Old(entry, error)
        finally:
            cache.end(fetching)
        return result

    async def run_async(self) -> Any:
        """`run` for an async function."""
        cache = self._cache
        if self.claimed is None and (entry := cache.fresh(self.key)) is not None:
            return entry.value
        fetching = cache.begin(self.key)
        try:
            result = await self._fn(*self._args, **self._kwargs)
            cache.keep(self.key, result, fetching)
        except Exception as error:
            if (entry := cache.better_than_nothing(self.key)) is None:
                raise
            return Old(entry, error)
        finally:
            cache.end(fetching)
        return result

    # Ahead of the end. What is no Exception ends the thread or the task as it would any other, and
    # is no failure.

    def refresh(self) -> None:
        """Bring the key in again, in a thread of its own."""
        name = f"resilient.cache {self._cache.name}"
        try:
            background.start_thread(self._refresh, name, _detached())
        except RuntimeError:  # there are no more threads to be had, and the caller has its value
            self._failed = True
            self._over()

    def refresh_async(self) -> None:
        """Bring the key in again, in a task of its own."""
        name = f"resilient.cache {self._cache.name}"
        background.start(self._refresh_async, self._over, name, _detached())

    def _refresh(self) -> None:
        try:
            self._failed = isinstance(self._cache.flight.fly(self.key, self.run), Old)
        except Exception:  # noqa: BLE001  # counted; nobody waits for it
            self._failed = True
        finally:
            self._over()

    async def _refresh_async(self) -> None:
        try:
            result = await self._cache.flight.fly_async(self.key, self.run_async, (), {})
            self._failed = isinstance(result, Old)
        except Exception:  # noqa: BLE001  # the same
            self._failed = True

    def _over(self) -> None:
        assert self.claimed is not None
        self._cache.refreshed(self, self.claimed, failed=self._failed)


def _detached() -> Context:
    """A copy of the present context, without its deadline.

    Nor is it part of the runs that are under way there: none of them waits for it.
    """
    context = copy_context()
    context.run(set_deadline_here, None)
    context.run(running.set, ())
    return context
