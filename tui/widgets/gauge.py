"""What is needed against what there is: a bar, and both numbers."""

from __future__ import annotations

from typing import ClassVar

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
    """Both numbers, and below them a bar that is full where all is needed."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"blocks"}
    DEFAULT_CSS = """
    Gauge { height: auto; }
    Gauge > .blocks { color: $accent; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._need: float | None = None
        self._have: float | None = None

    def show(self, need: float | None, have: float | None) -> None:
        """Show other numbers, both per second; None = unknown."""
        if (need, have) != (self._need, self._have):
            self._need, self._have = need, have
            self.refresh(layout=True)

    def get_content_height(
        self, container: object, viewport: object, width: int
    ) -> int:
        """The numbers; the bar if there is one."""
        return 2 if self._need is not None and self._have else 1

    def render(self) -> Text:
        """Return both lines, as wide as the widget."""
        text = Text(gauge_text(self._need, self._have), no_wrap=True)
        if self._need is not None and self._have:
            colour = self.get_component_rich_style("blocks", partial=True)
            text.append("\n" + bar(self._need / self._have, self.size.width), colour)
        return text
