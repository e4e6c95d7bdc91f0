"""Above the prompt: the commands that begin with what is typed."""

from __future__ import annotations

from textual.widgets import Static

from tui.widgets.prompt import fitting_commands

_SHOWN = 5


class CommandHints(Static):
    """Takes no room while no command is typed."""

    def __init__(self) -> None:
        super().__init__("", markup=False)
        self.display = False

    def show(self, text: str) -> None:
        """Show the commands that begin so."""
        lines = fitting_commands(text, _SHOWN)
        self.display = bool(lines)
        self.update("\n".join(lines))
