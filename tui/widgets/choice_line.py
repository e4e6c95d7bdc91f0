"""One line of choices, of which one is taken: by mouse here, by keys of the screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text
from textual import events
from textual.message import Message
from textual.widget import Widget


def choice_at(labels: Sequence[str], column: int) -> int | None:
    """Return which label is at a column of " one  two "; None for none."""
    for number, label in enumerate(labels):
        width = cell_len(label) + 2
        if 0 <= column < width:
            return number
        column -= width
    return None


class ChoiceLine(Widget):
    """A title and labels in a row."""

    DEFAULT_CSS = "ChoiceLine { height: 1; }"

    @dataclass
    class Taken(Message):
        """Another one was taken, by the mouse or by `take`."""

        line: ChoiceLine
        number: int

        @property
        def control(self) -> ChoiceLine:
            return self.line

    def __init__(self, title: str, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._title = title + " "
        self._labels: tuple[str, ...] = ()
        self.taken = 0
        """Number of the one that is taken."""

    def show(self, labels: Sequence[str]) -> None:
        """Show other choices; the first one is taken where there were others before."""
        if tuple(labels) != self._labels:
            self._labels = tuple(labels)
            self.taken = 0
            self.refresh()

    def take(self, number: int) -> None:
        """Take one; after the last comes the first."""
        if self._labels:
            self.taken = number % len(self._labels)
            self.refresh()
            self.post_message(self.Taken(self, self.taken))

    def on_click(self, event: events.Click) -> None:
        """Take what is under the mouse."""
        number = choice_at(self._labels, event.x - cell_len(self._title))
        if number is not None:
            self.take(number)

    def render(self) -> Text:
        """Return the line; what is taken is reversed."""
        text = Text(self._title, no_wrap=True, overflow="ellipsis")
        for number, label in enumerate(self._labels):
            text.append(f" {label} ", "reverse" if number == self.taken else "")
        return text
