"""Which rule is tested in which world: `python -m tests.matrix`.

The tests say so themselves: the marker ``rule`` names the rules, and the parameter
``world`` (or ``async_world``) the world. A cell without a test has a reason here.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections import Counter

import pytest

from tests.mutants.__main__ import RULES
from tests.worlds import WORLDS

PURE = "a rule of the core, or of what has no world: tested once"
NO_WAIT = "in plain threads nothing is interrupted (D4)"
REASONS: dict[tuple[str, str], str] = {}


class Collector:
    """A pytest plugin that counts tests by rule and world."""

    def __init__(self) -> None:
        self.cells: Counter[tuple[str, str]] = Counter()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            params = getattr(item, "callspec", None)
            named = {} if params is None else params.params
            world = named.get("world") or named.get("async_world") or "once"
            for marker in item.iter_markers("rule"):
                for rule in marker.args:
                    self.cells[rule, world] += 1


def main() -> int:
    """Print the table; 0 if no rule is untested and every empty cell has its reason."""
    collector = Collector()
    with contextlib.redirect_stdout(io.StringIO()) as said:
        code = pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider"], plugins=[collector])
    if code:
        print(said.getvalue())
        return 1
    columns = (*WORLDS, "once")
    print("rule ", *(f"{name:>8}" for name in columns))
    bad, why = [], []
    for rule in RULES:
        counts = [collector.cells[rule, name] for name in columns]
        print(f"{rule:5}", *(f"{count or '-':>8}" for count in counts))
        if not any(counts):
            bad.append(f"{rule} has no test")
            continue
        for name in WORLDS:
            if not collector.cells[rule, name]:
                reason = REASONS.get((rule, name)) or REASONS.get((rule, "*"))
                (why if reason else bad).append(f"{rule} on {name}: {reason or 'no test, and no reason'}")
    print("\nEmpty cells:", *why, sep="\n  ")
    if bad:
        print("\nMissing:", *bad, sep="\n  ")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
