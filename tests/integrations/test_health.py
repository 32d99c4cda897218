"""`health`, and the application that answers it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from resilient import BreakerState, breaker, bulkhead, cache, health, pipeline, retry
from resilient._policies.health import _plain
from resilient.integrations.asgi import HealthApp
from resilient.testing import fresh, virtual_time
from tests.integrations.test_asgi import Peer


def found(name: str, **given: Any) -> Any:
    """What is said of the policies of that name, and of the whole."""
    said = json.loads(json.dumps(health(**given), allow_nan=False))
    return [one for one in said["policies"] if one["name"] == name], said["status"]


@pytest.mark.rule("W50")
def test_every_named_policy_is_there_but_pipelines() -> None:
    kept: list[Any] = [
        breaker("health-test"), bulkhead(3, name="health-test"), cache(9, name="health-test"),
        pipeline(retry(on=OSError), name="health-test"), breaker(),
    ]  # fmt: skip
    mine, _ = found("health-test")
    assert [one["kind"] for one in mine] == ["breaker", "bulkhead", "cache"]
    assert [one["kind"] for one in mine] == [one.kind for one in kept[:3]]
    assert mine[0]["stats"]["state"] == "closed"
    assert mine[0]["stats"]["retry_after"] is None
    assert mine[1] == {
        "name": "health-test", "kind": "bulkhead", "status": "ok",
        "stats": {"name": "health-test", "limit": 3, "in_flight": 0, "queued": 0, "calls": 0,
                  "rejected": 0},
    }  # fmt: skip


@pytest.mark.rule("W50")
@pytest.mark.parametrize("state", BreakerState)
@pytest.mark.parametrize("critical", [(), {"health-test"}, ["other"], True])
def test_the_status_of_a_breaker(state: BreakerState, critical: Any) -> None:
    with virtual_time() as time:
        guard = breaker("health-test", initial=BreakerState.CLOSED, cooldown=1)
        if state in {BreakerState.OPEN, BreakerState.HALF_OPEN}:
            guard = breaker("health-test", initial=BreakerState.OPEN, cooldown=1, probes=2)
        if state is BreakerState.HALF_OPEN:
            time.advance(2)
            guard.admit().close()
        elif state is not BreakerState.OPEN:
            set_by = {"forced_open": "force_open", "disabled": "disable"}.get(state, state)
            getattr(guard, set_by, lambda: None)()
        assert guard.state is state
        mine, whole = found("health-test", critical=critical)
        named = critical is True or "health-test" in critical
        shut = state in {BreakerState.OPEN, BreakerState.FORCED_OPEN}
        status = "down" if shut and named else "ok"
        if status == "ok" and (shut or state is BreakerState.HALF_OPEN):
            status = "degraded"
        assert mine[-1]["status"] == status
        said = {one["status"] for one in health(critical=critical)["policies"]}
        assert whole == next(one for one in ("down", "degraded", "ok") if one in said)


@pytest.mark.rule("W50")
def test_a_keyed_breaker_counts_its_open_keys_and_is_never_down() -> None:
    with virtual_time():
        guard = breaker("health-keyed", key=lambda key: key)
        guard.of("a").force_open()
        guard.of("b").force_open()
        guard.of("c").admit().close()
        mine, _ = found("health-keyed", critical=True)
        assert (mine[0]["status"], mine[0]["open_keys"]) == ("degraded", 2)
        assert found("health-keyed")[0][0]["stats"]["state"] == "forced_open"


@pytest.mark.rule("W50", "F7")
@pytest.mark.parametrize("critical", ["payments", 5, None, [5], False])
def test_bad_critical(critical: Any) -> None:
    for asks in (health, HealthApp):
        with pytest.raises(TypeError, match="critical must be a collection of names"):
            asks(critical=critical)


@pytest.mark.rule("W51")
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_the_application(method: str) -> None:
    async def main() -> None:
        with fresh():
            guard = breaker("health-app")
            for shut, status in ((False, 200), (True, 503)):
                if shut:
                    guard.force_open()
                peer = await Peer(method=method).ask(HealthApp(critical={"health-app"}))
                if method == "POST":
                    assert (peer.status, peer.headers["allow"]) == (405, "GET, HEAD")
                    continue
                assert peer.status == status
                assert peer.headers["content-type"] == "application/json"
                assert peer.headers["cache-control"] == "no-store"
                if method == "HEAD":
                    assert peer.body == b""
                else:
                    assert json.loads(peer.body)["status"] == ("down" if shut else "ok")
            peer = await Peer().ask(HealthApp(critical=["health-app"], details=False))
            assert json.loads(peer.body) == {"status": "down"}

    asyncio.run(main())


@pytest.mark.rule("W50")
def test_what_is_no_json_is_none() -> None:
    again = retry("health-retry", on=OSError)
    assert _plain({"a": float("inf"), "b": float("nan"), BreakerState.OPEN: 1.5}) == {
        "a": None, "b": None, "open": 1.5,
    }  # fmt: skip
    assert found(again.name)[0][0]["stats"]["gave_up"]["attempts"] == 0


@pytest.mark.rule("W51")
def test_degraded_is_served() -> None:
    async def main() -> None:
        guard = breaker("health-degraded")
        guard.force_open()
        assert (await Peer().ask(HealthApp())).status == 200

    asyncio.run(main())


@pytest.mark.rule("W51")
def test_it_lives_with_its_server() -> None:
    async def main() -> None:
        sent: list[Any] = []
        told = iter(["lifespan.startup", "lifespan.shutdown"])

        async def receive() -> Any:
            return {"type": next(told)}

        async def send(message: Any) -> None:
            sent.append(message["type"])

        await HealthApp()({"type": "lifespan"}, receive, send)
        assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
        with pytest.raises(ValueError, match="HealthApp answers HTTP alone, and no 'websocket'"):
            await HealthApp()({"type": "websocket"}, receive, send)
        with pytest.raises(TypeError, match="details must be True or False"):
            HealthApp(details=1)  # type: ignore[arg-type]

    asyncio.run(main())
