"""The compiled gate and convolution: DeepSeek's own numbers, and the slow reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engram_local.memory.fuse import fuse
from engram_local.memory.projector import Projector
from tests.memory.test_fusion import (
    Case,
    assert_close,
    chunkings,
    golden_case,
    make_case,
)

F32 = NDArray[np.float32]


def run(
    case: Case, lengths: Sequence[int], *, n_history: int | None = None
) -> tuple[F32, float]:
    """Return the delta of a whole sequence, (n_tokens, B, d), and the gates' sum."""
    spec, weights = case.spec, case.weights
    width = spec.n_branches * spec.hidden_size
    records = np.empty((len(case.rows), width + spec.hidden_size), np.float32)
    Projector(weights, spec, "f32").project(case.rows, records)
    taps = np.zeros((0, width), np.float32) if weights.conv is None else weights.conv.T
    norm = weights.conv_norm
    history = np.full((n_history or len(case.rows), width), np.nan, np.float32)
    changed, gates, start = case.hidden.copy(), 0.0, 0
    means = np.full(len(case.rows), np.nan, np.float32)
    for length in lengths:
        end = start + length
        gates += fuse(
            changed[start:end],
            records[start:end],
            start,
            history,
            np.ascontiguousarray(taps),
            np.zeros((spec.n_branches, spec.hidden_size), np.float32)
            if norm is None
            else norm,
            spec.conv_dilation,
            spec.norm_epsilon,
            spec.conv_norm_epsilon,
            np.empty((2, spec.hidden_size), np.float32),
            means[start:end],
        )
        start = end
    assert start == len(case.rows)
    assert np.isclose(means.sum() * spec.n_branches, gates)
    return changed - case.hidden, gates


@pytest.mark.parametrize("chunking", ["batch", "step by step", "uneven"])
@pytest.mark.parametrize(
    ("name", "layer_id"), [("demo_a", 1), ("demo_a", 15), ("demo_b", 2), ("demo_b", 5)]
)
def test_delta_equals_that_of_deepseeks_demo(
    golden: Path, name: str, layer_id: int, chunking: str
) -> None:
    case, delta = golden_case(golden, name, layer_id)
    found, _ = run(case, chunkings(len(delta))[chunking])
    assert_close(found, delta, 1e-5)


@pytest.mark.parametrize("chunking", ["batch", "step by step", "uneven"])
@pytest.mark.parametrize("biases", [False, True])
@pytest.mark.parametrize("conv_kernel", [0, 1, 4])
@pytest.mark.parametrize("n_branches", [1, 4])
def test_fuse_equals_the_reference(
    n_branches: int, conv_kernel: int, biases: bool, chunking: str
) -> None:
    case = make_case(n_branches=n_branches, conv_kernel=conv_kernel, biases=biases)
    found, _ = run(case, chunkings(40)[chunking])
    assert_close(found, case.expected(), 2e-6)


@pytest.mark.parametrize("n_branches", [1, 4])
def test_branches_may_share_one_stream(n_branches: int) -> None:
    own = make_case(n_branches=n_branches)
    shared = own.with_hidden(np.repeat(own.hidden[:, :1], n_branches, axis=1))
    one = own.with_hidden(np.ascontiguousarray(own.hidden[:, :1]))
    found, _ = run(one, [13, 27])
    assert_close(found[:, 0], shared.expected().sum(axis=1), 2e-6)


def test_the_gates_are_summed() -> None:
    case = make_case(n_branches=2)
    silent = case.with_hidden(np.zeros_like(case.hidden))
    assert run(silent, [40])[1] == 80 * 0.5  # a score of zero opens halfway


def test_a_ring_as_long_as_the_reach_is_enough() -> None:
    case = make_case(conv_kernel=4, dilation=3)
    found, _ = run(case, [1] * 40, n_history=case.spec.reach + 1)
    assert_close(found, case.expected(), 2e-6)


def test_loud_numbers_stay_finite() -> None:
    """exp overflows below -88; gate and SiLU are zero there all the same."""
    case = make_case()
    assert case.weights.conv is not None
    weights = replace(
        case.weights,
        conv=case.weights.conv * 1000,
        query_norm=case.weights.query_norm * 1e6,
    )
    found, gates = run(replace(case, weights=weights), [40])
    assert np.isfinite(found).all()
    assert 0 < gates < 40
