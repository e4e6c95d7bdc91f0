"""What the tints of a heat text mean: its scale, drawn with its own tints."""

from __future__ import annotations

from rich.style import Style
from rich.text import Text
from textual.widget import Widget

from tui.widgets.blocks import cell

_N_BARS = 9


class HeatLegend(Widget):
    """One line: the scale, or why there is none."""

    DEFAULT_CSS = "HeatLegend { height: auto; }"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._text = Text()

    def explain(self, sentence: str) -> None:
        """Say why nothing is tinted."""
        self._show(Text(sentence))

    def show(self, scale: tuple[float, float], tints: tuple[Style, ...]) -> None:
        """Show a scale with its tints; without tints, with bars."""
        low, high = scale
        text = Text(f"gate {low:.2f} ")
        for tint in tints:
            text.append(" ", tint)
        if not tints:
            text.append("".join(cell(n / (_N_BARS - 1)) for n in range(_N_BARS)))
        text.append(f" {high:.2f}")
        if scale == (0.0, 1.0):
            text.append(" (0 closed, 1 open)")
        else:
            text.append(" (nine in ten tokens)")
        self._show(text)

    def _show(self, text: Text) -> None:
        if text != self._text:
            self._text = text
            self.refresh(layout=True)

    def render(self) -> Text:
        """Return the line."""
        return self._text
