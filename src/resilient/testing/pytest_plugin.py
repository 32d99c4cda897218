"""The pytest plugin: a test that takes ``virtual_time`` gets one, with every policy fresh.

An ``async def`` test runs on a loop that some other plugin makes, as do async fixtures. So each of
them puts the loop that it finds itself on under virtual time, as its first step: this works with
whatever runs it, and needs to know of no other plugin.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import types
import weakref
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from typing import Any

import pytest

from resilient.testing import virtual
from resilient.testing.virtual import VirtualTime
from resilient.testing.virtual import virtual_time as virtual_time_block

_followers: weakref.WeakSet[Any] = weakref.WeakSet()
"""Fixtures that follow virtual time for good."""


@pytest.fixture
def virtual_time() -> Iterator[VirtualTime]:
    """Virtual time for this test; every policy starts as new and is left as new.

    An ``async def`` test runs on it, and so do its async fixtures.
    """
    with virtual_time_block(fresh=True) as time:
        yield time


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let virtual time begin before all else that is made for an async test alone."""
    if not isinstance(item, pytest.Function) or "virtual_time" not in item.fixturenames:
        return
    if not _is_async(getattr(*_body(item))):
        return
    names, fixtures = item.fixturenames, item._fixtureinfo.name2fixturedefs
    names.remove("virtual_time")
    wider = [name for name in names if name in fixtures and fixtures[name][-1].scope != "function"]
    names.insert(names.index(wider[-1]) + 1 if wider else 0, "virtual_time")


@pytest.hookimpl(tryfirst=True, wrapper=True)
def pytest_fixture_setup(fixturedef: Any) -> Generator[None, object, object]:
    """Let an async fixture follow virtual time, if there is one, from its first step."""
    function = fixturedef.func
    hidden = _is_async(inspect.unwrap(function)) or function.__module__ == "anyio.pytest_plugin"
    if virtual.current() is None or not hidden or fixturedef in _followers:
        return (yield)
    if not _is_async(function):
        raise RuntimeError(
            f"the async fixture {fixturedef.argname!r} would wait in real time while the clock of "
            "the policies stands still: it was made a plain function before virtual time could "
            "reach it. pytest-asyncio does so before 1.1, and anyio before 4.7: install a newer one"
        )
    fixturedef.func = follower = _following(function)
    try:
        return (yield)
    finally:
        if fixturedef.func is follower:
            fixturedef.func = function
        else:  # an old anyio has put it into a function of its own, for good
            _followers.add(fixturedef)


@pytest.hookimpl(tryfirst=True, wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Let an async test follow virtual time, if there is one, from its first step."""
    if virtual.current() is None or not isinstance(item, pytest.Function):
        return (yield)
    owner, name = _body(item)
    function = getattr(owner, name)
    if not _is_async(function):
        return (yield)
    setattr(owner, name, _following(function))
    try:
        return (yield)
    finally:
        setattr(owner, name, function)


def _move_running_loop() -> None:
    time = virtual.current()
    if time is not None:
        time.move_running_loop()


def _body(item: pytest.Function) -> tuple[Any, str]:
    """Where the first async step of a test is kept: the owner, and the name of the attribute."""
    if hasattr(item.instance, "asyncSetUp"):  # of unittest.IsolatedAsyncioTestCase
        return item.instance, "asyncSetUp"
    hypothesis = getattr(item.obj, "hypothesis", None)
    return (item, "obj") if hypothesis is None else (hypothesis, "inner_test")


def _is_async(function: object) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def _following(function: Callable[..., Any]) -> Callable[..., Any]:
    """*function*, async, with a first step that puts its loop on the virtual time that is present.
    It stays what it was.
    """
    if isinstance(function, types.MethodType):  # pytest binds the method of a class anew
        return types.MethodType(_following(function.__func__), function.__self__)

    @functools.wraps(function)
    async def coroutine(*args: Any, **kwargs: Any) -> Any:
        _move_running_loop()
        return await function(*args, **kwargs)

    @functools.wraps(function)
    async def generator(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        _move_running_loop()
        async with contextlib.aclosing(function(*args, **kwargs)) as values:
            async for value in values:
                yield value

    return generator if inspect.isasyncgenfunction(function) else coroutine
