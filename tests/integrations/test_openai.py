"""The SDK of OpenAI over the transport, against a provider on loopback, in real time."""

from __future__ import annotations

import importlib
import json
import socket
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from resilient import (
    Breaker,
    Bulkhead,
    CircuitOpen,
    DeadlineExceeded,
    RateLimit,
    RateLimited,
    breaker,
    bulkhead,
    deadline,
    fallback,
    pipeline,
    rate_limit,
    retry,
)
from resilient.events import RetryScheduled
from resilient.integrations.http import IDEMPOTENT, options
from resilient.testing import record
from tests.integrations.servers import Server, Writer, say, send
from tests.integrations.test_httpx_real import Real

openai = pytest.importorskip("openai", reason="openai is not installed")
pytestmark = pytest.mark.real_clock

BUILT_ON = openai.DefaultHttpxClient.__mro__[1].__module__
"""Version 2 of the SDK is built on httpx. Version 3 is built on httpx2, and takes both."""

ANY = IDEMPOTENT | {"POST"}


class Provider(Server):
    """What it does is the name of the model, and ``asked_of`` has those names."""

    def __init__(self) -> None:
        super().__init__()
        self.asked_of: list[str] = []

    async def _answer(self, path: str, writer: Writer) -> bool:
        assert path == "/v1/chat/completions"
        model = json.loads(self.body)["model"]
        self.asked_of.append(model)
        if model == "busy" or (model == "busy once" and len(self.asked_of) == 1):
            hints = ("retry-after: 20", "retry-after-ms: 5")
            return await say(writer, "429 Busy", b"{}", *hints)
        head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked"
        await send(writer, f"{head}\r\n\r\n".encode())
        for word in ("Hello, ", "world"):
            await event(writer, json.dumps({"choices": [{"index": 0, "delta": {"content": word}}]}))
            if model == "breaks":
                return False
            if model == "stalls":
                return await self._hangs(writer)
        await event(writer, "[DONE]")
        await send(writer, b"0\r\n\r\n")
        return True


async def event(writer: Writer, data: str) -> None:
    """One server-sent event, as one chunk."""
    text = f"data: {data}\n\n"
    await send(writer, f"{len(text):x}\r\n{text}\r\n".encode())


class Talker:
    """One client of the SDK, sync or async, over a transport with *policy*."""

    def __init__(self, world: Real, lib: ModuleType, url: str, **settings: Any) -> None:
        self.is_async, timeout = world.is_async, settings.pop("timeout", 10)
        ours = importlib.import_module(f"resilient.integrations.{lib.__name__}")
        transport = ours.ResilientTransport(**settings)
        sdk, http = (
            (openai.AsyncOpenAI, lib.AsyncClient) if self.is_async else (openai.OpenAI, lib.Client)
        )
        self.client: Any = sdk(
            api_key="none",
            base_url=f"{url}/v1",
            max_retries=0,
            timeout=timeout,
            http_client=http(transport=transport),
        )

    async def stream(self, model: str, at_most: int = 10) -> Any:
        """The stream of a completion, from which nothing is read yet."""
        made = self.client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": "Greet me."}],
            max_completion_tokens=at_most,
            stream=True,
        )
        return await made if self.is_async else made

    async def ask(self, model: str, at_most: int = 10) -> str:
        """The whole answer."""
        stream = await self.stream(model, at_most)
        chunks = [chunk async for chunk in stream] if self.is_async else list(stream)
        return "".join(chunk.choices[0].delta.content for chunk in chunks)

    async def close(self) -> None:
        await self.client.close() if self.is_async else self.client.close()


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as one:
        yield one


@pytest.fixture(params=["asyncio", "threads"])  # on trio its streams are not closed properly
def world(request: pytest.FixtureRequest) -> Real:
    return Real(request.param)


