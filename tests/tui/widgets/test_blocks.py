"""Parts of 1 as block characters."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from tui.widgets.blocks import NONE, STEPS, UNKNOWN, bar, cell, columns


def test_nothing_and_everything_have_signs_of_their_own() -> None:
    assert cell(None) == UNKNOWN
    assert cell(0.0) == NONE
    assert cell(1e-9) == STEPS[0]
    assert cell(1.0) == STEPS[-1]
    assert cell(0.999) == STEPS[-2]


def test_more_is_never_a_lower_cell() -> None:
    heights = [STEPS.index(cell(number / 1000)) for number in range(1, 1001)]
    assert heights == sorted(heights)
    assert set(heights) == set(range(len(STEPS)))


@pytest.mark.parametrize("part", [-1.0, 0.0, 1e-6, 0.3, 0.5, 1.0, 7.0])
@pytest.mark.parametrize("width", [0, 1, 10])
def test_a_bar_is_as_wide_as_asked(part: float, width: int) -> None:
    assert cell_len(bar(part, width)) == width


def test_a_bar_is_filled_up_to_its_part() -> None:
    assert bar(0.0, 4) == "    "
    assert bar(1e-6, 4) == "▏   "
    assert bar(0.5, 4) == "██  "
    assert bar(0.625, 4) == "██▌ "
    assert bar(2.0, 4) == "████"


def test_columns_stand_on_the_ground() -> None:
    assert columns([0.0, 0.5, 1.0, 0.001], 2, 3) == [
        "      ██    ",
        "   ██ ██ ▁▁ ",
    ]
