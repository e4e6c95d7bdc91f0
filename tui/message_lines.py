"""One message as lines: who said it, the text, and what there is to say about it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.segment import Segment
from rich.style import Style

from tui.markdown_lines import Block, Blocks, Line, Painter

_BOLD, _DIM = Style(bold=True), Style(dim=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A message as it is shown."""

    id: str
    role: Literal["user", "assistant"]
    head: str
    """Who says it, and which variant this is."""

    text: str
    foot: str = ""
    """The numbers of an answer, or why it ended."""

    is_whole: bool = True
    """False: the text still comes."""


class MessageLines:
    """An entry for one width; keeps where its parts begin, not how they look."""

    def __init__(self, entry: Entry, painter: Painter) -> None:
        self.entry = entry
        self._painter = painter
        self._width = 0
        self._starts = [0]
        self._drawn: list[Block] = []
        self.first_changed = 0
        """The first line that `lay_out` found to be another one than before."""

        self._blocks = Blocks(is_markdown=entry.role == "assistant")
        self._blocks.set_text(entry.text, is_whole=entry.is_whole)
        self._foot = _foot(entry)

    @property
    def n_lines(self) -> int:
        """Lines after `lay_out`, an empty one at the end included."""
        return self._starts[-1]

    def show(self, entry: Entry) -> None:
        """Show another state of the message; `lay_out` has to follow."""
        if entry.text != self.entry.text or entry.is_whole != self.entry.is_whole:
            self._blocks.set_text(entry.text, is_whole=entry.is_whole)
        if entry.head != self.entry.head:
            self._drawn = []
        self.entry = entry
        self._foot = _foot(entry)
        self._starts = [0]

    def lay_out(self, width: int) -> None:
        """Find the line at which each part begins: all is drawn once for that."""
        if width == self._width and len(self._starts) > 1:
            return
        drawn = self._drawn if width == self._width else []
        self._width = width
        self._starts = [1]
        for part in self._parts:
            n_lines = len(self._painter.lines(part, width))
            # An empty line follows; what draws nothing takes no room.
            self._starts.append(self._starts[-1] + (n_lines + 1 if n_lines else 0))
        if not self._parts:
            self._starts.append(2)
        elif self._foot and len(self._parts) > 1:  # close to the text
            self._starts[-2:] = [line - 1 for line in self._starts[-2:]]
        n_same = n_same_of(drawn, self._parts)
        self.first_changed = self._starts[n_same] if n_same else 0
        self._drawn = self._parts

    def line(self, y: int) -> Line:
        """Return a line, counted from the one that says who speaks."""
        if y == 0:
            return (Segment(self.entry.head, _BOLD),)
        number = bisect_right(self._starts, y) - 1
        if number >= len(self._parts):
            return ()
        part = self._parts[number]
        lines = self._painter.lines(part, self._width)
        at = y - self._starts[number]
        line = lines[at] if at < len(lines) else ()
        if part in self._foot:
            return tuple(Segment.apply_style(line, post_style=_DIM))
        return line

    @property
    def _parts(self) -> list[Block]:
        return self._blocks.blocks + self._foot


def n_same_of(old: Sequence[object], new: Sequence[object]) -> int:
    """Return how many things are the same from the begin on."""
    pairs = enumerate(zip(old, new, strict=False))
    differing = (number for number, (one, other) in pairs if one != other)
    return next(differing, min(len(old), len(new)))


def _foot(entry: Entry) -> list[Block]:
    """Return what stands below the text, if anything does."""
    if not entry.foot:
        return []
    return [Block(source=entry.foot, is_markdown=False, first_code=0)]
