"""Rows + hidden state -> delta: DeepSeek's own numbers, and the slow reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engram_local.memory import reference
from engram_local.memory.fusion import Fusion, project, rms_norm
from engram_local.memory.module import FusionWeights
from engram_local.spec import FusionSpec
from tests.fakes import normal, random_weights, read_golden

F32 = NDArray[np.float32]
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Case:
    """One layer and a sequence for it."""

    spec: FusionSpec
    weights: FusionWeights
    rows: F32
    """(n_tokens, E)"""

    hidden: F32
    """(n_tokens, B, d)"""

    def with_hidden(self, hidden: F32) -> Case:
        return replace(self, hidden=hidden)

    def new_fusion(self, history_bytes: int = MIB) -> Fusion:
        return Fusion(self.weights, self.spec, history_bytes=history_bytes)

    def part(self, fusion: Fusion, start: int, end: int) -> F32:
        """Return the delta of some positions."""
        projection = project(self.rows[start:end], self.weights, self.spec)
        return fusion.delta(projection, self.hidden[start:end])[0]

    def in_chunks(self, lengths: Sequence[int], history_bytes: int = MIB) -> F32:
        """Return the delta of the whole sequence, chunk by chunk."""
        fusion = self.new_fusion(history_bytes)
        ends = np.cumsum(lengths).tolist()
        assert ends[-1] == len(self.rows)
        starts = [0, *ends[:-1]]
        pairs = zip(starts, ends, strict=True)
        return np.concatenate([self.part(fusion, *pair) for pair in pairs])

    def expected(self) -> NDArray[np.float64]:
        rows, hidden = self.rows.astype(np.float64), self.hidden.astype(np.float64)
        return reference.delta(rows, hidden, self.weights, self.spec)[0]


def chunkings(n_tokens: int) -> dict[str, list[int]]:
    uneven = [1, 7, 2, n_tokens - 10]
    return {"batch": [n_tokens], "step by step": [1] * n_tokens, "uneven": uneven}


def assert_close(found: NDArray[Any], expected: NDArray[Any], relative: float) -> None:
    """Compare against the size of the whole: single values may cancel to zero."""
    error = np.abs(found - expected).max() / np.abs(expected).max()
    assert error <= relative


# --- the numbers of DeepSeek's demo ---------------------------------------------------


def golden_case(golden: Path, name: str, layer_id: int) -> tuple[Case, F32]:
    arrays, meta = read_golden(golden / f"{name}.safetensors")
    layer = {
        key.removeprefix(f"{layer_id}."): array
        for key, array in arrays.items()
        if key.startswith(f"{layer_id}.")
    }
    branches = range(meta["hc_mult"])

    def stack(pattern: str) -> F32:
        return np.stack([layer[pattern.format(branch)] for branch in branches])

    embedding = layer["multi_head_embedding.embedding.weight"]
    n_tokens = len(arrays["token_ids"])
    spec = FusionSpec(
        hidden_size=meta["hidden_size"],
        n_branches=meta["hc_mult"],
        conv_kernel=meta["kernel_size"],
        conv_dilation=meta["max_ngram_size"],
    )
    weights = FusionWeights(
        key=np.concatenate([layer[f"key_projs.{b}.weight"] for b in branches]),
        key_bias=np.concatenate([layer[f"key_projs.{b}.bias"] for b in branches]),
        value=layer["value_proj.weight"],
        value_bias=layer["value_proj.bias"],
        key_norm=stack("norm1.{}.weight"),
        query_norm=stack("norm2.{}.weight"),
        conv_norm=stack("short_conv.norms.{}.weight"),
        conv=layer["short_conv.conv.weight"][:, 0],
    )
    rows = embedding[layer["row_ids"]].reshape(n_tokens, -1)
    return Case(spec, weights, rows, layer["hidden"]), layer["delta"]


@pytest.mark.parametrize("chunking", ["batch", "step by step", "uneven"])
@pytest.mark.parametrize(
    ("name", "layer_id"), [("demo_a", 1), ("demo_a", 15), ("demo_b", 2), ("demo_b", 5)]
)
def test_delta_equals_that_of_deepseeks_demo(
    golden: Path, name: str, layer_id: int, chunking: str
) -> None:
    case, delta = golden_case(golden, name, layer_id)
    found = case.in_chunks(chunkings(len(delta))[chunking])
    assert found.dtype == np.float32
    assert_close(found, delta, 1e-5)


@pytest.mark.parametrize(("name", "layer_id"), [("demo_a", 1), ("demo_b", 5)])
def test_reference_equals_deepseeks_demo(
    golden: Path, name: str, layer_id: int
) -> None:
    case, delta = golden_case(golden, name, layer_id)
    assert_close(case.expected(), delta, 1e-5)


# --- the slow reference ---------------------------------------------------------------


def make_case(
    *,
    n_branches: int = 1,
    conv_kernel: int = 4,
    biases: bool = False,
    dilation: int = 3,
    n_tokens: int = 40,
) -> Case:
    random = np.random.default_rng(n_branches + 10 * conv_kernel + 100 * biases)
    spec = FusionSpec(
        hidden_size=16,
        n_branches=n_branches,
        conv_kernel=conv_kernel,
        conv_dilation=dilation,
        norm_epsilon=1e-6,
    )
    return Case(
        spec,
        random_weights(spec, 24, random, biases=biases),
        normal(random, n_tokens, 24),
        normal(random, n_tokens, n_branches, 16) * 3,
    )


@pytest.mark.parametrize("chunking", ["batch", "step by step", "uneven"])
@pytest.mark.parametrize("biases", [False, True])
@pytest.mark.parametrize("conv_kernel", [0, 1, 4])
@pytest.mark.parametrize("n_branches", [1, 4])
def test_fusion_equals_the_reference(
    n_branches: int, conv_kernel: int, biases: bool, chunking: str
) -> None:
    case = make_case(n_branches=n_branches, conv_kernel=conv_kernel, biases=biases)
    found = case.in_chunks(chunkings(40)[chunking])
    assert_close(found, case.expected(), 2e-6)


@pytest.mark.parametrize("n_branches", [1, 4])
def test_gates_equal_the_reference(n_branches: int) -> None:
    case = make_case(n_branches=n_branches, biases=True)
    projection = project(case.rows, case.weights, case.spec)
    _, gates = case.new_fusion().delta(projection, case.hidden)
    _, expected = reference.delta(
        case.rows.astype(np.float64),
        case.hidden.astype(np.float64),
        case.weights,
        case.spec,
    )
    assert gates.shape == (40, n_branches)
    assert_close(gates, expected, 2e-6)
    assert gates.min() < 0.3 < 0.7 < gates.max()


def test_the_gate_is_open_halfway_where_the_score_is_zero() -> None:
    case = make_case()
    projection = project(case.rows, case.weights, case.spec)
    _, gates = case.new_fusion().delta(projection, np.zeros_like(case.hidden))
    np.testing.assert_array_equal(gates, 0.5)


def test_small_scores_are_lifted_before_the_square_root() -> None:
    """sign(s) * sqrt(max(|s|, 1e-6)): a score of 1e-12 counts as 1e-6."""
    spec = FusionSpec(hidden_size=1, norm_epsilon=1.0)
    one = np.ones((1, 1), np.float32)
    weights = FusionWeights(key=one, value=one, key_norm=one, query_norm=one)
    projection = project(one, weights, spec)
    hidden = np.array([[[1e-12]], [[-1e-12]]], np.float32)
    both = replace_tokens(projection, 2)
    _, gates = Fusion(weights, spec, history_bytes=0).delta(both, hidden)
    expected = 1 / (1 + np.exp(-np.array([1e-3, -1e-3])))
    np.testing.assert_allclose(gates[:, 0], expected, rtol=1e-6)


def replace_tokens(projection: Any, n_tokens: int) -> Any:
    """Repeat the first token."""
    return replace(
        projection,
        keys=np.repeat(projection.keys[:1], n_tokens, axis=0),
        values=np.repeat(projection.values[:1], n_tokens, axis=0),
    )


def test_branches_read_their_own_stream() -> None:
    case = make_case(n_branches=4, conv_kernel=0)
    changed = case.hidden.copy()
    changed[:, 2] += 1
    other = replace(case, hidden=changed).in_chunks([40])
    same = case.in_chunks([40])
    np.testing.assert_array_equal(same[:, [0, 1, 3]], other[:, [0, 1, 3]])
    assert (same[:, 2] != other[:, 2]).any()


def test_the_last_tap_is_the_current_position() -> None:
    case = make_case(n_tokens=12)
    assert case.weights.conv is not None
    only_last = np.zeros_like(case.weights.conv)
    only_last[:, -1] = case.weights.conv[:, -1]
    one = replace(case, weights=replace(case.weights, conv=only_last))
    whole = one.in_chunks([12])
    alone = one.part(one.new_fusion(), 5, 6)
    np.testing.assert_allclose(whole[5:6], alone, rtol=1e-5, atol=1e-6)


def test_large_convolution_outputs_warn_of_nothing() -> None:
    """exp(-x) overflows below -88; SiLU is zero there all the same."""
    case = make_case()
    assert case.weights.conv is not None
    loud = replace(case.weights, conv=case.weights.conv * 1000)
    found = replace(case, weights=loud).in_chunks([40])
    assert np.isfinite(found).all()


def test_large_scores_warn_of_nothing() -> None:
    case = make_case()
    loud = replace(case.weights, query_norm=case.weights.query_norm * 1e6)
    found = replace(case, weights=loud).in_chunks([40])
    assert np.isfinite(found).all()


def test_rms_norm_of_zeros_is_zero() -> None:
    zeros = np.zeros((2, 8), np.float32)
    found = rms_norm(zeros, np.ones(8, np.float32), 1e-20)
    np.testing.assert_array_equal(found, zeros)


def test_rms_norm_survives_the_epsilon_of_deepseek_v41() -> None:
    tiny = np.full((1, 8), 1e-8, np.float32)
    found = rms_norm(tiny, np.ones(8, np.float32), 1e-20)
    np.testing.assert_allclose(found, 1.0, rtol=1e-3)


# --- going back -----------------------------------------------------------------------


@pytest.mark.parametrize("n_dropped", [1, 5, 9, 20])
@pytest.mark.parametrize("history_bytes", [0, MIB])
def test_trim_then_other_tokens_equals_a_fresh_run(
    n_dropped: int, history_bytes: int
) -> None:
    case = make_case(n_branches=2)
    kept = 30 - n_dropped
    fusion = case.new_fusion(history_bytes)
    case.part(fusion, 0, 30)
    assert fusion.drop(n_dropped)
    other = Case(
        case.spec,
        case.weights,
        np.concatenate([case.rows[:kept], case.rows[30:]]),
        np.concatenate([case.hidden[:kept], case.hidden[30:]]),
    )
    found = other.part(fusion, kept, kept + 10)
    assert_close(found, other.expected()[kept:], 2e-6)


@pytest.mark.parametrize("seed", range(8))
def test_any_mixture_of_chunks_and_trims_equals_a_fresh_run(seed: int) -> None:
    random = np.random.default_rng(seed)
    case = make_case(n_branches=2, n_tokens=300)
    fusion = case.new_fusion(history_bytes=60 * 2 * 16 * 4)
    kept: list[int] = []
    found: list[F32] = []
    for _ in range(40):
        start, n_tokens = int(random.integers(0, 280)), int(random.integers(1, 12))
        found += list(case.part(fusion, start, start + n_tokens))
        kept += range(start, start + n_tokens)
        n_dropped = int(random.integers(0, min(len(kept), 15)))
        if random.random() < 0.3 and fusion.drop(n_dropped):
            del kept[len(kept) - n_dropped :], found[len(found) - n_dropped :]
    other = Case(case.spec, case.weights, case.rows[kept], case.hidden[kept])
    assert len(kept) > 60  # the history was shifted
    assert_close(np.stack(found), other.expected(), 2e-6)


def test_dropping_too_far_changes_nothing() -> None:
    case = make_case()
    fusion = case.new_fusion()
    case.part(fusion, 0, 30)
    assert not fusion.drop(31)
    assert_close(case.part(fusion, 30, 40), case.expected()[30:], 2e-6)


def test_a_bounded_history_says_when_the_way_back_is_too_long() -> None:
    case = make_case(n_tokens=200)
    row_bytes = 4 * case.spec.hidden_size
    fusion = case.new_fusion(history_bytes=50 * row_bytes)
    for position in range(150):
        case.part(fusion, position, position + 1)
    assert not fusion.drop(100)
    assert_close(case.part(fusion, 150, 200), case.expected()[150:], 2e-6)


def test_without_a_convolution_every_way_back_is_open() -> None:
    fusion = make_case(conv_kernel=0).new_fusion()
    assert fusion.drop(10**9)


def test_reset_begins_a_new_sequence() -> None:
    case = make_case()
    fusion = case.new_fusion()
    case.part(fusion, 0, 40)
    fusion.reset()
    assert_close(case.part(fusion, 0, 40), case.expected(), 2e-6)
