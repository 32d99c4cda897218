"""A stream of ``grpc.aio`` that a deadline had ended was ignored, if no message had come yet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from resilient import DeadlineExceeded, breaker, deadline
from resilient.integrations.grpc import TRANSIENT, aio_client_interceptors
from tests.integrations.grpc_service import Caller, Service, calling

pytestmark = pytest.mark.real_clock  # gRPC has its own


async def reads(caller: Caller) -> Any:
    return await caller.many().read()


async def iterates(caller: Caller) -> Any:
    return await caller.read(caller.many())


async def adds(caller: Caller) -> Any:
    return await caller.sum(b"1")


async def chats(caller: Caller) -> Any:
    return await caller.read(caller.chat(b"1"))


@pytest.mark.parametrize("ask", [reads, iterates, adds, chats])
@pytest.mark.rule("B9", "W10")
def test_is_a_failure(ask: Callable[[Caller], Any]) -> None:
    guard = breaker("b", on=TRANSIENT)

    async def main(target: str) -> None:
        async with calling(target, aio_client_interceptors(policy=guard)) as caller:
            with pytest.raises(DeadlineExceeded):
                async with deadline(0.05):
                    await ask(caller)
        assert (guard.stats().failures, guard.stats().ignored) == (1, 0)

    service = Service()
    service.script = [lambda messages, context: service.hangs(messages, context) and ()]
    with service:
        asyncio.run(main(service.target))


@pytest.mark.parametrize("ask", [reads, iterates, adds, chats])
@pytest.mark.rule("B9", "W10")
def test_a_cancellation_of_others_is_ignored(ask: Callable[[Caller], Any]) -> None:
    guard = breaker("b", on=TRANSIENT)

    async def main(target: str) -> None:
        async with calling(target, aio_client_interceptors(policy=guard)) as caller:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(ask(caller), 0.05)
            for _ in range(5):
                await asyncio.sleep(0)
        assert (guard.stats().failures, guard.stats().ignored) == (0, 1)

    service = Service()
    service.script = [lambda messages, context: service.hangs(messages, context) and ()]
    with service:
        asyncio.run(main(service.target))
