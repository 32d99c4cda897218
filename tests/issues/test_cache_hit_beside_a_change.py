"""A hit moved its key to the end of an `OrderedDict` without a turn. If the key has an ``__eq__``
of its own, threads change inside that step: then another one that cleared the cache, or made room
in it, brought the interpreter down with a segmentation fault. And clearing, which asked each key
for its hash, met an `OrderedDict` that a hit had changed: a `RuntimeError`.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from typing import ClassVar

import pytest

from resilient import cache


@pytest.mark.rule("C6")
def test_a_cache_that_is_cleared_while_a_hit_compares_keys_crashes_nothing() -> None:
    script = """
        from resilient import cache

        compared = 0

        class Key:
            def __init__(self, n): self.n = n
            def __hash__(self): return 7
            def __eq__(self, other):
                global compared
                compared += 1
                if compared == at:  # another thread has its turn
                    policy.clear()
                return self.n == other.n

        for at in (1, 2, 3):
            policy = cache(60, max_size=5, key=Key)
            fn = policy(lambda n: n)
            for n in (0, 1):
                fn(n)
            compared = 0
            assert fn(0) == 0
            assert [fn(n) for n in range(10)] == list(range(10))
            assert policy.stats().size == 5
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


class Key:
    """A key whose hash is code, in which another thread may have its turn: the second time."""

    asked = 0
    meanwhile: ClassVar[list[Callable[[], object]]] = []

    def __init__(self, n: int) -> None:
        self.n = n

    def __hash__(self) -> int:
        Key.asked += 1
        if Key.asked == 2:
            for act in Key.meanwhile:
                act()
        return self.n

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and self.n == other.n


@pytest.mark.rule("C6")
def test_a_cache_is_cleared_while_others_hit() -> None:
    policy = cache(60, key=Key)

    @policy
    def fn(n: int) -> int:
        return n

    for n in range(3):
        fn(n)
    Key.asked = 0
    Key.meanwhile.append(lambda: fn(0))
    try:
        policy.clear()
    finally:
        Key.meanwhile.clear()
    assert policy.stats().size == 0
