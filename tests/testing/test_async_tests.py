"""An async test that takes virtual_time runs on it, whichever plugin runs the test (T4).

Each test here is a run of pytest with the real plugins. Were a sleep in it real, the run would take
minutes.
"""

from __future__ import annotations

import asyncio
import math
from importlib.metadata import version
from typing import Any

import anyio
import pytest
import trio

from resilient import DeadlineExceeded, breaker, deadline
from resilient.testing import virtual_time
from resilient.testing.jumping import replace_clock

pytestmark = pytest.mark.rule("T4")
ANYIO_VERSION = tuple(map(int, version("anyio").split(".")[:2]))
BINDS = pytest.mark.skipif(ANYIO_VERSION < (4, 7), reason="it binds no fixtures of a class anew")

HEAD = """
import asyncio, contextlib, functools, time, unittest
import anyio, pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from resilient import CircuitOpen, DeadlineExceeded, breaker, deadline
"""

WITH_EITHER = """
payments = breaker("payments", consecutive_failures=1, cooldown=30)


@fixture
async def early():
    await anyio.sleep(40)


@fixture
async def client(virtual_time):
    async def ticks():
        while True:
            await anyio.sleep(7)

    async with in_background(ticks):
        await anyio.sleep(30)
        yield virtual_time.now()
        await anyio.sleep(30)


@mark
async def test_fixtures_are_on_it_also_those_that_come_before_it(early, client, virtual_time):
    assert client == virtual_time.now() == 70
    with pytest.raises(DeadlineExceeded):
        async with deadline(50):
            await anyio.sleep(100)
    assert virtual_time.now() == 120


@mark
async def test_a_cooldown_passes_with_the_sleep(virtual_time):
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), payments:
            1 / 0
        with pytest.raises(CircuitOpen), payments:
            pass
        await anyio.sleep(30)
    assert virtual_time.now() == 60


@mark
async def test_a_thread_is_waited_for(virtual_time):
    await anyio.to_thread.run_sync(time.sleep, 0.01)
    assert virtual_time.now() == 0


@mark
async def test_real_time_is_real():
    began = time.monotonic()
    await anyio.sleep(0.02)
    assert time.monotonic() - began > 0.018
"""

CLASS = """
class TestInAClass:
    @fixture
    async def me(self):
        await anyio.sleep(1)
        self.seen = True
        return self

    @mark
    async def test_its_fixtures_have_its_self(self, me, virtual_time):
        assert self is me and self.seen
        assert virtual_time.now() == 1
"""

WIDE = """
@wide_fixture
async def ticks(*args, **kwargs):
    seen = []

    async def tick():
        while True:
            await anyio.sleep(10)
            seen.append(1)

    async with in_background(tick):
        yield seen


@pytest.mark.parametrize("time_and_again", range(3))
@wide_mark
async def test_a_loop_of_several_tests_is_moved_in_each(ticks, virtual_time, time_and_again):
    before = len(ticks)
    await anyio.sleep(3605)
    assert virtual_time.now() == 3605
    assert len(ticks) - before in (360, 361)


@wide_mark
async def test_and_waits_in_real_time_again_for_the_others(ticks):
    began, before = time.monotonic(), len(ticks)
    await anyio.sleep(0.02)
    assert time.monotonic() - began > 0.018
    assert len(ticks) == before
"""

ASYNCIO = """
import pytest_asyncio
fixture, mark = pytest_asyncio.fixture, pytest.mark.asyncio
wide_fixture = pytest_asyncio.fixture(scope="module", loop_scope="module")
wide_mark = pytest.mark.asyncio(loop_scope="module")


@contextlib.asynccontextmanager
async def in_background(fn):
    task = asyncio.create_task(fn())
    yield
    task.cancel()
"""

ANYIO = """
fixture = pytest.fixture
mark = wide_mark = pytest.mark.anyio


@contextlib.asynccontextmanager
async def in_background(fn):
    async with anyio.create_task_group() as group:
        group.start_soon(fn)
        yield
        group.cancel_scope.cancel()


def wide_fixture(fn):
    async def with_backend(anyio_backend):
        async for value in fn():
            yield value

    return pytest.fixture(scope="module", name=fn.__name__)(with_backend)
"""

