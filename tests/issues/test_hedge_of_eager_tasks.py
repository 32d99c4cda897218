"""With an older anyio and eager tasks, a hedge whose attempt ended at once raised `AttributeError`.

anyio before 4.8 lets an eager task run while it is being started, before its group knows it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Self

import anyio
import pytest

from resilient import hedge
from resilient.testing import virtual_time

pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="eager tasks are new in Python 3.12"
)


class EagerGroup:
    """A task group that starts its tasks as anyio 4.5 does."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[Any]] = []
        self.cancel_scope = SimpleNamespace(cancel=lambda: None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        while any(not task.done() for task in self._tasks):
            await asyncio.wait(self._tasks)
        for task in self._tasks:
            task.result()

    def start_soon(self, fn: Callable[..., Any], *args: object) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(fn(*args)))
        KNOWN.update(self._tasks)


KNOWN: set[object] = set()


async def at_once() -> int:
    assert asyncio.current_task() in KNOWN, "its group knows it"
    return 1


async def later() -> int:
    with anyio.move_on_after(5):
        await asyncio.sleep(1)
    return 2


async def fails() -> int:
    raise ValueError("at once")


@pytest.mark.rule("H1", "H2", "H3", "F4")
@pytest.mark.parametrize("old", [True, False], ids=["anyio before 4.8", "anyio"])
def test_an_attempt_may_end_at_once(monkeypatch: pytest.MonkeyPatch, old: bool) -> None:
    if old:
        monkeypatch.setattr(anyio, "create_task_group", EagerGroup)

    async def main() -> None:
        factory = getattr(asyncio, "eager_task_factory")  # noqa: B009  # unknown to 3.11
        asyncio.get_running_loop().set_task_factory(factory)
        policy = hedge(0.5, budget=None)
        if old:
            assert await policy(at_once)() == 1
        assert await policy(later)() == 2
        with pytest.raises(ValueError, match="at once"):
            await policy(fails)()
        assert policy.stats().hedges == 2, "the slow one, and the one that failed"

    with virtual_time() as time:
        time.run(main)
