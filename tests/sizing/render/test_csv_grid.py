"""The grid as CSV."""

from __future__ import annotations

import csv
from dataclasses import replace
from io import StringIO

import pytest

from engram_local.sizing.render.csv_grid import HEAD, render_csv
from engram_local.sizing.report import Report
from tests.sizing.samples import DENSE, LAPTOP, MOE, SMALL, report_of


def rows_of(report: Report) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(render_csv(report))))


def test_there_is_a_line_for_each_cell() -> None:
    report = report_of(MOE, DENSE)
    cells = [cell for model in report.models for cell in model.grid]
    rows = rows_of(report)
    assert len(rows) == len(cells)
    for row, cell in zip(rows, cells, strict=True):
        assert int(row["vram_bytes"]) == cell.vram_bytes
        assert int(row["ram_bytes"]) == cell.ram_bytes
        assert int(row["n_ctx"]) == cell.n_ctx
        assert row["fits"] == ("yes" if cell.fits else "no")
        assert cell.decode_per_s is not None
        assert float(row["decode_per_s"]) == pytest.approx(cell.decode_per_s.value)
        assert float(row["prompt_per_s_high"]) > float(row["prompt_per_s_low"])


def test_all_lines_have_as_many_fields_as_the_head() -> None:
    lines = list(csv.reader(StringIO(render_csv(report_of(MOE)))))
    assert tuple(lines[0]) == HEAD
    assert {len(line) for line in lines} == {len(HEAD)}


def test_unknown_is_empty_and_said() -> None:
    rows = rows_of(report_of(SMALL, hardware=LAPTOP))
    mmap = next(row for row in rows if row["tier"] == "mmap" and not row["gpu"])
    assert mmap["decode_per_s"] == ""
    assert mmap["decode_source"] == "unknown"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", "\r=", " =", "\n+"])
def test_no_name_is_a_formula(start: str) -> None:
    spec = replace(DENSE, name=f'{start}HYPERLINK("x")')
    for row in rows_of(report_of(spec)):
        assert row["model"].startswith("'")


def test_other_names_stay_as_they_are() -> None:
    rows = rows_of(report_of(replace(DENSE, name='a, "b" - c')))
    assert {row["model"] for row in rows} == {'a, "b" - c'}
