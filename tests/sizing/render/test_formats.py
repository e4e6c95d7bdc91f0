"""Text, Markdown and HTML say the same, and names do no harm in any of them."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from engram_local.model_spec import ModelSpec
from engram_local.sizing.render.csv_grid import render_csv
from engram_local.sizing.render.document import Document, Sentence, Table
from engram_local.sizing.render.html_page import render_html
from engram_local.sizing.render.json_report import render_json
from engram_local.sizing.render.markdown import render_markdown
from engram_local.sizing.render.sections import document_of
from engram_local.sizing.render.text import render_text
from engram_local.sizing.report import Report
from tests.sizing.samples import (
    DENSE,
    DESKTOP,
    GPU,
    HUGE,
    LAPTOP,
    MOE,
    NVME,
    SMALL,
    report_of,
)

HOSTILE = (
    "<script>alert(1)</script>[red]r[/red] a|b `c` \x1b[31m\u202e @team "
    "<img src=x onerror=y> &amp; \"'> *b* _i_ # ~~s~~"
)

REPORTS = {
    "table": lambda: report_of(MOE),
    "file": lambda: report_of(DENSE),
    "laptop": lambda: report_of(SMALL, DENSE, hardware=LAPTOP),
    "no fit": lambda: report_of(HUGE),
    "many": lambda: report_of(MOE, DENSE, SMALL, HUGE),
}

samples = pytest.mark.parametrize("name", REPORTS)


def in_text(report: Report) -> str:
    return render_text(report, width=400)


def in_markdown(report: Report) -> str:
    return re.sub(r"\\(.)|\*\*", r"\1", html.unescape(render_markdown(report)))


def in_html(report: Report) -> str:
    return html.unescape(re.sub("<[^>]*>", "", render_html(report)))


FORMATS: list[Callable[[Report], str]] = [in_text, in_markdown, in_html]
formats = pytest.mark.parametrize("show", FORMATS)


def words_of(document: Document) -> set[str]:
    """Return all texts of a document."""
    found = {document.title, document.command}
    found |= {model.verdict for model in document.models}
    sections = [*document.common]
    for model in document.models:
        sections += model.sections
    for section in sections:
        for block in section.blocks:
            if isinstance(block, Table):
                found |= {column.title for column in block.columns} | {block.title}
                found |= {value.text for row in block.rows for value in row}
            elif isinstance(block, Sentence):
                found.add(block.text)
            else:
                found |= {block.title, block.line}
    return found


@samples
@formats
def test_each_format_has_all_that_is_said(
    name: str, show: Callable[[Report], str]
) -> None:
    report = REPORTS[name]()
    shown = re.sub(r"\s+", " ", show(report))
    said = words_of(document_of(report))
    if show is in_text:
        said.discard(document_of(report).title)  # the verdict has the names
        said -= {"part", "value", "input"}
    assert len(said) > 50
    missing = {text for text in said if text not in shown}
    assert missing == set()


@samples
@pytest.mark.parametrize("width", [80, 120])
def test_text_keeps_to_its_width(name: str, width: int) -> None:
    report = REPORTS[name]()
    commands = {command.line for model in report.models for command in model.commands}
    lines = [
        line
        for line in render_text(report, width=width).splitlines()
        if line.strip() not in commands
    ]
    assert max(map(len, lines)) <= width
    assert not any(line != line.rstrip() for line in lines)


def test_commands_are_not_broken_into_lines() -> None:
    report = report_of(HUGE)
    lines = [line.strip() for line in render_text(report, width=80).splitlines()]
    long = [c.line for c in report.models[0].commands if len(c.line) > 76]
    assert long and set(long) <= set(lines)


def test_text_has_nothing_but_ascii_but_for_names() -> None:
    assert render_text(report_of(MOE, DENSE)).isascii()


def test_colour_changes_nothing_but_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    plain = render_text(report_of(MOE))
    colored = render_text(report_of(MOE), color=True)
    assert "\x1b" not in plain
    assert "\x1b[1" in colored
    stripped = re.sub(r"\x1b\[[0-9;]*m", "", colored)
    assert [line.rstrip() for line in stripped.splitlines()] == plain.splitlines()


def hostile_report(name: str = HOSTILE) -> Report:
    """Return a report in which all that others wrote is `name`."""
    weights = replace(MOE.weights[0], name=name, url=name)
    spec: ModelSpec = replace(
        MOE,
        name=name,
        architecture=name,
        origin=name,
        repository=name,
        notes=(name,),
        urls={name: name},
        weights=(weights,),
    )
    hardware = replace(
        DESKTOP,
        cpu=replace(DESKTOP.cpu, name=name),
        gpus=(replace(GPU, name=name),),
        drive=replace(NVME, name=name, file_system=name),
        system=name,
        notes=(name,),
    )
    report = report_of(
        spec, replace(HUGE, name=name, repository=name), hardware=hardware
    )
    return replace(report, command=name, date=name, version=name)


@pytest.mark.parametrize(
    "show", [render_text, render_markdown, render_html, render_json, render_csv]
)
def test_no_control_character_gets_out(show: Callable[[Report], str]) -> None:
    shown = show(hostile_report())
    assert "\x1b" not in shown and "\u202e" not in shown


def test_rich_markup_in_names_is_text() -> None:
    shown = re.sub(r"\s+", "", render_text(hostile_report(), width=200))
    assert "[red]r[/red]" in shown


def test_markdown_names_make_no_cells_tags_or_code() -> None:
    shown = render_markdown(hostile_report())
    outside = re.sub(r"(?ms)^(`{3,})sh\n.*?^\1$", "", shown)
    assert "<" not in outside
    assert re.search(r"(?<!\\)`", outside) is None
    tables = re.findall(r"(?m)(?:^\|.*\n)+", outside)
    assert len(tables) > 8
    for table in tables:
        counts = {len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}
        assert len(counts) == 1


def test_markdown_code_ends_where_it_should() -> None:
    report = hostile_report("```\nrm -rf")
    shown = render_markdown(report)
    fences = re.findall(r"(?m)^(`{3,})", shown)
    assert fences and len(fences) % 2 == 0
    assert all(fence == "````" for fence in fences)


def test_json_keeps_names_as_they_are() -> None:
    data = json.loads(render_json(hostile_report()))
    assert data["models"][0]["name"] == HOSTILE
    assert data["hardware"]["gpus"][0]["name"] == HOSTILE
