"""A line to type in; up and down bring back what was typed before."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widgets import Input


class HistoryInput(Input):
    """An Input that remembers."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "recall(-1)", "Before", show=False),
        Binding("down", "recall(1)", "After", show=False),
    ]

    def __init__(self, *, placeholder: str, id: str | None = None) -> None:
        super().__init__(placeholder=placeholder, id=id, compact=True)
        self._lines: list[str] = []
        self._place = 0

    def remember(self, line: str) -> None:
        """Make a line the newest; an older one that is the same is forgotten."""
        if line:
            self._lines = [one for one in self._lines if one != line] + [line]
        self._place = len(self._lines)

    def action_recall(self, step: int) -> None:
        """Show an older line or a newer one; after the newest comes an empty one."""
        self._place = min(max(self._place + step, 0), len(self._lines))
        is_new = self._place == len(self._lines)
        self.value = "" if is_new else self._lines[self._place]
        self.cursor_position = len(self.value)
