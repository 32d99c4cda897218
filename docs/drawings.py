# ruff: noqa: INP001  # the docs are no package
"""The drawing of the breaker's states, made from its table of transitions.

`python docs/drawings.py` writes it, and so does every build of the docs; a test compares
what is committed with what the table says.
"""

from __future__ import annotations

import math
from html import escape
from pathlib import Path
from typing import Final

from resilient import BreakerState
from resilient._core.breaker import BY_HAND, TRANSITIONS

PLACE: Final = "explanation/breaker-states.svg"
WIDTH, HEIGHT = 780, 500
BOX_WIDTH, BOX_HEIGHT = 150, 50
BEND: Final = 34
AT: Final = {
    BreakerState.CLOSED: (130.0, 80.0),
    BreakerState.OPEN: (650.0, 80.0),
    BreakerState.HALF_OPEN: (390.0, 240.0),
}
"""Where the states stand that calls lead to; a new one must be given a place here."""

STYLE: Final = """
  text { font: 14px system-ui, sans-serif; fill: #1b2733; }
  text { text-anchor: middle; dominant-baseline: middle; }
  .state { font-weight: 600; font-family: ui-monospace, monospace; }
  .why { font-size: 13px; fill: #44525f; }
  .halo { font-size: 13px; fill: #ffffff; stroke: #ffffff; stroke-width: 6; }
  .head { font-size: 13px; fill: #44525f; }
  rect.state { fill: #eef4fa; stroke: #33628f; stroke-width: 1.5; }
  rect.hand { fill: #f6f2ea; stroke: #8a6d3b; stroke-width: 1.5; stroke-dasharray: 5 3; }
  path.arrow { fill: none; stroke: #33628f; stroke-width: 1.5; marker-end: url(#tip); }
  path.hand { stroke: #8a6d3b; marker-end: url(#hand-tip); }
"""


def draw() -> str:
    """The picture, as SVG."""
    pairs = {(old, new) for old, _, new in TRANSITIONS}
    parts = [_arrow(old, why, new, bent=(new, old) in pairs) for old, why, new in TRANSITIONS]
    parts += [_box(state, *place) for state, place in AT.items()]
    parts.append(f'<line x1="20" x2="{WIDTH - 20}" y1="322" y2="322" stroke="#c9d2da"/>')
    parts.append(f'<text class="head" x="{WIDTH / 2:g}" y="344">by hand, from any state</text>')
    for column, (method, state) in enumerate(BY_HAND):
        parts += _by_hand(method, state, (column + 0.5) * WIDTH / len(BY_HAND))
    body = "\n".join(parts)
    said = "; ".join(f"{old.name} to {new.name}: {why}" for old, why, new in TRANSITIONS)
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">
<title>The states of a breaker</title>
<desc>{escape(said)}</desc>
<style>{STYLE}</style>
<defs>
{_tip("tip", "#33628f")}
{_tip("hand-tip", "#8a6d3b")}
</defs>
<rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="#ffffff"/>
{body}
</svg>
"""


def write(docs: Path) -> None:
    """Put the picture where the page looks for it, if it is not there as it should be."""
    file = docs / PLACE
    picture = draw()
    if not file.exists() or file.read_text(encoding="utf-8") != picture:
        file.write_text(picture, encoding="utf-8")


def _box(state: BreakerState, x: float, y: float, look: str = "state") -> str:
    return (
        f'<rect class="{look}" x="{x - BOX_WIDTH / 2:g}" y="{y - BOX_HEIGHT / 2:g}" '
        f'width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="8"/>'
        f'<text class="state" x="{x:g}" y="{y:g}">{state.name}</text>'
    )


def _arrow(old: BreakerState, why: str, new: BreakerState, *, bent: bool) -> str:
    """A line from box to box; of two between the same boxes, each bends to its own side."""
    (x1, y1), (x2, y2) = AT[old], AT[new]
    length = math.hypot(x2 - x1, y2 - y1)
    side = BEND if bent else 0.0
    nx, ny = (y2 - y1) / length * side, -(x2 - x1) / length * side
    middle = ((x1 + x2) / 2 + nx, (y1 + y2) / 2 + ny)
    control = ((x1 + x2) / 2 + 2 * nx, (y1 + y2) / 2 + 2 * ny)
    (bx, by), (ex, ey) = _edge((x1, y1), control), _edge((x2, y2), control)
    return (
        f'<path class="arrow" data-from="{old.name}" data-why="{escape(why)}" data-to="{new.name}" '
        f'd="M {bx:.1f} {by:.1f} Q {control[0]:.1f} {control[1]:.1f} {ex:.1f} {ey:.1f}"/>'
        + _words(why, *middle)
    )


def _by_hand(method: str, state: BreakerState, x: float) -> list[str]:
    line = f'd="M {x:g} 362 L {x:g} 416"'
    return [
        f'<path class="arrow hand" data-method="{method}" data-to="{state.name}" {line}/>',
        _words(f"{method}()", x, 386),
        _box(state, x, 444, "hand"),
    ]


def _words(said: str, x: float, y: float) -> str:
    """Words on a line, with white around them."""
    place = f'x="{x:.1f}" y="{y:.1f}">{escape(said)}</text>'
    return f'<text class="halo" {place}<text class="why" {place}'


def _edge(center: tuple[float, float], towards: tuple[float, float]) -> tuple[float, float]:
    """Where the line from a box's centre leaves the box, and a little further."""
    dx, dy = towards[0] - center[0], towards[1] - center[1]
    scale = min(
        (BOX_WIDTH / 2 + 3) / abs(dx) if dx else math.inf,
        (BOX_HEIGHT / 2 + 3) / abs(dy) if dy else math.inf,
    )
    return center[0] + dx * scale, center[1] + dy * scale


def _tip(name: str, colour: str) -> str:
    return (
        f'<marker id="{name}" viewBox="0 0 10 10" refX="9" refY="5" '
        f'markerWidth="8" markerHeight="8" orient="auto">'
        f'<path d="M 0 0 L 10 5 L 0 10 z" fill="{colour}"/></marker>'
    )


if __name__ == "__main__":
    write(Path(__file__).parent)
