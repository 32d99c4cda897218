from resilient import DeadlineExceeded, breaker, deadline, retry
from tests.worlds import World
import pytest

def test_w(world: World) -> None:
    async def scenario(w: World) -> None:
        tries = []
        def body():
            tries.append(w.now())
            if len(tries) < 3: raise ValueError
            return w.sleep(0.1)
        fn = retry(on=ValueError, wait=1.0 * w.unit)(breaker()(w.function(body)))
        await w.call(fn)
        assert tries == pytest.approx([0, 1, 2], abs=0.5)
    world.run(scenario)

def test_d(async_world):
    async def scenario(w):
        with pytest.raises(DeadlineExceeded):
            async with deadline(1.0 * w.unit):
                await w.sleep(5)
        assert 1 <= w.now() < 2.5
    async_world.run(scenario)