AUTO = """
@pytest.fixture
async def client():
    await asyncio.sleep(30)
    yield
    await asyncio.sleep(30)


async def test_nothing_is_marked(client, virtual_time):
    await asyncio.sleep(30)
    assert virtual_time.now() == 60


@settings(suppress_health_check=list(HealthCheck), max_examples=5)
@given(st.floats(50, 100))
async def test_by_properties(virtual_time, seconds):
    await asyncio.sleep(seconds)


def test_a_plain_test_with_an_async_fixture(virtual_time, client):
    assert virtual_time.now() == 30


@pytest.mark.usefixtures("virtual_time")
class TestByUnittest(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        await asyncio.sleep(30)

    async def test_it(self):
        await asyncio.sleep(30)
"""


@pytest.mark.parametrize(
    ("code", "passed", "args"),
    [
        pytest.param(
            ASYNCIO + WITH_EITHER + CLASS + WIDE, 9, ["--asyncio-mode=strict"], id="strict"
        ),
        pytest.param(AUTO, 4, ["--asyncio-mode=auto"], id="auto"),
        pytest.param(ANYIO + WITH_EITHER + WIDE, 16, ["-p", "no:asyncio"], id="anyio"),
        pytest.param(ANYIO + CLASS, 2, ["-p", "no:asyncio"], id="anyio-class", marks=BINDS),
    ],
)
def test_an_async_test_runs_on_virtual_time(
    pytester: pytest.Pytester, code: str, passed: int, args: list[str]
) -> None:
    if "no:asyncio" not in args:
        pytest.importorskip("pytest_asyncio")
        args = [*args, "-o", "asyncio_default_fixture_loop_scope=function"]
    pytester.makepyfile(HEAD + code)
    pytester.runpytest_inprocess("-W", "error", *args).assert_outcomes(passed=passed)


IMPOSSIBLE = """
@pytest.fixture
def anyio_backend():
    return "asyncio", {"use_uvloop": True}


@pytest.mark.anyio
async def test_uvloop(virtual_time):
    await asyncio.sleep(0.01)


def as_plugins_did_it_once(fn):
    @functools.wraps(fn)
    def run():
        return asyncio.run(fn())

    return run


@pytest.fixture
@as_plugins_did_it_once
async def client():
    await asyncio.sleep(0.01)


def test_a_fixture_out_of_reach(virtual_time, client):
    pass
"""


def test_where_that_cannot_be_an_error_says_what_to_write(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(HEAD + IMPOSSIBLE)
    result = pytester.runpytest_inprocess("-p", "no:asyncio")
    result.assert_outcomes(failed=1, errors=1)
    for line in (
        "*RuntimeError: virtual time can't move the timers of <uvloop.Loop*`virtual_time.run(fn)`*",
        "*RuntimeError: the async fixture 'client' would wait in real time*install a newer one*",
    ):
        result.stdout.fnmatch_lines([line])


def test_a_trio_that_keeps_its_clock_elsewhere_is_an_error_too() -> None:
    task: Any = object()
    with pytest.raises(RuntimeError, match=r"clock=virtual_time\.trio_clock\(\)"):
        replace_clock(task, 0.0)


def test_the_plugin_imports_no_other_plugin(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_it(virtual_time):
            virtual_time.advance(1)
            loaded = {"hypothesis", "pytest_asyncio", "anyio", "anyio.pytest_plugin", "trio"}
            assert not loaded & set(sys.modules)
        """
    )
    without = ["anyio", "asyncio", "hypothesispytest", "_hypothesis_pytestplugin"]
    args = [arg for name in without for arg in ("-p", f"no:{name}")]
    pytester.runpytest_subprocess(*args).assert_outcomes(passed=1)


async def scenario() -> None:
    """Virtual time that begins, and ends, in a loop that runs already."""
    guard = breaker(consecutive_failures=1, cooldown=3600)
    with virtual_time() as time:
        with pytest.raises(DeadlineExceeded):
            async with deadline(50):
                await anyio.sleep(100)
        with pytest.raises(ZeroDivisionError), guard:
            raise ZeroDivisionError
        await anyio.sleep(3600)
        with guard:
            pass
        assert time.now() == pytest.approx(3650)
        scope = anyio.CancelScope(deadline=anyio.current_time() + 0.01)
    with scope:  # by a limit that was set in virtual time
        await anyio.sleep(math.inf)
    async with deadline(60):
        await anyio.sleep(0.001)


@pytest.mark.parametrize("run", [asyncio.run, trio.run], ids=["asyncio", "trio"])
def test_virtual_time_that_begins_inside_a_loop_moves_it(run: Any) -> None:
    run(scenario() if run is asyncio.run else scenario)
