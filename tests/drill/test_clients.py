"""The three clients, before a service that is only imagined, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import httpx2
import pytest

from resilient import CircuitOpen, DeadlineExceeded
from resilient.drill import clients, traffic
from resilient.drill.clients import Ask, Client, ServiceUnavailable, Trip
from resilient.drill.plan import CALL_HEADER, Tuning
from resilient.drill.records import Outcome
from resilient.drill.traffic import Journal, classify, make_call
from resilient.testing import VirtualTime

TUNING = Tuning.of(0.5, 20)


def service(*answers: float | Exception) -> Ask:
    """Answers in turn: after so many seconds, or with an error; the last one for ever."""
    left = list(answers)

    async def ask(trip: Trip) -> None:
        trip.sent += 1
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Exception):
            raise answer
        await asyncio.sleep(answer)

    return ask


def call(time: VirtualTime, client: Client) -> tuple[Trip, float, Exception | None]:
    """One call: what it sent, how long it took, and how it ended."""
    trip, began = Trip(1), time.now()

    async def once() -> None:
        await client.call(trip)

    try:
        time.run(once)
    except Exception as raised:
        return trip, time.now() - began, raised
    return trip, time.now() - began, None


def resilient(ask: Ask, *without: str) -> Client:
    return clients.resilient(ask, TUNING, frozenset(without))


@pytest.mark.parametrize(
    "make",
    [clients.bare, lambda ask: clients.usual(ask, 0.5), resilient],
    ids=["bare", "usual", "resilient"],
)
def test_each_makes_one_request_for_a_healthy_answer(
    make: Callable[[Ask], Client], virtual_time: VirtualTime
) -> None:
    trip, seconds, error = call(virtual_time, make(service(0.02)))
    assert (trip.sent, error) == (1, None)
    assert seconds == pytest.approx(0.02)


def test_the_bare_client_waits_as_long_as_it_takes(virtual_time: VirtualTime) -> None:
    trip, seconds, error = call(virtual_time, clients.bare(service(3.0)))
    assert (trip.sent, error) == (1, None)
    assert seconds == pytest.approx(3.0)


def test_the_usual_client_tries_three_times_and_overstays(virtual_time: VirtualTime) -> None:
    trip, seconds, error = call(virtual_time, clients.usual(service(3.0), 0.5))
    assert trip.sent == 3
    assert isinstance(error, TimeoutError)
    assert 1.5 <= seconds <= 3.5


def test_the_resilient_client_keeps_its_deadline(virtual_time: VirtualTime) -> None:
    trip, seconds, error = call(virtual_time, resilient(service(3.0)))
    assert trip.sent == 3
    assert isinstance(error, DeadlineExceeded)
    assert seconds <= 0.5 + 1e-6


def test_a_503_is_tried_again(virtual_time: VirtualTime) -> None:
    ask = service(ServiceUnavailable("HTTP 503"), 0.02)
    trip, _, error = call(virtual_time, resilient(ask))
    assert (trip.sent, error) == (2, None)


def test_its_breaker_opens_and_the_rest_is_not_sent(virtual_time: VirtualTime) -> None:
    client = resilient(service(httpx2.ConnectError("refused")))
    assert client.state == "closed"
    found = [call(virtual_time, client) for _ in range(8)]
    assert client.state == "open"
    assert sum(trip.sent for trip, _, _ in found) == 10
    trip, seconds, error = found[-1]
    assert (trip.sent, seconds) == (0, 0)
    assert isinstance(error, CircuitOpen)


def test_without_its_breaker_it_has_no_state_and_goes_on_sending(virtual_time: VirtualTime) -> None:
    client = resilient(service(httpx2.ConnectError("refused")), "breaker")
    found = [call(virtual_time, client) for _ in range(8)]
    assert client.state is None
    assert all(trip.sent for trip, _, _ in found)
    assert any("(taken out)" in line and "breaker" in line for line in client.settings)


def test_without_its_retry_a_503_is_the_answer(virtual_time: VirtualTime) -> None:
    trip, _, error = call(virtual_time, resilient(service(ServiceUnavailable("HTTP 503")), "retry"))
    assert trip.sent == 1
    assert isinstance(error, ServiceUnavailable)


def test_asking_names_the_call_and_reads_a_5xx_as_an_error() -> None:
    seen: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(503 if len(seen) > 1 else 200)

    async def story() -> None:
        async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer)) as http:
            ask = clients.asking(http, "http://127.0.0.1:9/x", {"host": "there"}, "there")
            trip = Trip(7)
            await ask(trip)
            with pytest.raises(ServiceUnavailable, match="HTTP 503"):
                await ask(trip)

    asyncio.run(story())
    assert [request.headers[CALL_HEADER] for request in seen] == ["7.1", "7.2"]
    assert {request.headers["host"] for request in seen} == {"there"}
    assert seen[0].extensions["sni_hostname"] == "there"


@pytest.mark.parametrize(
    ("error", "sent", "outcome"),
    [
        (CircuitOpen("drill"), 0, Outcome.REJECTED),
        (CircuitOpen("drill"), 1, Outcome.FAILED),
        (DeadlineExceeded("drill", 0.5, 0.5, False), 0, Outcome.FAILED),
        (httpx2.ReadTimeout(""), 1, Outcome.FAILED),
        (TimeoutError(), 1, Outcome.FAILED),
        (ServiceUnavailable(), 1, Outcome.FAILED),
        (RuntimeError(), 1, Outcome.STRANGE),
    ],
)
def test_errors_are_classified_by_name_and_by_what_was_sent(
    error: Exception, sent: int, outcome: Outcome
) -> None:
    assert classify(error, sent) is outcome


def run_one(time: VirtualTime, ask: Ask) -> Journal:
    """One call of the traffic, cancelled after ten seconds."""

    async def story() -> Journal:
        journal = Journal(asyncio.get_running_loop().time())
        task = asyncio.create_task(make_call(clients.bare(ask), Trip(1), 0.0, journal))
        await asyncio.wait([task], timeout=10)
        task.cancel()
        await asyncio.wait([task])
        return journal

    return time.run(story)


@pytest.mark.parametrize(
    ("answer", "outcome", "error"),
    [
        (0.02, Outcome.ANSWERED, None),
        (httpx2.ReadError(""), Outcome.FAILED, "ReadError"),
        (KeyError("x"), Outcome.STRANGE, "KeyError"),
        (99.0, Outcome.LOST, None),
    ],
)
def test_each_call_leaves_a_record(
    answer: float | Exception, outcome: Outcome, error: str | None, virtual_time: VirtualTime
) -> None:
    (record,) = run_one(virtual_time, service(answer)).calls
    assert (record.outcome, record.error, record.sent) == (outcome, error, 1)


def test_a_call_that_nobody_cancelled_but_ends_as_cancelled_is_lost(
    virtual_time: VirtualTime,
) -> None:
    async def ask(trip: Trip) -> None:
        raise asyncio.CancelledError

    (record,) = run_one(virtual_time, ask).calls
    assert record.outcome is Outcome.LOST


def test_a_call_that_does_not_even_end_when_cancelled_is_lost(virtual_time: VirtualTime) -> None:
    async def stubborn() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(1000)
        await asyncio.sleep(1000)

    async def story() -> Journal:
        journal = Journal(asyncio.get_running_loop().time())
        task = asyncio.create_task(stubborn())
        await traffic._drain({task: 0.5}, journal, patience=2)
        task.cancel()
        await asyncio.wait([task])
        return journal

    (record,) = virtual_time.run(story).calls
    assert record.outcome is Outcome.LOST
    assert record.seconds == pytest.approx(3.5)
