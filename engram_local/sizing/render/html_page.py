"""A report as one HTML file: no scripts, nothing loaded, charts as inline SVG."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files

from engram_local.hardware import Drive
from engram_local.sizing.render.charts import (
    Chart,
    drive_chart,
    memory_charts,
    speed_charts,
)
from engram_local.sizing.render.document import (
    MARKS,
    MEANINGS,
    Block,
    Column,
    CommandLine,
    Document,
    ModelPart,
    Section,
    Sentence,
    Table,
    Topic,
    Value,
)
from engram_local.sizing.render.sections import document_of
from engram_local.sizing.render.svg import plain
from engram_local.sizing.report import ModelReport, Report

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""The browser shall load nothing, whatever a name in the report may try."""

_LONG, _HALF_PAGE = 26, 66
"""Characters of a cell that is broken into lines, and of a table in half a page."""


def render_html(report: Report) -> str:
    """Return a whole page for UTF-8; names are never taken for markup."""
    document = document_of(report)
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            *_head(document),
            "<body>",
            "<main>",
            *_body(document, report.hardware.drive),
            "</main>",
            "</body>",
            "</html>",
            "",
        ]
    )


def _head(document: Document) -> Iterator[str]:
    style = files(__package__).joinpath("page.css").read_text("utf-8")
    yield "<head>"
    yield '<meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{plain(document.title)}</title>"
    yield f"<style>\n{style}</style>"
    yield "</head>"


def _body(document: Document, drive: Drive) -> Iterator[str]:
    yield f"<h1>{plain(document.title)}</h1>"
    origin = f"{plain(document.origin)}: <code>{plain(document.command)}</code>"
    yield f'<p class="meta">{origin}</p>'
    for model in document.models:
        yield from _verdict(model)
    for section in document.common:
        yield from _section(section, [])
    for number, model in enumerate(document.models):
        if len(document.models) > 1:
            yield f"<h2>{plain(model.name)}</h2>"
        for section in model.sections:
            charts = _charts(section.topic, model.report, drive, f"model-{number}")
            yield from _section(section, list(charts))
    yield from _legend(document)


def _charts(
    topic: Topic, model: ModelReport, drive: Drive, name: str
) -> Iterator[Chart]:
    if topic is Topic.MEMORY:
        yield from memory_charts(model, name)
    elif topic is Topic.TABLE:
        yield from speed_charts(model, drive, name)
        yield from drive_chart(model, drive, name)


def _verdict(model: ModelPart) -> Iterator[str]:
    fits = model.report.plan.fits
    yield f'<section class="verdict{"" if fits else " no"}">'
    sign = "✓" if fits else "✗"
    yield f'<p><span class="sign" aria-hidden="true">{sign}</span> '
    yield f"{plain(model.verdict)}</p>"
    yield "<dl>"
    for name, value in model.key_values:
        yield f"<div><dt>{plain(name)}</dt><dd>{_value(value)}</dd></div>"
    yield "</dl>"
    yield "</section>"


def _section(section: Section, charts: list[Chart]) -> Iterator[str]:
    yield "<section>"
    yield f"<h3>{plain(section.topic)}</h3>"
    yield '<div class="blocks">'
    for block in section.blocks:
        yield from _block(block)
    for chart in charts:
        yield f"<figure>\n<p>{plain(chart.title)}</p>\n{chart.svg}"
        yield f"<figcaption>{plain(chart.caption)}</figcaption></figure>"
    yield "</div>"
    yield "</section>"


def _block(block: Block) -> Iterator[str]:
    if isinstance(block, Sentence):
        yield f"<p>{plain(block.text)}</p>"
    elif isinstance(block, CommandLine):
        yield f'<div class="command">{plain(block.title)}'
        yield f"<pre><code>{plain(block.line)}</code></pre></div>"
    else:
        yield from _table(block)


def _table(table: Table) -> Iterator[str]:
    yield f"<div{' class=wide' * _is_wide(table)}>"
    if table.title:
        yield f'<p class="caption">{plain(table.title)}</p>'
    # It scrolls on a narrow screen, also by keyboard.
    label = f' aria-label="{plain(table.title)}"' if table.title else ""
    yield f'<div class="scroll" tabindex="0"><table{label}>'
    if any(column.title for column in table.columns[1:]):
        yield f"<thead><tr>{''.join(map(_head_cell, table.columns))}</tr></thead>"
    yield "<tbody>"
    for index, row in enumerate(table.rows):
        yield f"<tr{_row_style(table, index)}>{''.join(_cells(table, row))}</tr>"
    yield "</tbody></table></div></div>"


def _is_wide(table: Table) -> bool:
    """Tell whether half a page is too narrow for a table."""
    rows = [[column.title for column in table.columns]]
    rows += [[value.text for value in row] for row in table.rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return sum(min(width + 4, _LONG) for width in widths) > _HALF_PAGE


def _head_cell(column: Column) -> str:
    style = " class=n" if column.is_number else ""
    return f'<th scope="col"{style}>{plain(column.title)}</th>'


def _row_style(table: Table, index: int) -> str:
    first = len(table.rows) - table.n_last
    if index < first:
        return ""
    return ' class="sum first"' if index == first else ' class="sum"'


def _cells(table: Table, row: tuple[Value, ...]) -> Iterator[str]:
    first, *others = row
    yield f'<th scope="row"{_style(first)}>{_value(first)}</th>'
    for value, column in zip(others, table.columns[1:], strict=True):
        styles = ["n"] if column.is_number else []
        styles += ["unmarked"] if column.is_number and not value.mark else []
        yield f"<td{_style(value, *styles)}>{_value(value)}</td>"


def _style(value: Value, *styles: str) -> str:
    """Return the classes of a cell; what is long may be broken into lines."""
    found = [*styles, *(["long"] if len(value.text) > _LONG else [])]
    return f' class="{" ".join(found)}"' if found else ""


def _value(value: Value) -> str:
    if value.source is None:
        return plain(value.text)
    meaning = plain(MEANINGS[value.source])
    return f'{plain(value.text)}<abbr title="{meaning}">{value.mark}</abbr>'


def _legend(document: Document) -> Iterator[str]:
    yield '<footer class="legend">'
    yield "<p>The character behind a number says where it comes from.</p>"
    yield "<ul>"
    for source in document.sources:
        yield f"<li><b>{MARKS[source]}</b>{plain(MEANINGS[source])}</li>"
    yield "</ul>"
    yield "</footer>"
