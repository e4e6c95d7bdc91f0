"""What all screens of modes.py have around them: tabs above, status and keys below."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from textual.app import ComposeResult
from textual.screen import Screen
from textual.widgets import Footer

from engram_local.errors import EngramError, Interrupted
from engram_local.units import escape_control
from tui.engine_link import EngineLink
from tui.widgets.status_line import StatusLine
from tui.widgets.tab_line import TabLine

if TYPE_CHECKING:
    from tui.app import EngramApp


class AppScreen(Screen[None]):
    """A screen with a body of its own, which `compose_body` gives."""

    @property
    def engram(self) -> EngramApp:
        """The app, by its type."""
        return cast("EngramApp", self.app)

    @property
    def link(self) -> EngineLink:
        """The engine."""
        return self.engram.link

    def tell(self, text: str) -> None:
        """Show a sentence for a moment."""
        self.notify(escape_control(text), markup=False)

    def tell_error(self, error: EngramError) -> None:
        """Show what went wrong; nothing if the user stopped it."""
        if error.code != Interrupted.code:
            text = "\n".join(filter(None, (error.message, error.hint)))
            self.notify(escape_control(text), severity="error", markup=False)

    def compose(self) -> ComposeResult:
        yield TabLine(self.engram.tabs(self))
        yield from self.compose_body()
        yield StatusLine(self.link)
        yield Footer(show_command_palette=False)

    def compose_body(self) -> ComposeResult:
        """Give the widgets between tabs and status."""
        raise NotImplementedError
