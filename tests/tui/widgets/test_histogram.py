"""Counts per bin as columns and bounds."""

from __future__ import annotations

import random
from itertools import accumulate

import pytest

from engram_local.telemetry import STALL_EDGES_MS
from tui.widgets.blocks import STEPS
from tui.widgets.histogram import (
    bin_of,
    bin_text,
    histogram_lines,
    quantiles_text,
    short_count,
)

N_BINS = len(STALL_EDGES_MS) + 1


def counts_of(seed: int) -> list[int]:
    draw = random.Random(seed)
    return [draw.choice([0, 0, 1, 7, 1000, 10**6]) for _ in range(N_BINS)]


@pytest.mark.parametrize("seed", range(20))
def test_as_many_steps_as_a_quantile_says_are_at_or_below_its_bin(seed: int) -> None:
    counts = counts_of(seed)
    sums = list(accumulate(counts))
    for part in (0.0, 0.5, 0.95, 1.0):
        number = bin_of(counts, part)
        assert number is not None
        assert counts[number] > 0
        assert sums[number] >= part * sums[-1]
        assert number == 0 or sums[number - 1] <= part * sums[-1]


def test_a_bin_is_a_bound() -> None:
    assert bin_text(2) == "<= 0.1 ms"
    assert bin_text(N_BINS - 1) == "> 100 ms"


def test_quantiles_are_the_bounds_of_their_bins() -> None:
    counts = [0] * N_BINS
    counts[0], counts[2], counts[-1] = 90, 9, 1
    assert quantiles_text(counts) == "p50 <= 0.01 ms · p95 <= 0.1 ms · max > 100 ms"


def test_without_steps_there_is_no_quantile() -> None:
    assert bin_of([0] * N_BINS, 0.5) is None
    assert quantiles_text([0] * N_BINS) == "no steps yet"
    assert quantiles_text([]) == "no steps yet"
    assert [line.strip() for line in histogram_lines([], 60, 2)][:2] == ["", ""]


def test_counts_stand_under_their_columns() -> None:
    counts = [5, 0, 12345, *[0] * (N_BINS - 4), 1]
    *rows, bounds, numbers = histogram_lines(counts, 60, 3)
    assert numbers.split() == ["5", "12k", "1"]
    assert bounds.split() == [
        ".01",
        ".03",
        ".1",
        ".3",
        "1",
        "3",
        "10",
        "30",
        "100",
        ">100",
    ]
    assert numbers.index("12k") == bounds.index(".1 ") == rows[-1].index("█", 10)
    assert {len(line) for line in (*rows, bounds, numbers)} == {60}


@pytest.mark.parametrize("seed", range(10))
def test_every_count_that_is_not_0_has_a_column(seed: int) -> None:
    counts = counts_of(seed)
    ground = histogram_lines(counts, 50, 4)[3]
    assert [ground[5 * one] in STEPS for one in range(N_BINS)] == [
        count > 0 for count in counts
    ]


def test_counts_are_short_and_never_rounded_up() -> None:
    given = [0, 9, 999, 1000, 9999, 10_000, 999_999, 10**6, 10**13]
    assert [short_count(count) for count in given] == [
        "0",
        "9",
        "999",
        "1.0k",
        "9.9k",
        "10k",
        "999k",
        "1.0M",
        "10T",
    ]
    assert all(len(short_count(count)) <= 4 for count in given)
