"""Which parts of a table are in RAM: a strip of cells per layer, and a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.widget import Widget

from engram_local.events import TableMap, TableStrip
from engram_local.units import format_bytes
from tui.widgets.blocks import cell

Parts = Sequence[float | None]

_WIDTH_BEFORE_THE_FIRST = 48


def resample(parts: Parts, n_cells: int) -> list[float | None]:
    """Return so many cells in place of others; each is the mean of what it covers.

    A cell that covers something unknown is unknown.
    """
    n = len(parts)
    if not n:
        return [None] * n_cells
    cells: list[float | None] = []
    for number in range(n_cells):
        first = number * n // n_cells
        last = max((number + 1) * n // n_cells, first + 1)
        cells.append(_mean(parts[first:last]))
    return cells


def _mean(parts: Parts) -> float | None:
    known = [part for part in parts if part is not None]
    return sum(known) / len(known) if known and len(known) == len(parts) else None


def strip_text(parts: Parts, width: int) -> str:
    """Return a strip of `width` cells."""
    return "".join(cell(part) for part in resample(parts, width))


def resident_text(strip: TableStrip) -> str:
    """Return how much of a layer's table is in RAM: "62 % of 8.3 MiB in RAM"."""
    known = [part for part in strip.resident if part is not None]
    size = format_bytes(strip.table_bytes)
    if not known:
        return f"{size}, unknown: the system does not tell, or the file is another's"
    percent = _percent(sum(known) / len(known))
    if len(known) == len(strip.resident):
        return f"{percent} of {size} in RAM"
    told = _percent(len(known) / len(strip.resident))
    return f"{percent} in RAM of the {told} of {size} that is known"


def _percent(part: float) -> str:
    """Round, but to 0 % and 100 % only what is nothing and everything."""
    if part <= 0 or part >= 1:
        return f"{part:.0%}".replace("%", " %")
    return f"{min(max(round(100 * part), 1), 99)} %"


class ResidencyStrips(Widget):
    """One line and one strip per layer."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"blocks"}
    DEFAULT_CSS = """
    ResidencyStrips { height: auto; }
    ResidencyStrips > .blocks { color: $accent; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._strips: tuple[TableStrip, ...] = ()
        self._note = ""

    @property
    def n_cells(self) -> int:
        """Cells that fit."""
        return self.size.width or _WIDTH_BEFORE_THE_FIRST

    def show(self, table_map: TableMap | None) -> None:
        """Show another look at the table; None = there was none."""
        strips = table_map.strips if table_map else ()
        if strips != self._strips:
            self._strips = strips
            self.refresh(layout=True)

    def note(self, text: str) -> None:
        """Write a line above the strips; empty = none."""
        if text != self._note:
            self._note = text
            self.refresh(layout=True)

    def get_content_height(
        self, container: object, viewport: object, width: int
    ) -> int:
        """Two lines per layer, and the note's."""
        return 2 * len(self._strips) + (1 if self._note else 0)

    def render(self) -> Text:
        """Return the strips as wide as the widget."""
        colour = self.get_component_rich_style("blocks", partial=True)
        lines = [Text(self._note)] if self._note else []
        for strip in self._strips:
            lines.append(Text(f"layer {strip.layer_id}: {resident_text(strip)}"))
            lines.append(Text(strip_text(strip.resident, self.size.width), colour))
        return Text("\n", no_wrap=True, overflow="ellipsis").join(lines)
