"""How long steps waited for rows: a histogram over telemetry.STALL_EDGES_MS.

The heights are on a logarithmic scale, which the text says: one step of a hundred
thousand that waited must be seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import ClassVar

from rich.text import Text
from textual.widget import Widget

from engram_local.telemetry import STALL_EDGES_MS
from engram_local.units import format_count
from tui.widgets.blocks import columns

_HEIGHT = 4
_N_BINS = len(STALL_EDGES_MS) + 1


def bin_of(counts: Sequence[int], part: float) -> int | None:
    """Return the bin that holds a quantile (0.5 = the median); None without steps.

    part 1 is the longest.
    """
    rank = min(int(part * sum(counts)), sum(counts) - 1)
    for number, count in enumerate(counts):
        rank -= count
        if rank < 0 < count:
            return number
    return None


def bin_text(number: int) -> str:
    """Return what a bin holds: "<= 0.1 ms"."""
    if number < len(STALL_EDGES_MS):
        return f"<= {STALL_EDGES_MS[number]:g} ms"
    return f"> {STALL_EDGES_MS[-1]:g} ms"


def quantiles_text(counts: Sequence[int]) -> str:
    """Return the median, the 95th percentile and the longest, as bounds."""
    named = (("p50", 0.5), ("p95", 0.95), ("max", 1.0))
    bins = [(name, bin_of(counts, part)) for name, part in named]
    if not sum(counts):
        return "no steps yet"
    return " · ".join(
        f"{name} {bin_text(one)}" for name, one in bins if one is not None
    )


def short_count(count: int) -> str:
    """Return a count in at most 4 characters, rounded down: "999", "9.9k", "12k"."""
    for size, unit in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (1000, "k")):
        if count >= 10 * size:
            return f"{count // size}{unit}"
        if count >= size:
            return f"{count * 10 // size / 10:.1f}{unit}"
    return str(count)


def histogram_lines(counts: Sequence[int], width: int, height: int) -> list[str]:
    """Return columns of a height, below them the bins' upper bounds and the counts."""
    cells = max(width // _N_BINS, 5)
    most = log(1 + max(counts, default=0)) or 1.0
    heights = [log(1 + count) / most for count in counts]
    bounds = [f"{edge:g}".removeprefix("0") for edge in STALL_EDGES_MS]
    bounds.append(f">{STALL_EDGES_MS[-1]:g}")
    return [
        *columns(heights, height, cells),
        "".join(bound.ljust(cells) for bound in bounds),
        "".join((short_count(n) if n else "").ljust(cells) for n in counts),
    ]


class StallHistogram(Widget):
    """Stalls since the model was opened."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"blocks"}
    DEFAULT_CSS = f"""
    StallHistogram {{ height: {_HEIGHT + 4}; }}
    StallHistogram > .blocks {{ color: $accent; }}
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._counts: tuple[int, ...] = (0,) * _N_BINS

    def show(self, counts: tuple[int, ...]) -> None:
        """Show other counts: steps per bin."""
        if counts != self._counts:
            self._counts = counts
            self.refresh()

    def render(self) -> Text:
        """Return the histogram as wide as the widget."""
        text = Text(no_wrap=True, overflow="ellipsis")
        text.append(quantiles_text(self._counts) + "\n")
        *rows, bounds, numbers = histogram_lines(self._counts, self.size.width, _HEIGHT)
        colour = self.get_component_rich_style("blocks", partial=True)
        text.append("\n".join(rows), colour)
        n_steps = format_count(sum(self._counts))
        caption = f"{n_steps} steps by ms waited (heights: log scale)"
        return text.append("\n".join(("", bounds, numbers, caption)))
