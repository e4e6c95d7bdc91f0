"""A report for a terminal, with rich; readable without colour and at 80 columns."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO

from rich.box import Box
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.style import Style
from rich.table import Table as RichTable
from rich.text import Text

from engram_local.sizing.render.document import (
    MARKS,
    MEANINGS,
    Block,
    CommandLine,
    Document,
    ModelPart,
    Section,
    Sentence,
    Table,
    Value,
)
from engram_local.sizing.render.sections import document_of
from engram_local.sizing.report import Report

_RULES = Box(
    "    \n"  # top
    "    \n"  # head
    " -- \n"  # below the head
    "    \n"  # row
    " -- \n"  # between rows
    " -- \n"  # above the last rows
    "    \n"  # foot
    "    \n",  # bottom
    ascii=True,
)
"""Lines below the head and above sums; ASCII, for pipes of any encoding."""

_BOLD, _DIM = Style(bold=True), Style(dim=True)

_FIXED_SPACE = "\ue000"
"""A space at which rich does not break lines."""


def render_text(report: Report, *, width: int = 80, color: bool = False) -> str:
    """Return the report as lines of at most `width` columns, which end in a newline.

    color: whether to add escape sequences, for a terminal. Nothing in a report's names
    is taken for markup, a link or an emoji.
    """
    return render_document(document_of(report), width=width, color=color)


def render_document(document: Document, *, width: int = 80, color: bool = False) -> str:
    """Return a report's document, as `render_text` does."""
    out = StringIO()
    console = Console(
        file=out,
        width=width,
        force_terminal=color,
        color_system="standard" if color else None,
        no_color=not color,
        legacy_windows=False,
        markup=False,
        emoji=False,
        highlight=False,
    )
    for block in _document(document):
        whole = isinstance(block, Text) and bool(block.no_wrap)
        console.print(block, soft_wrap=whole)
    lines = out.getvalue().replace(_FIXED_SPACE, " ").split("\n")
    return "\n".join(line.rstrip() for line in lines)


def _document(document: Document) -> Iterator[RenderableType]:
    for model in document.models:
        yield Text(model.verdict, _outcome_style(model))
    for section in document.common:
        yield from _section(section)
    for model in document.models:
        if len(document.models) > 1:
            yield Text(f"\n{model.name}", _BOLD)
        for section in model.sections:
            yield from _section(section)
    yield Text("")
    yield from _legend(document)


def _outcome_style(model: ModelPart) -> Style:
    return Style(bold=True, color=None if model.report.plan.fits else "red")


def _section(section: Section) -> Iterator[RenderableType]:
    yield Text(f"\n{section.topic.upper()}", Style(bold=True, color="cyan"))
    for index, block in enumerate(section.blocks):
        previous = section.blocks[index - 1] if index else None
        if previous and Table in (type(block), type(previous)):
            yield Text("")
        yield from _block(block)


def _block(block: Block) -> Iterator[RenderableType]:
    if isinstance(block, Sentence):
        yield Padding(Text(block.text), (0, 0, 0, 2))
    elif isinstance(block, CommandLine):
        yield Padding(Text(block.title, _DIM), (0, 0, 0, 2))
        # Not wrapped: it is there to be copied.
        yield Text(f"    {block.line}", _BOLD, no_wrap=True)
    else:
        if block.title:
            yield Padding(Text(block.title, _BOLD), (0, 0, 0, 2))
        yield Padding(_table(block), (0, 0, 0, 1))


def _table(table: Table) -> RichTable:
    drawn = RichTable(
        box=_RULES,
        show_edge=False,
        show_header=any(column.title for column in table.columns[1:]),
        padding=(0, 0, 0, 1),
        header_style=_DIM,
    )
    for column in table.columns:
        drawn.add_column(
            Text(column.title),
            justify="right" if column.is_number else "left",
            overflow="fold",
        )
    marked = [
        any(value.mark for value in cells) for cells in zip(*table.rows, strict=True)
    ]
    n_terms = len(table.rows) - table.n_last
    for index, row in enumerate(table.rows):
        cells = map(_cell, row, marked)
        drawn.add_row(*cells, end_section=index == n_terms - 1 and table.n_last > 0)
    return drawn


def _cell(value: Value, has_marks: bool) -> Text:
    text = Text(value.text)
    if value.mark:
        text.append(_FIXED_SPACE * bool(value.text) + value.mark, _DIM)
    elif has_marks and value.text:
        text.append(_FIXED_SPACE * 2)
    return text


def _legend(document: Document) -> Iterator[RenderableType]:
    for source in document.sources:
        yield Text.assemble(
            "  ", (MARKS[source], _BOLD), "  ", (MEANINGS[source], _DIM)
        )
    yield Text(f"  {document.origin}: {document.command}", _DIM)