@pytest.fixture(params=["httpx2", "httpx"] if BUILT_ON == "httpx2" else ["httpx"])
def lib(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(request.param)


@pytest.fixture
def transient(lib: ModuleType) -> Any:
    return importlib.import_module(f"resilient.integrations.{lib.__name__}").TRANSIENT


@pytest.fixture
def broken(lib: ModuleType) -> tuple[type[Exception], ...]:
    """What breaks a stream. Version 2 of the SDK lets it through as it is."""
    return (openai.APIConnectionError, lib.TransportError)


def counts(guard: Breaker, places: Bulkhead) -> tuple[int, int, int]:
    """Failures of *guard*, and the calls that are open in both."""
    stats = guard.stats()
    return stats.failures, stats.in_flight, places.stats().in_flight


@pytest.mark.rule("W5", "W7", "W12")
def test_a_busy_provider_says_when_to_come_back(
    world: Real, lib: ModuleType, provider: Provider, transient: Any
) -> None:
    async def scenario() -> None:
        policy = retry(on=transient, wait=0, budget=None)
        talker = Talker(world, lib, provider.url, policy=policy, idempotent=ANY)
        with record(RetryScheduled) as waits:
            assert await talker.ask("busy once") == "Hello, world"
        assert [one.wait for one in waits] == [0.005]
        assert [head["x-request-attempt"] for head in provider.heads] == ["1", "2"]
        await talker.close()

    world.run(scenario)


@pytest.mark.rule("W3", "W5", "W15")
@pytest.mark.parametrize(
    ("idempotent", "said", "attempts"),
    [(ANY, None, 3), (IDEMPOTENT, None, 1), (IDEMPOTENT, True, 3), (ANY, False, 1)],
)
def test_the_attempts_are_those_of_our_retry_alone(  # noqa: PLR0917
    world: Real, lib: ModuleType, provider: Provider, transient: Any,
    idempotent: frozenset[str], said: bool | None, attempts: int,
) -> None:  # fmt: skip
    async def scenario() -> None:
        policy = retry(on=transient, wait=0, budget=None)
        talker = Talker(world, lib, provider.url, policy=policy, idempotent=idempotent)
        with pytest.raises(openai.RateLimitError) as raised, options(idempotent=said):
            await talker.ask("busy")
        assert raised.value.response.headers["retry-after-ms"] == "5"
        assert provider.asked_of == ["busy"] * attempts
        assert {head["x-stainless-retry-count"] for head in provider.heads} == {"0"}
        await talker.close()

    world.run(scenario)


@pytest.mark.rule("W10", "W11")
@pytest.mark.parametrize(("model", "timeout"), [("stalls", 0.1), ("breaks", 10)])
def test_a_stream_that_breaks_is_a_failure_and_gives_its_place_back(  # noqa: PLR0917
    world: Real, lib: ModuleType, provider: Provider, transient: Any,
    broken: tuple[type[Exception], ...], model: str, timeout: float,
) -> None:  # fmt: skip
    async def scenario() -> None:
        guard, places = breaker(on=transient), bulkhead(1)
        policy = pipeline(retry(on=transient, wait=0, budget=None), guard, places)
        talker = Talker(world, lib, provider.url, policy=policy, idempotent=ANY, timeout=timeout)
        with pytest.raises(broken) as raised:
            await talker.ask(model)
        error = raised.value.__cause__ if BUILT_ON == "httpx2" else raised.value
        assert isinstance(error, lib.ReadTimeout if timeout < 1 else lib.RemoteProtocolError)
        assert provider.asked_of == [model]  # part of it has been seen, so it is not repeated
        assert counts(guard, places) == (1, 0, 0)
        assert await talker.ask("good") == "Hello, world"
        await talker.close()

    world.run(scenario)


@pytest.mark.rule("W10", "W11", "B9")
def test_the_deadline_ends_a_stream_that_stalls(
    world: Real, lib: ModuleType, provider: Provider, transient: Any,
    broken: tuple[type[Exception], ...],
) -> None:  # fmt: skip
    async def scenario() -> None:
        guard, places = breaker(on=transient), bulkhead(1)
        talker = Talker(world, lib, provider.url, policy=pipeline(guard, places))
        await talker.ask("good")  # it takes its time to make its first connection
        with pytest.raises(DeadlineExceeded if world.is_async else broken):
            with deadline(0.25):
                await talker.ask("stalls")
        assert counts(guard, places) == (1, 0, 0)
        await talker.close()

    world.run(scenario)


@pytest.mark.rule("W10")
def test_a_stream_holds_its_place_until_it_is_read_or_closed(
    world: Real, lib: ModuleType, provider: Provider, transient: Any
) -> None:
    async def scenario() -> None:
        guard, places = breaker(on=transient), bulkhead(1)
        talker = Talker(world, lib, provider.url, policy=pipeline(guard, places))
        stream = await talker.stream("good")
        assert counts(guard, places) == (0, 1, 1)
        with pytest.raises(openai.APIConnectionError) as raised:
            await talker.ask("good")
        assert provider.asked_of == ["good"]
        assert type(raised.value.__cause__).__name__ == "BulkheadFull"
        await stream.close() if world.is_async else stream.close()
        assert counts(guard, places) == (0, 0, 0)
        assert await talker.ask("good") == "Hello, world"
        assert guard.stats().successes == 2
        await talker.close()

    world.run(scenario)


@pytest.mark.rule("C1", "W4", "W13")
def test_another_provider_answers_when_the_first_is_down(
    world: Real, lib: ModuleType, provider: Provider, transient: Any
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"

        async def scenario() -> None:
            guard = breaker(on=transient, consecutive_failures=3)
            policy = pipeline(retry(on=transient, wait=0, budget=None), guard)
            first = Talker(world, lib, url, policy=policy)
            second = Talker(world, lib, provider.url, policy=None)

            @fallback(instead=second.ask, on=openai.APIConnectionError)
            async def ask(model: str) -> str:
                return await first.ask(model)

            assert await ask("good") == "Hello, world"
            assert guard.stats().failures == 3  # nothing was sent, so a POST is repeated too
            assert await ask("good") == "Hello, world"
            assert provider.asked_of == ["good"] * 2
            with pytest.raises(openai.APIConnectionError) as raised:
                await first.ask("good")
            assert isinstance(raised.value.__cause__, CircuitOpen)
            assert guard.stats().failures == 3
            await first.close()
            await second.close()

        world.run(scenario)


@pytest.mark.rule("L4", "L5", "W13")
def test_each_attempt_takes_the_tokens_that_its_request_asks_for(
    world: Real, lib: ModuleType, provider: Provider, transient: Any
) -> None:
    async def scenario() -> None:
        tokens: RateLimit = rate_limit(
            1,
            per=3600,
            burst=100,
            cost=lambda request: json.loads(request.content)["max_completion_tokens"],
        )
        policy = pipeline(retry(on=transient, wait=0, budget=None), tokens)
        talker = Talker(world, lib, provider.url, policy=policy, idempotent=ANY)
        assert await talker.ask("busy once", at_most=30) == "Hello, world"  # 60, in two attempts
        assert await talker.ask("good", at_most=30) == "Hello, world"
        with pytest.raises(openai.APIConnectionError) as raised:
            await talker.ask("good", at_most=11)
        assert isinstance(raised.value.__cause__, RateLimited)
        assert provider.asked_of == ["busy once", "busy once", "good"]
        assert await talker.ask("good", at_most=10) == "Hello, world"
        with pytest.raises((ValueError, openai.APIConnectionError)) as raised:
            await talker.ask("good", at_most=101)
        error = raised.value.__cause__ or raised.value  # older versions of the SDK wrap it
        assert str(error) == "cost must be at most the burst, 100, not 101"
        await talker.close()

    world.run(scenario)
