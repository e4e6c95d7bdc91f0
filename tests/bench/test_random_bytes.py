"""Random blocks of every type: finite, of ordinary size, no two pages alike."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
from numpy.typing import NDArray

from engram_local.bench import random_bytes
from engram_local.bench.random_bytes import RANDOM_TYPES, RandomBytes
from engram_local.spec import RowType
from engram_local.units import KIB

COARSE = (RowType.MXFP4, RowType.NVFP4)
"""Their scales are powers of two here."""


@pytest.fixture(autouse=True)
def small_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that tests are fast, and tables take several rounds."""
    monkeypatch.setattr(random_bytes, "_TILE_BYTES", 256 * KIB)


def decoded(row_type: RowType, std: float, n_rows: int = 500) -> NDArray[np.float32]:
    """Return rows of 256 values, by gguf-py."""
    row_bytes = row_type.row_bytes(256)
    raw = np.concatenate(list(RandomBytes(row_type, std=std).take(n_rows * row_bytes)))
    rows = raw.reshape(n_rows, row_bytes)
    plain = {RowType.F32: np.float32, RowType.F16: np.float16}
    if row_type in plain:
        return rows.view(plain[row_type]).astype(np.float32)
    kind = gguf.GGMLQuantizationType[row_type.name]
    return np.asarray(gguf.quants.dequantize(rows, kind), np.float32)


@pytest.mark.parametrize("std", [1.0, 0.05])
@pytest.mark.parametrize("row_type", RANDOM_TYPES)
def test_values_are_finite_and_as_large_as_asked(row_type: RowType, std: float) -> None:
    rows = decoded(row_type, std)
    assert np.isfinite(rows).all()
    rel = 0.42 if row_type in COARSE else 0.04  # a power of two is up to 1.41 off
    assert float(rows.std()) == pytest.approx(std, rel=rel)
    assert abs(float(rows.mean())) < 0.02 * std


@pytest.mark.parametrize("row_type", RANDOM_TYPES)
def test_no_two_rows_are_alike(row_type: RowType) -> None:
    """A wrong row would else pass for the right one. The tile is read round and round,
    but 256 values do not begin at the same place of it for a long time.
    """
    rows = decoded(row_type, 1.0)
    assert len(np.unique(rows, axis=0)) == len(rows)


def test_what_is_taken_goes_on_where_it_stopped() -> None:
    whole = np.concatenate(list(RandomBytes(RowType.Q4_K, std=1.0).take(144 * 40)))
    source = RandomBytes(RowType.Q4_K, std=1.0)
    parts = [chunk for _ in range(4) for chunk in source.take(144 * 10)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_all_types_are_made_that_ggml_knows() -> None:
    assert set(RANDOM_TYPES) == set(RowType) - {RowType.FP8}
