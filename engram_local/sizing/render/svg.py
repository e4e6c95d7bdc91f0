"""A chart's frame, axes, lines, areas and labels as SVG; knows nothing of reports.

Colours and fonts come from the page's style sheet (page.css), by class.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

from engram_local.units import escape_control

WIDTH, HEIGHT = 460, 300
LEFT, RIGHT, TOP, BOTTOM = 48, 318, 34, 254
"""Of what is drawn between the axes; labels of series stand on the right."""

LABEL_X = RIGHT + 14
_LINE_HEIGHT = 15
_MOST_STEPS = 6

Point = tuple[float, float]
"""In data."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Numbers -> coordinates from `start` to `end`, linear or logarithmic."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    def __call__(self, value: float) -> float:
        """Return the coordinate of a number; what is outside lies on the edge."""
        inside = min(max(value, self.low), self.high)
        low, high = self._bend(self.low), self._bend(self.high)
        part = (self._bend(inside) - low) / ((high - low) or 1.0)
        return self.start + part * (self.end - self.start)

    def _bend(self, value: float) -> float:
        return math.log(value) if self.is_log else value


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """Words at the right end of a series."""

    y: float
    text: str
    style: str


def nice_ticks(high: float) -> list[float]:
    """Return 0 to `high` in 2 to 6 steps of 1, 2 or 5 times a power of ten."""
    base = 10.0 ** math.floor(math.log10(high / _MOST_STEPS))
    step = next(base * n for n in (1, 2, 5, 10) if high <= base * n * _MOST_STEPS)
    return [n * step for n in range(math.floor(high / step + 1e-9) + 1)]


def tick(value: float) -> str:
    """Return a short number for an axis: `0.5`, `2,500`, `40k`, `1M`."""
    for factor, letter, least in ((1e6, "M", 1e6), (1e3, "k", 1e4)):
        if value >= least:
            return f"{value / factor:,.4g}{letter}"
    return f"{value:,.4g}"


def decades(low: float, high: float) -> list[float]:
    """Return the powers of ten from `low` to `high`."""
    first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
    return [10.0**n for n in range(first, last + 1)]


def svg(title: str, description: str, name: str, elements: Iterator[str]) -> str:
    """Return a chart; `name` is unique on the page, the other words are read out."""
    return "\n".join(
        [
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            f'aria-labelledby="{name}-title {name}-text">',
            f'<title id="{name}-title">{plain(title)}</title>',
            f'<desc id="{name}-text">{plain(description)}</desc>',
            *elements,
            "</svg>",
        ]
    )


def x_axis(
    scale: Scale, ticks: Sequence[float], text: Callable[[float], str], title: str
) -> Iterator[str]:
    """Yield the lower axis."""
    yield line(LEFT, BOTTOM, RIGHT, BOTTOM, "axis")
    for value in ticks:
        yield line(scale(value), BOTTOM, scale(value), BOTTOM + 4, "axis")
        yield words(scale(value), BOTTOM + 18, text(value), "tick", "middle")
    yield words((LEFT + RIGHT) / 2, BOTTOM + 38, title, "title", "middle")


def y_axis(
    scale: Scale, ticks: Sequence[float], text: Callable[[float], str], title: str
) -> Iterator[str]:
    """Yield hairlines with numbers on their left, and the unit above."""
    for value in ticks:
        yield line(LEFT, scale(value), RIGHT, scale(value), "hair")
        yield words(LEFT - 7, scale(value) + 4, text(value), "tick", "end")
    yield words(LEFT, TOP - 16, title, "title", "start")


def line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    """Return a straight line."""
    return (
        f'<line class="{style}" x1="{x1:.1f}" y1="{y1:.1f}" '
        f'x2="{x2:.1f}" y2="{y2:.1f}"/>'
    )


def curve(points: Sequence[Point], style: str) -> str:
    """Return a line through points, in coordinates."""
    return f'<polyline class="{style}" points="{_join(points)}"/>'


def area(upper: Sequence[Point], lower: Sequence[Point], style: str) -> str:
    """Return what lies between two lines, in coordinates."""
    points = [*upper, *reversed(lower)]
    return f'<polygon class="{style}" points="{_join(points)}"/>'


def dot(x: float, y: float, style: str) -> str:
    """Return a point of data."""
    return f'<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>'


def words(x: float, y: float, text: str, style: str, anchor: str) -> str:
    """Return text; `anchor` is start, middle or end."""
    return (
        f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" '
        f'text-anchor="{anchor}">{plain(text)}</text>'
    )


def labels(wanted: Sequence[Label]) -> Iterator[str]:
    """Yield labels on the right as near to their series as they do not overlap."""
    ordered = sorted(wanted, key=lambda label: label.y)
    for label, y in zip(ordered, _spread([one.y for one in ordered]), strict=True):
        yield curve([(RIGHT + 2, label.y), (LABEL_X - 3, y)], "leader")
        yield f'<rect class="{label.style} swatch" x="{LABEL_X}" y="{y - 4.5:.1f}" '
        yield 'width="9" height="9"/>'
        yield words(LABEL_X + 13, y + 4, label.text, "label", "start")


def _spread(ys: Sequence[float]) -> list[float]:
    """Return ascending positions a line's height apart, within the frame."""
    placed: list[float] = []
    for y in ys:
        placed.append(max(y, placed[-1] + _LINE_HEIGHT) if placed else y)
    limit = float(BOTTOM)
    for index in reversed(range(len(placed))):
        placed[index] = min(placed[index], limit)
        limit = placed[index] - _LINE_HEIGHT
    return placed


def _join(points: Sequence[Point]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def plain(text: str) -> str:
    """Return text for HTML: no markup, no control characters."""
    return escape(escape_control(text), quote=True)
