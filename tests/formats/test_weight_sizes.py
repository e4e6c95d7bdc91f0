"""Bytes of weights by what they are for."""

from __future__ import annotations

import pytest

from engram_local.formats.weight_sizes import (
    active_params,
    computed_weights,
    row_bytes,
    split_bytes,
)
from engram_local.model_spec import Part, TableShape

PARAMS = {
    Part.EMBEDDING: 320,
    Part.LAYERS: 640,
    Part.EXPERTS: 6_400,
    Part.UNUSED: 32_000,
}
TABLE = TableShape(
    layer_id=1, n_rows=10, width=64, rows_per_token=2, orders=(2,), n_heads=2
)


def test_a_split_keeps_the_sum() -> None:
    for n_bytes in (0, 1, 7, 1_000_003):
        parts = split_bytes(n_bytes, {Part.LAYERS: 3, Part.EXPERTS: 4, Part.OUTPUT: 0})
        assert sum(parts.values()) == n_bytes
        assert Part.OUTPUT not in parts
    assert parts[Part.LAYERS] == 1_000_003 * 3 // 7


def test_active_parameters() -> None:
    found = [
        active_params(PARAMS, n_experts=10, n_experts_used=2, tied_output=tied)
        for tied in (True, False)
    ]
    assert found == [320 + 640 + 1_280, 640 + 1_280]


@pytest.mark.parametrize(
    ("width", "bits", "n_bytes"),
    [
        (256, 16.0, 512),
        (256, 8.5, 272),
        (256, 4.85, 144),
        (160, 4.85, 90),
        (160, 8.5, 170),
        (80, 4.85, 160),  # no block fits
    ],
)
def test_bytes_of_a_row(width: int, bits: float, n_bytes: int) -> None:
    assert row_bytes(width, bits) == n_bytes


def test_computed_weights_leave_out_what_is_not_loaded() -> None:
    small, medium, large = computed_weights(PARAMS, [TABLE])
    assert (small.name, medium.name, large.name) == ("Q4_K_M", "Q8_0", "BF16")
    assert large.parts == {
        Part.EMBEDDING: 640,
        Part.LAYERS: 1_280,
        Part.EXPERTS: 12_800,
        Part.TABLE: 1_280,
    }
    assert medium.part(Part.TABLE) == 10 * 68
    assert medium.table_row_bytes == 68
    for weights in (small, medium, large):
        assert sum(weights.parts.values()) == weights.file_bytes
    assert [one.name for one in computed_weights(PARAMS, [], ("Q8_0",))] == ["Q8_0"]
