"""A report as Markdown, to paste into a document or a thread."""

from __future__ import annotations

import re
from collections.abc import Iterator

from engram_local.sizing.render.document import (
    MARKS,
    MEANINGS,
    Block,
    CommandLine,
    Document,
    Section,
    Sentence,
    Table,
    Value,
)
from engram_local.sizing.render.sections import document_of
from engram_local.sizing.report import Report

_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "@": "@\u200b"}
"""No HTML; and no name that somebody would be notified by."""

_SPECIAL = re.compile(r"[\\`*\[\]|~#$]|(?<!\w)_|_(?!\w)")
"""What starts something; `_` within a word does not."""


def render_markdown(report: Report) -> str:
    """Return the report, ending in a newline; names are never taken for markup."""
    document = document_of(report)
    return "\n".join(_document(document)) + "\n"


def escape(text: str) -> str:
    """Return `text` so that Markdown shows it as it is."""
    escaped = _SPECIAL.sub(lambda match: "\\" + match.group(), text)
    return re.sub("[&<>@]", lambda match: _ENTITIES[match.group()], escaped)


def _document(document: Document) -> Iterator[str]:
    yield f"## {escape(document.title)}"
    for model in document.models:
        yield f"\n**{escape(model.verdict)}**"
    for section in document.common:
        yield from _section(section, 3)
    several = len(document.models) > 1
    for model in document.models:
        if several:
            yield f"\n### {escape(model.name)}"
        for section in model.sections:
            yield from _section(section, 4 if several else 3)
    yield from _legend(document)


def _section(section: Section, level: int) -> Iterator[str]:
    yield f"\n{'#' * level} {section.topic}"
    for block in section.blocks:
        yield ""
        yield from _block(block)


def _block(block: Block) -> Iterator[str]:
    if isinstance(block, Sentence):
        yield escape(block.text)
    elif isinstance(block, CommandLine):
        yield f"{escape(block.title)}:"
        yield ""
        yield from _code(block.line)
    else:
        if block.title:
            yield f"**{escape(block.title)}**"
            yield ""
        yield from _table(block)


def _code(line: str) -> list[str]:
    longest = max(map(len, re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}sh", line, fence]


def _table(table: Table) -> Iterator[str]:
    yield _line(escape(column.title) for column in table.columns)
    yield _line("---:" if column.is_number else ":---" for column in table.columns)
    first_last = len(table.rows) - table.n_last
    for index, row in enumerate(table.rows):
        yield _line(_cell(value, is_bold=index >= first_last) for value in row)


def _line(cells: Iterator[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(value: Value, *, is_bold: bool) -> str:
    text = escape(value.text)
    if is_bold and text:
        text = f"**{text}**"
    return f"{text} {escape(value.mark)}".strip()


def _legend(document: Document) -> Iterator[str]:
    yield ""
    marks = (
        f"{escape(MARKS[source])} {MEANINGS[source]}" for source in document.sources
    )
    yield "; ".join(marks) + "."
    yield ""
    yield f"{escape(document.origin)}: {escape(document.command)}"
