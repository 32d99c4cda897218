"""Health checks by gRPC, on a sync and an async server."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Event
from typing import Any

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub, add_HealthServicer_to_server

from resilient import Breaker, breaker, bulkhead
from resilient.integrations.grpc import AioHealthServicer, HealthServicer

pytestmark = pytest.mark.real_clock  # gRPC has its own

SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING


@pytest.fixture
def shop() -> Breaker:
    return breaker("shop")


def asks(service: str) -> Any:
    return HealthCheckRequest(service=service)


@pytest.mark.rule("W52")
def test_check_and_watch_on_a_sync_server(shop: Breaker) -> None:
    pool = ThreadPoolExecutor(4)
    server = grpc.server(pool)
    add_HealthServicer_to_server(HealthServicer(critical={"shop"}, every=0.005), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    places = bulkhead(1, name="places")
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = HealthStub(channel)
            assert stub.Check(asks("")).status == SERVING
            watch = stub.Watch(asks("shop"))
            nobody = stub.Watch(asks("nobody"))
            assert next(watch).status == SERVING
            assert next(nobody).status == HealthCheckResponse.SERVICE_UNKNOWN
            Event().wait(0.05)  # ten looks that see no change
            shop.force_open()
            assert next(watch).status == NOT_SERVING
            assert [stub.Check(asks(one)).status for one in ("", "shop", "places")] == [
                NOT_SERVING, NOT_SERVING, SERVING
            ]  # fmt: skip
            shop.reset()
            assert next(watch).status == SERVING
            with pytest.raises(grpc.RpcError) as caught:
                stub.Check(asks("nobody"))
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND
            watch.cancel()
            nobody.cancel()
        del places
    finally:
        assert server.stop(None).wait(10)
        pool.shutdown()


@pytest.mark.rule("W52")
def test_check_and_watch_on_an_async_server(shop: Breaker) -> None:
    async def main() -> None:
        server = grpc.aio.server()
        add_HealthServicer_to_server(AioHealthServicer(critical=True, every=0.005), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                stub = HealthStub(channel)
                watch = stub.Watch(asks("shop"))
                assert (await watch.read()).status == SERVING
                await asyncio.sleep(0.05)  # ten looks that see no change
                shop.force_open()
                assert (await watch.read()).status == NOT_SERVING
                assert (await stub.Check(asks(""))).status == NOT_SERVING
                shop.reset()
                assert (await watch.read()).status == SERVING
                with pytest.raises(grpc.RpcError) as caught:
                    await stub.Check(asks("nobody"))
                assert caught.value.code() is grpc.StatusCode.NOT_FOUND
                watch.cancel()
        finally:
            with suppress(asyncio.CancelledError):
                await server.stop(None)

    asyncio.run(main())


@pytest.mark.rule("W52", "F7")
@pytest.mark.parametrize("make", [HealthServicer, AioHealthServicer])
def test_bad_settings(make: Any) -> None:
    for critical in ("shop", 5, [1]):
        with pytest.raises(TypeError, match="critical must be a collection of names"):
            make(critical=critical)
    with pytest.raises(ValueError, match="every must be"):
        make(every=0)
