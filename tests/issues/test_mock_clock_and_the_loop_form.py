"""Under a bare MockClock ``within`` of the loop form was counted on the machine's clock."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from resilient import DeadlineExceeded, retry


@pytest.mark.rule("T2", "R5", "R10")
def test_within_is_a_limit_of_trios_clock_in_the_loop_form_too() -> None:
    async def main() -> None:
        begun, tries = trio.current_time(), []
        with pytest.raises(ValueError):
            async for attempt in retry(on=ValueError, wait=6.0, within=10.0, attempts=5):
                with attempt:
                    tries.append(trio.current_time() - begun)
                    raise ValueError
        assert tries == [0, 6]

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.mark.rule("T2", "R5", "R10")
def test_an_attempt_of_the_loop_form_has_what_trios_clock_leaves_of_within() -> None:
    async def main() -> None:
        begun = trio.current_time()
        with pytest.raises((DeadlineExceeded, ValueError)):
            async for attempt in retry(on=ValueError, wait=6.0, within=10.0, attempts=2):
                with attempt:
                    if attempt.number == 2:
                        await trio.sleep_forever()
                    raise ValueError
        assert trio.current_time() - begun == 10

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
