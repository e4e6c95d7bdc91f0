"""Rates by the type of weights."""

from __future__ import annotations

import pytest

from engram_local.figures import Figure, Source
from engram_local.hardware import Compute, TypeRate


def measured(value: float) -> Figure:
    return Figure(value, Source.MEASURED)


def rate(name: str, bytes_per_s: float, flops_per_s: float) -> TypeRate:
    return TypeRate(
        name=name,
        weight_bytes_per_s=measured(bytes_per_s),
        flops_per_s=measured(flops_per_s),
    )


PROBED = Compute(
    layer_s=measured(0.1), types=(rate("Q4_0", 40, 450), rate("Q4_1", 10, 50))
)


def test_without_types_one_rate_is_that_of_all() -> None:
    plain = Compute(weight_bytes_per_s=measured(500.0))
    assert plain.for_type("Q4_K_M") is plain


@pytest.mark.parametrize("name", ["Q4_1", "q4_1"])
def test_a_type_that_was_measured_has_its_own_rates(name: str) -> None:
    own = PROBED.for_type(name)
    assert own.weight_bytes_per_s == measured(10.0)
    assert own.flops_per_s == measured(50.0)
    assert own.layer_s == PROBED.layer_s


def test_another_type_is_estimated_from_those_that_were() -> None:
    own = PROBED.for_type("Q4_K_M")
    assert own.weight_bytes_per_s is not None and own.flops_per_s is not None
    assert own.weight_bytes_per_s.value == pytest.approx(20.0)
    assert own.flops_per_s.value == pytest.approx(150.0)
    assert own.weight_bytes_per_s.source is Source.ESTIMATED
