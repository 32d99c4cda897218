"""The charts for the documentation, as SVG by hand: a few bars and lines need no library."""

from __future__ import annotations

import math
from html import escape

from benchmarks.growth import GROWTHS
from benchmarks.report import Report
from benchmarks.timing import FLOOR, OURS, Figure

SHOWN = (
    ("breaker closed", "async"),
    ("breaker closed", "sync"),
    ("breaker open, rejected", "async"),
    ("breaker open, rejected", "sync"),
    ("retry, first time ok", "async"),
    ("retry, first time ok", "sync"),
    ("timeout or deadline that does not fire", "async"),
    ("single-flight, 1000 waiters, per waiter", "async"),
    ("bulkhead free", "async"),
    ("rate limit, permitted", "async"),
    ("cache hit", "sync"),
    ("cache hit", "async"),
    ("retry + breaker + timeout", "async"),
    ("fallback + retry + breaker + bulkhead + timeout", "async"),
)
WIDTH, LABEL, ROW, HEAD = 900, 320, 18, 34
OUR_COLOUR, OTHER, BY_HAND = "#1a7f5a", "#8a94a0", "#c9ced4"
STYLE = "text{font:12px system-ui,sans-serif;fill:#57606a}text.head{font-weight:600;fill:#57606a}"


def bars(report: Report) -> str:
    """Nanoseconds a call, the fastest first; on a logarithmic scale, since they differ a lot."""
    parts: list[str] = []
    y = 20.0
    for case, world in SHOWN:
        outcome = report.outcome(case, world)
        if outcome is None:
            continue
        parts.append(_text(10, y + 8, f"{case} ({world}), ns a call, logarithmic", "head"))
        y += 20
        figures = sorted(outcome.figures, key=lambda figure: figure.least)
        low = math.log10(figures[0].least) - 0.3
        high = math.log10(figures[-1].least)
        for figure in figures:
            share = (math.log10(figure.least) - low) / max(high - low, 0.3)
            parts.append(_bar(figure, y, share))
            y += ROW
        y += HEAD - 20
    return _svg(WIDTH, y, parts)


def _bar(figure: Figure, y: float, share: float) -> str:
    ours = figure.library.startswith(OURS)
    colour = OUR_COLOUR if ours else BY_HAND if figure.by_hand else OTHER
    length = max(2.0, share * (WIDTH - LABEL - 90))
    return (
        _text(LABEL - 8, y + 11, figure.library, anchor="end")
        + f'<rect x="{LABEL}" y="{y:.0f}" width="{length:.1f}" height="13" fill="{colour}"/>'
        + _text(LABEL + length + 6, y + 11, f"{figure.least:,.0f}")
    )


def lines(report: Report) -> str:
    """How the cost of a call grows; each against its first size, on logarithmic scales."""
    parts: list[str] = []
    column, row = 0, 0
    width, height = 290, 200
    for growth in GROWTHS:
        cases = [growth.case(size) for size in growth.sizes]
        outcomes = [report.outcome(case.name, case.world) for case in cases]
        if not all(outcomes):
            continue
        left, top = 10 + column * width, 10 + row * height
        parts.append(_text(left, top + 12, growth.name, "head"))
        names = dict.fromkeys(figure.library for one in outcomes if one for figure in one.figures)
        for number, name in enumerate(names):
            figures = [one.figure(name) if one else None for one in outcomes]
            values = [figure.least for figure in figures if figure is not None]
            colour = OUR_COLOUR if name == OURS else OTHER if name == FLOOR else BY_HAND
            points = " ".join(
                f"{left + 20 + 220 * at / max(1, len(values) - 1):.0f},"
                f"{top + 120 - 35 * math.log10(value / values[0]):.0f}"
                for at, value in enumerate(values)
            )
            parts.append(
                f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
            )
            parts.append(
                _text(left + 20, top + 30 + 13 * number, f"{name}: {values[-1] / values[0]:.2f} x")
                .replace("<text", f'<text style="fill:{colour}"')
            )  # fmt: skip
        parts.append(_text(left + 20, top + 160, f"{growth.sizes[0]:,}"))
        parts.append(
            _text(left + 240, top + 160, f"{growth.sizes[-1]:,} {growth.of}", anchor="end")
        )
        column = (column + 1) % 3
        row += column == 0
    return _svg(WIDTH, 20 + (row + (column > 0)) * height, parts)


def _text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    name = f' class="{kind}"' if kind else ""
    return f'<text{name} x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}">{escape(words)}</text>'


def _svg(width: float, height: float, parts: list[str]) -> str:
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size}><style>{STYLE}</style>'
    return "\n".join([head, *parts, "</svg>", ""])
