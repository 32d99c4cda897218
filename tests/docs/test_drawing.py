"""The drawing of the breaker's states is that of the machine."""

from __future__ import annotations

import importlib.util
import random
import xml.etree.ElementTree as ET
from pathlib import Path
from types import ModuleType

from resilient import BreakerState, CircuitOpen, breaker, events
from resilient._core.breaker import BY_HAND, TRANSITIONS
from resilient.testing import record, virtual_time

DOCS = Path(__file__).parent.parent.parent / "docs"


def drawings() -> ModuleType:
    spec = importlib.util.spec_from_file_location("drawings", DOCS / "drawings.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_committed_drawing_is_what_the_table_gives() -> None:
    made = drawings()
    assert (DOCS / made.PLACE).read_text(encoding="utf-8") == made.draw(), (
        "run python docs/drawings.py"
    )


def test_the_drawing_has_the_arrows_of_the_table() -> None:
    paths = [path for path in ET.fromstring(drawings().draw()).iter() if path.tag.endswith("path")]
    arrows = {
        (p.get("data-from"), p.get("data-why"), p.get("data-to"))
        for p in paths
        if p.get("data-from")
    }
    by_hand = {(p.get("data-method"), p.get("data-to")) for p in paths if p.get("data-method")}
    assert arrows == {(old.name, why, new.name) for old, why, new in TRANSITIONS}
    assert by_hand == {(method, state.name) for method, state in BY_HAND}


def test_a_breaker_moves_along_the_arrows_and_along_all_of_them() -> None:
    """A long random walk: what the drawing lacks is never seen, and what it has is."""
    dice = random.Random(7)
    policy = breaker(
        "walk", consecutive_failures=3, failure_rate=0.6, slow=1.0, probes=2, window=5.0, minimum=4
    )
    with virtual_time() as time, record(events.StateChanged) as moves:
        for _ in range(4000):
            step = dice.random()
            if step < 0.02:
                getattr(policy, dice.choice(BY_HAND)[0])()
            elif step < 0.3:
                time.advance(dice.choice([0.1, 1.0, 4.0]))
            else:
                try:
                    call = policy.admit()
                except CircuitOpen:
                    continue
                time.advance(dice.choice([0.0, 0.0, 1.5]))
                call.close(dice.choice([None, None, ConnectionError(), ConnectionError()]))
    named = {method for method, _ in BY_HAND}
    seen = {(move.old, move.new) for move in moves if move.reason not in named}
    turned = {(move.reason, move.new) for move in moves if move.reason in named}
    assert seen == {(old, new) for old, _, new in TRANSITIONS}
    assert turned == set(BY_HAND)
    assert {state for move in moves for state in (move.old, move.new)} == set(BreakerState)
