"""Rows -> records: products of every weight type against numpy, odd sizes included."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from engram_local.memory.fusion import project
from engram_local.memory.module import FusionWeights
from engram_local.memory.projector import PRODUCTS, WEIGHT_TYPES, Projector
from engram_local.settings import MEMORY_WEIGHTS
from engram_local.spec import FusionSpec
from tests.fakes import normal, random_weights

F32 = NDArray[np.float32]
BOUNDS = {"int8": 0.02, "bf16": 0.01, "f32": 2e-6}
"""Largest error, relative to the largest value."""


def spec_of(hidden_size: int, n_branches: int = 2) -> FusionSpec:
    return FusionSpec(hidden_size=hidden_size, n_branches=n_branches, norm_epsilon=1e-6)


def records(weights: FusionWeights, spec: FusionSpec, kind: str, rows: F32) -> F32:
    out = np.full((len(rows), (spec.n_branches + 1) * spec.hidden_size), np.nan)
    return Projector(weights, spec, kind).project(rows, out.astype(np.float32))


def expected(weights: FusionWeights, spec: FusionSpec, rows: F32) -> F32:
    projection = project(rows, weights, spec)
    scale = weights.query_norm / np.sqrt(spec.hidden_size)
    keys = (projection.keys * scale).reshape(len(rows), -1)
    return np.concatenate([keys, projection.values], axis=1)


def relative_error(found: F32, wanted: F32) -> float:
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def test_the_setting_names_what_there_is() -> None:
    assert MEMORY_WEIGHTS == WEIGHT_TYPES == tuple(PRODUCTS)


@pytest.mark.parametrize("kind", WEIGHT_TYPES)
@pytest.mark.parametrize("n_tokens", [1, 15, 16, 17, 40])
@pytest.mark.parametrize(("hidden_size", "n_values"), [(16, 64), (7, 33), (5, 3)])
def test_records_equal_numpy(
    kind: str, n_tokens: int, hidden_size: int, n_values: int
) -> None:
    random = np.random.default_rng(hidden_size)
    spec = spec_of(hidden_size)
    weights = random_weights(spec, n_values, random, biases=True)
    rows = normal(random, n_tokens, n_values)
    found = records(weights, spec, kind, rows)
    assert relative_error(found, expected(weights, spec, rows)) < BOUNDS[kind]


@pytest.mark.parametrize("kind", ["int8", "bf16"])
def test_small_weights_round_something(kind: str) -> None:
    random = np.random.default_rng(3)
    weights = random_weights(spec_of(16), 64, random)
    rows = normal(random, 8, 64)
    found = records(weights, spec_of(16), kind, rows)
    assert relative_error(found, expected(weights, spec_of(16), rows)) > 1e-4


@pytest.mark.parametrize("kind", WEIGHT_TYPES)
def test_a_token_has_the_same_bits_alone_and_among_others(kind: str) -> None:
    random = np.random.default_rng(4)
    weights = random_weights(spec_of(9), 50, random)
    rows = normal(random, 37, 50)
    together = records(weights, spec_of(9), kind, rows)
    alone = [
        records(weights, spec_of(9), kind, rows[i : i + 1])[0] for i in range(len(rows))
    ]
    np.testing.assert_array_equal(together, np.stack(alone))


@pytest.mark.parametrize("kind", WEIGHT_TYPES)
def test_a_line_of_zeros_stays_zero(kind: str) -> None:
    random = np.random.default_rng(5)
    spec = spec_of(8, n_branches=1)
    weights = random_weights(spec, 32, random)
    value = weights.value.copy()
    value[3] = 0
    found = records(replace(weights, value=value), spec, kind, normal(random, 4, 32))
    assert np.isfinite(found).all()
    assert (found[:, 8 + 3] == 0).all()
    assert (found[:, 8 + 4] != 0).all()
