"""The story: the leaf is well, hangs, and is well again; and what the edge says meanwhile."""

from __future__ import annotations

import asyncio
import json

from examples.three_services.leaf import Mood
from examples.three_services.services import OK, Answer, Three, three_services


async def tell() -> None:
    """Play it, and print each answer of the edge."""
    async with three_services() as three:
        print(f"edge    HTTP  127.0.0.1:{three.edge.port}   FastAPI, at most 300 ms a request")
        print(f"middle  gRPC  127.0.0.1:{three.middle.port}   grpc.aio, whose client has a breaker")
        print(f"leaf    HTTP  127.0.0.1:{three.leaf.port}   Starlette, fails as it is told")
        await healthy(three)
        await busy(three)
        await hanging(three)
        await healing(three)
    print("\nAll three have ended.")


async def healthy(three: Three) -> None:
    """Show that the leaf knows the edge's limit."""
    say("The leaf is well. It knows what is left of the 300 ms, two processes away.")
    for _ in range(3):
        answer = await three.ask()
        show(answer, f"the leaf saw {json.loads(answer.body)['left'] * 1000:.0f} ms left")


async def busy(three: Three) -> None:
    """Show that three attempts are three, although two services repeat."""
    say("The leaf says 503. The middle tries three times, and tells the edge not to try again.")
    await three.let_leaf_be(Mood.BUSY)
    before = (await three.stats(three.leaf))["asked"]
    show(await three.ask())
    print(f"  the leaf was asked {(await three.stats(three.leaf))['asked'] - before} times")
    await three.let_leaf_be(Mood.WELL)
    show(await three.ask(), "it is well")


async def hanging(three: Three) -> None:
    """Show the limit, and the breaker."""
    say("The leaf hangs. After 300 ms the edge answers, and nobody works on in the dark.")
    await three.let_leaf_be(Mood.HANGS)
    for _ in range(5):
        show(await three.ask(), f"in flight in all three: {await three.in_flight()}")
    say(f"That was five times: the middle's breaker is {(await three.breaker())['state']}.")
    for _ in range(3):
        answer = await three.ask()
        show(answer, f"Retry-After: {answer.headers.get('retry-after')}")


async def healing(three: Three) -> None:
    """Show how the way is found back."""
    say("The leaf is well again. When its second is over, the breaker lets one request through.")
    await three.let_leaf_be(Mood.WELL)
    while True:
        answer = await three.ask()
        show(answer, f"the breaker is {(await three.breaker())['state']}")
        if answer.status == OK:
            break
        await asyncio.sleep(0.2)


def say(line: str) -> None:
    """A line of the story."""
    print(f"\n{line}", flush=True)


def show(answer: Answer, remark: str = "") -> None:
    """What the edge has answered."""
    print(f"  {answer.status} in {answer.seconds * 1000:4.0f} ms   {remark}".rstrip(), flush=True)
