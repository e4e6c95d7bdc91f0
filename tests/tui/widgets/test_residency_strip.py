"""Parts of a table as strips and sentences."""

from __future__ import annotations

import random

import pytest

from engram_local.events import TableStrip
from engram_local.units import MIB
from tui.widgets.residency_strip import resample, resident_text, strip_text


def strip_of(*resident: float | None) -> TableStrip:
    return TableStrip(
        layer_id=2, n_rows=1000, table_bytes=int(8.3 * MIB), resident=resident
    )


@pytest.mark.parametrize("n_cells", [1, 3, 16, 48, 100])
def test_a_strip_is_as_wide_as_asked(n_cells: int) -> None:
    assert len(strip_text([0.5] * 48, n_cells)) == n_cells
    assert len(strip_text([], n_cells)) == n_cells


@pytest.mark.parametrize("factor", [1, 2, 3, 8])
def test_fewer_cells_have_the_same_mean(factor: int) -> None:
    draw = random.Random(factor)
    parts = [draw.random() for _ in range(24)]
    cells = resample(parts, 24 // factor)
    assert sum(c for c in cells if c is not None) / len(cells) == pytest.approx(
        sum(parts) / len(parts)
    )


def test_more_cells_repeat_what_there_is() -> None:
    assert resample([0.0, 1.0], 4) == [0.0, 0.0, 1.0, 1.0]


def test_a_cell_with_something_unknown_is_unknown() -> None:
    assert strip_text([1.0, None, 0.0, 1.0], 2) == "░▄"


def test_sentences_say_how_much_of_what() -> None:
    assert resident_text(strip_of(1.0, 0.24)) == "62 % of 8.3 MiB in RAM"
    assert resident_text(strip_of(1.0, 1.0)) == "100 % of 8.3 MiB in RAM"
    assert resident_text(strip_of(0.0, 0.0)) == "0 % of 8.3 MiB in RAM"


def test_only_all_is_100_and_only_nothing_is_0() -> None:
    assert resident_text(strip_of(1.0, 0.9999)).startswith("99 %")
    assert resident_text(strip_of(0.0, 0.0001)).startswith("1 %")


def test_unknown_is_said_and_never_counted() -> None:
    assert resident_text(strip_of(None, None)) == (
        "8.3 MiB, unknown: the system does not tell, or the file is another's"
    )
    assert resident_text(strip_of(1.0, None)) == (
        "100 % in RAM of the 50 % of 8.3 MiB that is known"
    )
