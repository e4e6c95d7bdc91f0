"""A text that is being written, in a frame with a title; follows its end."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from engram_local.units import escape_control

_DRAW_EVERY_S = 0.05
"""Chunks come up to some hundred times a second, and each draws the whole text."""


class AnswerColumn(VerticalScroll):
    """One of two answers."""

    DEFAULT_CSS = """
    AnswerColumn {
        border: round $primary;
        padding: 0 1;
        &:focus { border: round $accent; }
        Static { height: auto; }
    }
    """

    def __init__(self, title: str, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.border_title = title
        self._text = ""
        self._drawn = ""

    def compose(self) -> ComposeResult:
        yield Static(markup=False)

    def on_mount(self) -> None:
        self.set_interval(_DRAW_EVERY_S, self._draw)

    def clear(self) -> None:
        """Begin anew."""
        self._text = ""
        self.border_subtitle = ""
        self._draw()

    def add(self, text: str) -> None:
        """Add to the text; it is drawn a moment later."""
        self._text += text

    def tell(self, text: str) -> None:
        """Say something short below the text; empty = nothing."""
        self._draw()
        self.border_subtitle = text

    def _draw(self) -> None:
        if self._text != self._drawn:
            self._drawn = self._text
            is_at_end = self.is_vertical_scroll_end
            self.query_one(Static).update(Content(escape_control(self._text)))
            if is_at_end:
                self.scroll_end(animate=False)
