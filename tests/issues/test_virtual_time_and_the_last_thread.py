"""What a thread said just before it ended was overheard: virtual time "stood still".

So `VirtualTime.run` failed now and then when it closed: asyncio shuts its executor down from
a thread.
"""

from __future__ import annotations

import asyncio
import threading

import pytest

from resilient.testing import virtual_time


@pytest.mark.rule("T2")
def test_what_the_last_thread_said_before_it_ended_is_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> int:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[int] = loop.create_future()

        def spoken_and_gone() -> int:
            if not answer.done():
                loop.call_soon_threadsafe(answer.set_result, 5)
            return 1

        monkeypatch.setattr(threading, "active_count", spoken_and_gone)
        return await answer

    with virtual_time() as time:
        assert time.run(main) == 5
