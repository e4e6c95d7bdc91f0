"""Markdown -> lines of a width, block by block: what has not changed is drawn once.

Textual's Markdown has a widget per block; a long conversation would have thousands.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, cast

from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import CodeBlock, Markdown, MarkdownElement
from rich.segment import Segment
from rich.style import Style
from rich.syntax import Syntax
from rich.text import Text
from rich.theme import Theme
from textual.cache import LRUCache
from textual.color import Color

from engram_local.units import escape_control

_CACHED_BLOCKS = 128
"""The newest drawn; what is on the screen is a few dozen."""

Line = tuple[Segment, ...]
"""Not Textual's Strip, whose caches take 3 KiB a line."""

# What looks like HTML is text, and so are definitions of links, which draw nothing: an
# answer shows all that the model said.
_PARSER = (
    MarkdownIt("commonmark", {"html": False})
    .enable(["strikethrough", "table"])
    .disable("reference")
)
_CODE = "fence"
_NUMBER = "number"


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A part of a text that is drawn by itself: a paragraph, a list, some code."""

    source: str
    is_markdown: bool
    first_code: int
    """Number of the first code block in it, counted from 1 in the whole text."""


class Blocks:
    """A text that may grow, as blocks; only the last one is read again then."""

    def __init__(self, *, is_markdown: bool) -> None:
        self._is_markdown = is_markdown
        self._text = ""
        self._n_before = 0
        self.blocks: list[Block] = []

    def set_text(self, text: str, *, is_whole: bool) -> None:
        """Replace the text; quick if it begins with the one before.

        is_whole: read all of it, as a block may have joined the one before it.
        """
        is_longer = self.blocks and text.startswith(self._text) and not is_whole
        n_kept = self._n_before if is_longer else 0
        kept = self.blocks[:-1] if is_longer else []
        first_code = self.blocks[-1].first_code if is_longer else 1
        new = _split(text[n_kept:], first_code, self._is_markdown)
        self._text = text
        self.blocks = kept + new
        self._n_before = len(text) - len(new[-1].source) if new else n_kept


def _split(text: str, first_code: int, is_markdown: bool) -> list[Block]:
    if not is_markdown:
        return [Block(source=text, is_markdown=False, first_code=first_code)]
    tokens = _PARSER.parse(text)
    starts = [token.map[0] for token in tokens if token.level == 0 and token.map]
    code = [token.map[0] for token in tokens if token.type == _CODE and token.map]
    lines = text.split("\n")
    blocks = []
    for start, end in pairwise([*starts, len(lines)]):
        n_code = sum(start <= first < end for first in code)
        source = "\n".join(lines[start:end]) + ("\n" if end < len(lines) else "")
        blocks.append(Block(source=source, is_markdown=True, first_code=first_code))
        first_code += n_code
    return blocks


def text_of(line: Line) -> str:
    """Return a line without its colours."""
    return "".join(segment.text for segment in line)


class Painter:
    """Draws blocks in the colours of a theme. Keeps the newest few hundred."""

    def __init__(self) -> None:
        self._console = Console()
        self._code_theme = ""
        self._cache: LRUCache[tuple[Block, int], list[Line]] = LRUCache(_CACHED_BLOCKS)

    def use_theme(self, variables: Mapping[str, str], *, is_dark: bool) -> None:
        """Draw anew from now on. variables: colours of a Textual theme, by name."""
        self._console = Console(
            file=io.StringIO(),
            force_terminal=True,
            color_system="truecolor",
            theme=Theme(_styles(variables)),
        )
        self._code_theme = "ansi_dark" if is_dark else "ansi_light"
        self._cache.clear()

    def lines(self, block: Block, width: int) -> list[Line]:
        """Return a block's lines, at most `width` cells wide."""
        key = (block, width)
        lines = self._cache.get(key)
        if lines is None:
            lines = self._cache[key] = self._draw(block, width)
        return lines

    def _draw(self, block: Block, width: int) -> list[Line]:
        options = self._console.options.update(width=width, height=None)
        source = escape_control(block.source)
        what = self._markdown(source, block) if block.is_markdown else Text(source)
        lines = self._console.render_lines(what, options, pad=False)
        return _without_empty_ends([tuple(line) for line in lines])

    def _markdown(self, source: str, block: Block) -> Markdown:
        markdown = _Markdown("", code_theme=self._code_theme, hyperlinks=False)
        markdown.parsed = _PARSER.parse(source)
        code = [token for token in markdown.parsed if token.type == _CODE]
        for number, token in enumerate(code, block.first_code):
            token.meta[_NUMBER] = number
        return markdown


def _without_empty_ends(lines: list[Line]) -> list[Line]:
    """Rich puts empty lines around some blocks and not around others."""
    full = [number for number, line in enumerate(lines) if text_of(line).strip()]
    return lines[full[0] : full[-1] + 1] if full else []


class _Code(CodeBlock):
    """Code under a line with its number, by which it can be copied."""

    @classmethod
    def create(cls, markdown: Markdown, token: Token) -> _Code:
        block = cast(_Code, super().create(markdown, token))
        block.number = int(token.meta[_NUMBER])
        return block

    number = 0

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> RenderResult:
        name = "" if self.lexer_name == "text" else f" {self.lexer_name}"
        yield Text(f"─ {self.number}{name}", style="markdown.hr", no_wrap=True)
        yield Syntax(
            str(self.text).rstrip(),
            self.lexer_name,
            theme=self.theme,
            word_wrap=True,
            background_color="default",
            padding=(0, 1),
        )
        yield Text("─", style="markdown.hr")


class _Markdown(Markdown):
    elements: ClassVar[dict[str, type[MarkdownElement]]] = {
        **Markdown.elements,
        _CODE: _Code,
    }


def _styles(variables: Mapping[str, str]) -> dict[str, Style]:
    """Return rich's styles of Markdown in a theme's colours."""
    accent = Style(color=Color.parse(variables["accent"]).rich_color)
    bold, dim, underline = Style(bold=True), Style(dim=True), Style(underline=True)
    return {
        "markdown.h1": accent + bold + underline,
        "markdown.h2": accent + bold,
        "markdown.h3": bold + underline,
        "markdown.h4": bold,
        "markdown.code": accent + bold,
        "markdown.item.bullet": accent,
        "markdown.item.number": accent,
        "markdown.block_quote": Style(italic=True),
        "markdown.link": underline,
        "markdown.link_url": dim,
        "markdown.table.border": dim,
        "markdown.table.header": bold,
        "markdown.hr": dim,
    }
