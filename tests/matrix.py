"""Which rule is tested in which world, and which rule of the wire with which library:
`python -m tests.matrix`.

The tests say so themselves: the marker ``rule`` names the rules, a parameter (mostly ``world``) or
the file's name the world, and the file's name the library. A cell without a test has a reason here.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections import Counter

import pytest

from tests.rules import RULES
from tests.worlds import WORLDS

ONCE = "about building, naming or reading the source: there is no world in it"
UNCANCELLED = "nothing cancels a plain thread (D4)"
LOOPLESS = "about timers of an event loop, and a plain thread has none"
ASSERTS = "ignore::pytest.PytestAssertRewriteWarning"
"""Modules imported above are not rewritten, and filterwarnings would make that an error."""
HEDGED = "a plain thread has nothing beside it (H5)"
LOOPED = "does not depend on the loop; uvloop, in real time, plays the tests marked loop"
ASGI = "an ASGI application is async"
BOTH_SERVERS = "its tests run on servers of gRPC, a sync and an async one"
NO_TRIO = "gRPC has asyncio and threads"
NO_LOOP = [
    "F1", "F6", "F13", "F14", "E1", "B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B10", "B11",
    "B12", "B13", "R1", "R3", "R4", "R5", "R6", "R7", "R8", "R12", "R13", "L8", "C1", "C2", "C5",
    "C7", "M3",
]  # fmt: skip
REASONS: dict[tuple[str, str], str] = {
    ("F5", "*"): ONCE,
    ("F7", "*"): ONCE,
    ("F15", "*"): ONCE,
    ("F17", "*"): ONCE,
    ("T1", "*"): ONCE,
    ("R9", "threads"): UNCANCELLED,
    ("S3", "threads"): UNCANCELLED,
    ("L6", "threads"): UNCANCELLED,
    ("D8", "threads"): LOOPLESS,
    **{(f"H{number}", "threads"): HEDGED for number in range(1, 5)},
    ("T2", "asyncio"): "its tests run their own asyncio loop; see the last column",
    ("T2", "threads"): "its tests begin in a plain thread; see the last column",
    **dict.fromkeys(((rule, "uvloop") for rule in NO_LOOP), LOOPED),
    ("T2", "uvloop"): "uvloop has real time only",
    ("T5", "uvloop"): "uvloop has real time only",
    **dict.fromkeys((("L9", "*"), ("L10", "*")), "held by `_core`, which knows no world"),
    **dict.fromkeys(
        (("B14", "uvloop"), ("B15", "uvloop"), ("C9", "uvloop"), ("F16", "uvloop")), LOOPED
    ),
    ("B14", "threads"): UNCANCELLED,
    **dict.fromkeys(((f"W{number}", "uvloop") for number in range(1, 16)), LOOPED),
    **dict.fromkeys(((f"W{number}", "uvloop") for number in range(20, 30)), LOOPED),
    **dict.fromkeys(((f"W{number}", "threads") for number in range(20, 30)), ASGI),
    ("W30", "*"): "its tests are servers: a WSGI application runs in the thread that calls it",
    ("W31", "*"): "its tests run on a server, with the loop that it has",
    ("W50", "*"): ONCE,
    ("W51", "*"): "its tests run on a server, with the loop that it has",
    **dict.fromkeys(((f"W{number}", "uvloop") for number in (41, 42)), LOOPED),
    **dict.fromkeys(((f"W{number}", "trio") for number in (41, 42)), NO_TRIO),
    **dict.fromkeys(((f"W{number}", "*") for number in (40, 43, 52)), BOTH_SERVERS),
    ("W14", "threads"): UNCANCELLED,
    ("P1", "uvloop"): LOOPED,
    ("P1", "threads"): "its test has threads of its own; see the last column",
    ("T4", "*"): "its tests are runs of pytest with the plugins of others, on their loops",
}


CLIENTS, SERVERS = ("httpx", "aiohttp", "requests", "grpc"), ("asgi", "wsgi", "grpc")
"""httpx stands for httpx2 too: each of its tests runs with both."""
LIBRARIES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys((f"W{number}" for number in range(1, 16)), CLIENTS),
    **dict.fromkeys((f"W{number}" for number in range(20, 30)), SERVERS),
}
"""With which libraries a rule is to be tested; each other has one library."""
THREAD = "nothing tells a thread that its caller has left, or ends it"
NO_PLACE = {
    ("W2", "grpc"): "the key is a method, and nothing is redirected",
    ("W6", "grpc"): "a message is held, and a stream is sent once: W41",
    ("W24", "wsgi"): "it has no limit of its own",
    ("W26", "wsgi"): THREAD,
    ("W27", "wsgi"): "nothing runs after an answer but its close",
    ("W28", "wsgi"): "WSGI has no WebSockets",
    ("W27", "grpc"): "nothing runs after a status",
    ("W28", "grpc"): "gRPC has no WebSockets",
}


def library_of(item: pytest.Item) -> str:
    """The library of a test of the wire."""
    return item.path.stem.removeprefix("test_").partition("_")[0]


def world_of(item: pytest.Item) -> str:
    """The world of a test: a parameter's value, or the end of its file's name."""
    spec = getattr(item, "callspec", None)
    values = (
        [] if spec is None else [value for value in spec.params.values() if isinstance(value, str)]
    )
    file = item.path.stem.rpartition("_")[2]
    return next((world for world in WORLDS if world in values or world == file), "once")


class Collector:
    """A pytest plugin that counts tests by rule and world."""

    def __init__(self) -> None:
        self.cells: Counter[tuple[str, str]] = Counter()
        self.by_library: Counter[tuple[str, str]] = Counter()

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            world = world_of(item)
            for marker in item.iter_markers("rule"):
                for rule in marker.args:
                    self.cells[rule, world] += 1
                    self.by_library[rule, library_of(item)] += 1


def main() -> int:
    """Print the table; 0 if no rule is untested and every empty cell has its reason."""
    collector = Collector()
    with contextlib.redirect_stdout(io.StringIO()) as said:
        code = pytest.main(
            ["--collect-only", "-q", "-p", "no:cacheprovider", "-W", ASSERTS], plugins=[collector]
        )
    if code:
        print(said.getvalue())
        return 1
    columns = (*WORLDS, "once")
    print("rule ", *(f"{name:>8}" for name in columns))
    bad: list[str] = []
    why: list[str] = []
    for rule in RULES:
        counts = [collector.cells[rule, name] for name in columns]
        print(f"{rule:5}", *(f"{count or '-':>8}" for count in counts))
        if not any(counts):
            bad.append(f"{rule} has no test")
            continue
        for name in WORLDS:
            if not collector.cells[rule, name]:
                reason = REASONS.get((rule, name)) or REASONS.get((rule, "*"))
                (why if reason else bad).append(
                    f"{rule} on {name}: {reason or 'no test, and no reason'}"
                )
    print_libraries(collector, why, bad)
    print("\nEmpty cells:", *why, sep="\n  ")
    if bad:
        print("\nMissing:", *bad, sep="\n  ")
    return int(bool(bad))


def print_libraries(collector: Collector, why: list[str], bad: list[str]) -> None:
    """Print the rules of the wire by library."""
    columns = tuple(dict.fromkeys(CLIENTS + SERVERS))
    print("\nrule ", *(f"{name:>8}" for name in columns))
    for rule, libraries in LIBRARIES.items():
        counts = [collector.by_library[rule, name] for name in columns]
        print(f"{rule:5}", *(f"{count or '-':>8}" for count in counts))
        for name in libraries:
            if not collector.by_library[rule, name]:
                reason = NO_PLACE.get((rule, name))
                (why if reason else bad).append(
                    f"{rule} with {name}: {reason or 'no test, and no reason'}"
                )


if __name__ == "__main__":
    sys.exit(main())
