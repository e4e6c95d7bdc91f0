"""Numbers for people."""

from __future__ import annotations

import pytest

from engram_local.figures import Interval, Source
from engram_local.sizing.render.numbers import (
    UNKNOWN,
    bandwidth,
    between,
    in_unit,
    number,
    operations,
    parameters,
    span,
    unit_of,
)
from engram_local.units import GIB, KIB, MIB


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.00059, "0.00059"),
        (0.0532, "0.053"),
        (0.59, "0.59"),
        (0.999, "1.0"),
        (5.24, "5.2"),
        (9.96, "10"),
        (36.4, "36"),
        (99.7, "100"),
        (241.3, "241"),
        (999.6, "1,000"),
        (1244, "1,240"),
        (410_000, "410,000"),
        (-36.4, "-36"),
    ],
)
def test_two_or_three_digits_are_told(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_is_unknown(value: float) -> None:
    assert number(value) == UNKNOWN


def test_an_interval_is_a_number_and_its_range() -> None:
    interval = Interval(15.2, 36.2, 50.9, Source.ESTIMATED)
    assert between(interval) == "36 (15 to 51)"
    assert span(interval) == "36 (15-51)"


def test_an_interval_without_width_is_a_number() -> None:
    interval = Interval(0.0, 0.0, 0.0, Source.EXACT)
    assert between(interval) == span(interval) == "0"


def test_a_column_has_the_unit_of_its_largest_size() -> None:
    assert unit_of(24 * GIB) == (GIB, "GiB")
    assert unit_of(GIB - 1) == (MIB, "MiB")
    assert unit_of(12) == (KIB, "KiB")


def test_a_size_that_is_not_zero_does_not_look_like_it() -> None:
    assert in_unit(24 * GIB, GIB) == "24.00"
    assert in_unit(1, GIB) == "< 0.01"
    assert in_unit(-1, GIB) == "> -0.01"
    assert in_unit(0, GIB) == "0.00"


def test_rates_are_written_as_on_datasheets() -> None:
    assert bandwidth(1008e9) == "1,008 GB/s"
    assert bandwidth(6.14e9) == "6.1 GB/s"
    assert operations(165e12) == "165 TFLOPS"
    assert operations(240e9) == "240 GFLOPS"
    assert parameters(176_000_000_000) == "176 B"
    assert parameters(134_500_000) == "134 M"
