"""What is needed against what there is: a bar, and both numbers."""

from __future__ import annotations

from rich.text import Text
from textual.widget import Widget

from engram_local.units import format_count
from tui.widgets.blocks import bar

NOT_MEASURED = "drive not measured: engram-local probe"


def gauge_text(need: float | None, have: float | None) -> str:
    """Return "1,600 / 62,000 per s (3 %)" as far as it is known."""
    needed = "?" if need is None else format_count(round(need))
    if have is None:
        return f"{needed} per s · {NOT_MEASURED}"
    text = f"{needed} / {format_count(round(have))} per s"
    return text if need is None else f"{text} ({_percent(need / have)})"


def _percent(part: float) -> str:
    return "under 1 %" if 0 < part < 0.01 else f"{part:.0%}".replace("%", " %")


class Gauge(Widget):
    """A name and numbers, and below them a bar, full where all is needed."""

    DEFAULT_CSS = "Gauge { height: 2; }"

    def __init__(self, name: str, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._title = name
        self._need: float | None = None
        self._have: float | None = None

    def show(self, need: float | None, have: float | None) -> None:
        """Show other numbers, both per second; None = unknown."""
        if (need, have) != (self._need, self._have):
            self._need, self._have = need, have
            self.refresh()

    def render(self) -> Text:
        """Return both lines, as wide as the widget."""
        known = self._need is not None and self._have
        part = (self._need or 0.0) / self._have if known and self._have else 0.0
        text = f"{self._title} {gauge_text(self._need, self._have)}"
        line = bar(part, self.size.width) if known else ""
        return Text(f"{text}\n{line}", no_wrap=True, overflow="ellipsis")
