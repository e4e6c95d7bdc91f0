"""A finished bench as text, Markdown and JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from engram_local.bench.arms import ATTACHED
from engram_local.bench.machine import Machine
from engram_local.bench.report import (
    Report,
    _number,
    as_json,
    as_markdown,
    as_text,
)
from engram_local.bench.summary import summarize_runs
from engram_local.bench.tokens import Plan
from tests.bench.test_summary import runs

MACHINE = Machine(
    cpu="Z80",
    n_cores=1,
    n_processors=2,
    ram_bytes=65536,
    system="CP/M 2.2",
    python="3.11",
    packages={"numpy": "2.0"},
)


@pytest.fixture
def report() -> Report:
    """A report of one group of three arms."""
    measured = runs()
    return Report(
        machine=MACHINE,
        command="engram-local bench -r 3",
        date="2026-11-22",
        model="model.gguf",
        memory="memory \x1b.gguf",
        table_bytes=8 << 20,
        n_threads=2,
        plan=Plan(n_repetitions=3),
        groups=tuple(summarize_runs(measured, ATTACHED)),
        notes=("ram was left out: no",),
        runs=tuple(measured),
    )


def row(text: str, title: str, name: str) -> list[str]:
    """Return the cells of an arm in the table under a title."""
    table = text.split(title)[1]
    line = next(line for line in table.splitlines() if line.startswith(name + "  "))
    return line.removeprefix(name).split()


def test_text_has_a_row_for_each_arm(report: Report) -> None:
    text = as_text(report)
    cells = row(text, "warm: median", "mmap")
    assert cells[:4] == ["2.000", "(2.00-5.00)", "0.500", "(0.40-0.80)"]
    assert row(text, "warm: median", "none again")[2] == "0.800"


def test_text_says_what_the_memory_did(report: Report) -> None:
    cells = row(as_text(report), "warm, decode: what the memory did", "mmap")
    assert cells == ["32", "0.25/0.50/1.00", "0.0", "to", "0.0", "0", "B", "0.00", "0"]
    assert row(as_text(report), "RAM of the process", "mmap")[:2] == ["100.0", "MiB"]


def test_arms_without_a_memory_do_nothing_with_it(report: Report) -> None:
    table = as_text(report).split("what the memory did")[1]
    assert "none" not in table


def test_text_begins_with_the_machine_and_ends_with_the_notes(report: Report) -> None:
    lines = as_text(report).splitlines()
    assert lines[0] == MACHINE.line()
    assert lines[1] == "engram-local bench -r 3 (2026-11-22)"
    assert lines[-1] == "ram was left out: no"
    assert "noise floor, none again against none: decode 0.200" in lines[-3]


def test_tables_are_at_most_100_columns_wide(report: Report) -> None:
    (group,) = report.groups
    largest = replace(group.arms[2], arm="mmap cold no prefetch")
    wide = replace(report, groups=(replace(group, arms=(*group.arms[:2], largest)),))
    tables = as_text(wide).splitlines()[3:]
    assert max(map(len, tables)) <= 100


def test_markdown_begins_with_command_machine_and_versions(report: Report) -> None:
    first = as_markdown(report).splitlines()[0]
    assert first.startswith("`engram-local bench -r 3`, 2026-11-22: Z80")
    for part in ("numpy 2.0", "model.gguf", "8.0 MiB", "512 + 64", "2 threads"):
        assert part in first


def test_markdown_tables_have_as_many_cells_in_every_row(report: Report) -> None:
    lines = as_markdown(report).splitlines()
    assert "| mmap | 2.000 (2.00-5.00) | 0.500 (0.40-0.80) |" in as_markdown(report)
    tables: list[list[str]] = [[]]
    for line in lines:
        if line.startswith("|"):
            tables[-1].append(line)
        elif tables[-1]:
            tables.append([])
    assert [len({line.count("|") for line in table}) for table in tables if table] == [
        1,
        1,
        1,
        1,
    ]
    assert "Note: ram was left out: no." in lines


def test_control_characters_in_names_are_escaped(report: Report) -> None:
    for text in (as_text(report), as_markdown(report)):
        assert "\x1b" not in text
        assert "memory \\x1b.gguf" in text


def test_unknown_numbers_are_dashes(report: Report) -> None:
    (group,) = report.groups
    arm = group.arms[2]
    hidden = replace(
        arm.decode,
        stall=None,
        resident_before_bytes=None,
        drive_bytes=None,
        amplification=None,
        n_major_faults=None,
    )
    arm = replace(arm, decode=hidden, peak_rss_bytes=None)
    unknown = replace(report, groups=(replace(group, arms=(*group.arms[:2], arm)),))
    text = as_text(unknown)
    assert row(text, "decode: what the memory did", "mmap") == ["32", *"-----"]
    assert row(text, "RAM of the process", "mmap")[-1] == "-"


def test_json_has_everything(report: Report) -> None:
    values = json.loads(json.dumps(as_json(report)))
    arm = values["groups"][0]["arms"][2]
    assert arm["arm"] == "mmap"
    assert arm["decode"]["ratio"] == {"median": 0.5, "low": 0.4, "high": 0.8}
    assert arm["decode"]["stall"]["p95_ms"] == 0.5
    assert values["groups"][0]["decode_floor"]["largest"] == pytest.approx(0.2)
    assert values["machine"]["packages"] == {"numpy": "2.0"}
    assert values["plan"]["n_prompt"] == 512
    assert values["notes"] == ["ram was left out: no"]
    assert len(values["runs"]) == 9
    assert values["runs"][0]["turn"]["decode"]["n_tokens"] == 10


@pytest.mark.parametrize(
    ("value", "n_digits", "text"),
    [
        (0.0, 3, "0.00"),
        (0.5, 3, "0.50"),
        (5, 3, "5.00"),
        (99.96, 3, "100.0"),
        (123.456, 4, "123.5"),
        (12345.6, 4, "12,346"),
        (1000, 3, "1,000"),
    ],
)
def test_numbers_are_as_long_as_they_need(
    value: float, n_digits: int, text: str
) -> None:
    assert _number(value, n_digits) == text
