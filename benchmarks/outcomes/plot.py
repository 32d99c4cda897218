"""Goodput and load over time, as SVG."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path

from benchmarks.outcomes.faults import BEGINS, Fault
from benchmarks.outcomes.verdicts import BUCKET

COLOURS = {
    "protect": "#1a7f5a", "oracle": "#9aa4ae", "tenacity": "#b35c1e", "interlock-cb": "#6b5bd2",
    "none": "#c0392b",
}  # fmt: skip
WIDTH, HEIGHT, LEFT = 860, 130, 60
STYLE = "text{font:12px system-ui,sans-serif;fill:#57606a}polyline{fill:none;stroke-width:1.5}"
Series = tuple[list[float], list[float]]


def draw(fault: Fault, shown: dict[str, Series], directory: Path) -> Path:
    """One picture of *fault*: above the good calls a second, below the calls sent."""
    parts = [f'<text x="10" y="16" font-weight="600">{escape(fault.name)}</text>']
    drawn = {name: series for name, series in shown.items() if name in COLOURS}
    for row, title in enumerate(("good calls a second", "calls sent a second")):
        top = 40 + row * (HEIGHT + 45)
        lines = {name: _smooth(series[row]) for name, series in drawn.items()}
        most = max((max(line) for line in lines.values()), default=1.0) or 1.0
        parts.append(f'<text x="{LEFT}" y="{top - 6}">{title}, up to {most:.0f}</text>')
        since, until = (LEFT + (WIDTH - LEFT) * at / fault.total for at in (BEGINS, fault.ends))
        parts.append(
            f'<rect x="{since:.0f}" y="{top}" width="{until - since:.0f}" height="{HEIGHT}" '
            'fill="#8a94a0" opacity="0.15"/>'
        )
        for name, line in lines.items():
            points = " ".join(
                f"{LEFT + (WIDTH - LEFT) * at * BUCKET / fault.total:.0f},"
                f"{top + HEIGHT * (1 - value / most):.1f}"
                for at, value in enumerate(line)
            )
            parts.append(f'<polyline points="{points}" stroke="{COLOURS[name]}"/>')
    y = 40 + 2 * (HEIGHT + 45) - 15
    for number, name in enumerate(drawn):
        parts.append(
            f'<text x="{LEFT + 120 * number}" y="{y}" style="fill:{COLOURS[name]}">{name}</text>'
        )
    size = f'width="{WIDTH}" height="{y + 15}" viewBox="0 0 {WIDTH} {y + 15}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size}><style>{STYLE}</style>'
    slug = re.sub("[^a-z0-9]+", "-", fault.name).strip("-")
    file = directory / f"outcomes-{slug}.svg"
    file.write_text("\n".join([head, *parts, "</svg>", ""]))
    return file


def _smooth(line: list[float]) -> list[float]:
    """The mean of a second: two half seconds."""
    return [(a + b) / 2 for a, b in zip(line, [*line[1:], line[-1]], strict=True)]
