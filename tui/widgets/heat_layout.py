"""Tokens laid out in cells: wrapped lines of pieces. Pure; knows no widget.

layout = lay_out(["A", " lemur", "\n", "is"], width=20)
layout.lines[0]            # pieces "A", " lemur", "↵"
layout.token_at(0, 3)      # 1
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from rich.cells import cell_len

from engram_local.units import escape_control

NEWLINE = "↵"
NO_WIDTH = "◌"
"""Before what would take no cell: nothing at all, or a lone combining character."""

LEAST_WIDTH = 2
"""Of a line: a wide character must fit."""

_TAB = " " * 4
_JOINERS = dict.fromkeys(map(ord, "\u200d\ufe0f"))
"""Dropped: terminals disagree on the width of what they join."""


class Piece(NamedTuple):
    """What of a token stands on one line."""

    token: int
    text: str
    column: int
    width: int


Line = tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """Lines of pieces, and where each token is."""

    lines: tuple[Line, ...]
    places: tuple[tuple[int, int], ...]
    """First and last line of each token."""

    def token_at(self, line: int, column: int) -> int:
        """Return the token of a cell; past a line's end, the line's last one."""
        pieces = self.lines[line]
        index = bisect_right(pieces, column, key=lambda piece: piece.column)
        return pieces[max(index - 1, 0)].token

    def column_of(self, token: int) -> int:
        """Return the column where a token begins."""
        line = self.lines[self.places[token][0]]
        return next(piece.column for piece in line if piece.token == token)

    def below(self, token: int, n_lines: int, column: int) -> int:
        """Return the token so many lines below, or above if negative, at a column."""
        first, last = self.places[token]
        line = (last if n_lines > 0 else first) + n_lines
        return self.token_at(min(max(line, 0), len(self.lines) - 1), column)


class _Glyph(NamedTuple):
    """A character with what combines with it."""

    token: int
    text: str
    width: int
    ends_line: bool


def shown(text: str) -> str:
    r"""Return what stands for a token's text: always at least one cell wide.

    Control characters are escaped, a newline becomes a sign and the newline.
    """
    text = escape_control(text.translate(_JOINERS)).replace("\t", _TAB)
    if not text or (cell_len(text[0]) == 0 and text[0] != "\n"):
        text = NO_WIDTH + text
    return text.replace("\n", NEWLINE + "\n")


def lay_out(texts: Sequence[str], width: int) -> Layout:
    """Return tokens' texts in lines of at most `width` cells (at least 2).

    Lines end after a space or a wide character where they can, after a newline always.
    """
    wrapped = _wrap(_glyphs(texts), max(width, LEAST_WIDTH))
    lines = tuple(tuple(_pieces(line)) for line in wrapped)
    places: dict[int, tuple[int, int]] = {}
    for number, line in enumerate(lines):
        for piece in line:
            first, _ = places.get(piece.token, (number, number))
            places[piece.token] = (first, number)
    return Layout(lines, tuple(places[token] for token in range(len(texts))))


def _glyphs(texts: Sequence[str]) -> Iterator[_Glyph]:
    for token, text in enumerate(texts):
        glyphs: list[_Glyph] = []
        for char in shown(text):
            width = cell_len(char)
            if char == "\n":
                glyphs[-1] = glyphs[-1]._replace(ends_line=True)
            elif width == 0:
                last = glyphs[-1]
                glyphs[-1] = last._replace(text=last.text + char)
            else:
                glyphs.append(_Glyph(token, char, width, False))
        yield from glyphs


def _wrap(glyphs: Iterator[_Glyph], width: int) -> Iterator[list[_Glyph]]:
    line: list[_Glyph] = []
    used = cut = 0  # cells of the line; glyphs of it that may end a line
    for glyph in glyphs:
        if glyph.width > 1:
            cut = len(line)
        if used + glyph.width > width:
            cut = cut or len(line)
            yield line[:cut]
            line = line[cut:]
            used = sum(other.width for other in line)
            cut = 0
        line.append(glyph)
        used += glyph.width
        if glyph.ends_line:
            yield line
            line, used, cut = [], 0, 0
        elif glyph.width > 1 or glyph.text.isspace():
            cut = len(line)
    if line:
        yield line


def _pieces(line: list[_Glyph]) -> Iterator[Piece]:
    column = 0
    for token, glyphs in groupby(line, key=lambda glyph: glyph.token):
        text, width = "", 0
        for glyph in glyphs:
            text += glyph.text
            width += glyph.width
        yield Piece(token, text, column, width)
        column += width
