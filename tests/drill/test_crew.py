"""Children are started, asked, missed when they die, and never left behind."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from resilient.drill.crew import Child, Crew, DrillError, crew
from resilient.drill.messages import Change, Done, Guard, Opened, Serve
from resilient.drill.ports import bind
from resilient.drill.stage import expect
from resilient.drill.weather import Weather
from tests.drill.drilling import state

pytestmark = pytest.mark.real_clock

GONE = {"Z", "-"}


async def proxy(hired: Crew) -> Child:
    return await hired.hire("proxy", "proxy")


def test_a_child_follows_orders_and_ends_with_the_block() -> None:
    async def story() -> int:
        async with crew() as hired:
            child = await proxy(hired)
            opened = await child.ask(Guard("127.0.0.1", 1, seed=1))
            assert isinstance(opened, Opened)
            assert await child.ask(Change(Weather.SILENT)) == Done()
            return child.process.pid

    assert state(asyncio.run(story())) in GONE


def test_a_stopped_child_ends_with_the_block_as_well() -> None:
    async def story() -> int:
        async with crew() as hired:
            child = await proxy(hired)
            child.signal(signal.SIGSTOP)
            return child.process.pid

    assert state(asyncio.run(story())) in GONE


def test_a_child_that_dies_ends_the_block_with_its_last_words() -> None:
    async def story() -> None:
        async with crew() as hired:
            child = await proxy(hired)
            await child.ask("nonsense")

    with pytest.raises(DrillError, match=r"(?s)proxy process ended with 1:.*TypeError: nonsense"):
        asyncio.run(story())


def test_a_child_that_is_killed_said_nothing() -> None:
    async def story() -> None:
        async with crew() as hired:
            child = await proxy(hired)
            os.kill(child.process.pid, signal.SIGKILL)
            await child.ask()

    with pytest.raises(DrillError, match="ended with -9:\nit said nothing"):
        asyncio.run(story())


def test_an_order_that_can_not_be_followed_is_an_error_with_the_reason() -> None:
    async def story() -> None:
        with bind() as holder:
            port = holder.getsockname()[1]
            holder.close()
            server = await asyncio.start_server(lambda *_: None, "127.0.0.1", port)
            try:
                async with crew() as hired:
                    child = await hired.hire("service", "service")
                    await child.ask()
                    await child.ask(Serve(port, 0.01, seed=1))
            finally:
                server.close()

    with pytest.raises(DrillError, match=r"the service can't listen on 127\.0\.0\.1:"):
        asyncio.run(story())


def test_a_signal_to_a_child_that_is_gone_goes_nowhere() -> None:
    async def story() -> None:
        async with crew() as hired:
            child = await proxy(hired)
            child.signal(signal.SIGKILL)
            await child.process.wait()
            child.signal(signal.SIGCONT)

    asyncio.run(story())


def test_a_block_that_fails_fails_with_its_own_error() -> None:
    async def story() -> None:
        async with crew() as hired:
            await proxy(hired)
            raise KeyError("own")

    with pytest.raises(KeyError, match="own"):
        asyncio.run(story())


def test_an_answer_of_the_wrong_kind_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="expected Opened, got Done"):
        expect(Opened, Done())
