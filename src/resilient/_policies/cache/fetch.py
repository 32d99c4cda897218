"""A cache's runs: what they bring in, and what is served when they fail."""

from __future__ import annotations

from collections.abc import Hashable
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any

from resilient._core.cache import Entry
from resilient._policies.deadline.block import set_deadline_here
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

    __slots__ = ("_args", "_cache", "_fn", "_kwargs", "ahead", "key")

    def __init__(
        self,
        cache: Cache[Any],
        key: Hashable,
        fn: AnyFunction,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        ahead: bool,
    ) -> None:
        self._cache, self.key = cache, key
        self._fn, self._args, self._kwargs = fn, args, kwargs
        self.ahead = ahead  # before the end of an entry that is still fresh

    def only_argument(self) -> Any:
        """The key of a call for people, where no ``key=`` says it.

        Raises:
            TypeError: the call has not exactly one argument.
        """
        values = (*self._args, *self._kwargs.values())
        if len(values) != 1:
            raise TypeError(
                f"exists is asked for a key, and {self._fn!r} has no single argument: pass key="
            )
        return values[0]

    def run(self) -> Any:
        """Call the function, and keep what it returns; `Old` if it fails and that can be helped."""
        cache = self._cache
        if not self.ahead and (entry := cache.fresh(self.key)) is not None:
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
            cache.end(self.key, fetching)
        return result

    async def run_async(self) -> Any:
        """`run` for an async function."""
        cache = self._cache
        if not self.ahead and (entry := cache.fresh(self.key)) is not None:
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
            cache.end(self.key, fetching)
        return result

    # Ahead of the end.

    def refresh(self) -> None:
        """Bring the key in again, in a thread of its own."""
        background.start_thread(self._refresh, f"resilient.cache {self._cache.name}", _detached())

    def refresh_async(self) -> None:
        """Bring the key in again, in a task of its own."""
        name = f"resilient.cache {self._cache.name}"
        background.start(self._refresh_async, name, _detached())

    def _refresh(self) -> None:
        failed = True
        try:
            failed = isinstance(self._cache.flight.fly(self.key, self.run), Old)
        except Exception:  # noqa: BLE001, S110  # counted; nobody waits for it
            pass
        finally:
            self._cache.refreshed(self.key, failed=failed)

    async def _refresh_async(self) -> None:
        failed, flight = True, self._cache.flight
        try:
            failed = isinstance(await flight.fly_async(self.key, self.run_async, (), {}), Old)
        except Exception:  # noqa: BLE001, S110  # the same
            pass
        finally:
            self._cache.refreshed(self.key, failed=failed)


def _detached() -> Context:
    """A copy of the present context, without its deadline."""
    context = copy_context()
    context.run(set_deadline_here, None)
    return context
