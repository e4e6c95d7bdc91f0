"""The slow, obvious version of the memory, for tests. One position at a time.

Follows the published formulas line by line; every fast path must agree with it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engram_local.memory.module import FusionWeights
from engram_local.spec import Boundary, FusionSpec, HashSpec

F64 = NDArray[np.float64]

_MASK = 2**64 - 1


def row_ids(canonical_ids: list[int], spec: HashSpec) -> list[list[int]]:
    """Return the rows of each position of a whole sequence, in Python integers."""
    return [
        _rows_at(canonical_ids[: position + 1], spec)
        for position in range(len(canonical_ids))
    ]


def _rows_at(ids: list[int], spec: HashSpec) -> list[int]:
    window = _window(ids, spec)
    rows = []
    for order in spec.orders:
        mixed = 0
        for shift, multiplier in zip(
            spec.shifts(order), spec.multipliers, strict=False
        ):
            mixed ^= (window[shift] * multiplier) & _MASK
        for head in range(spec.n_heads):
            slot = (order - spec.min_ngram) * spec.n_heads + head
            rows.append(spec.offsets[slot] + mixed % spec.sizes[slot])
    return rows


def _window(ids: list[int], spec: HashSpec) -> list[int]:
    """The current id and those before it, newest first, by the boundary rule."""
    window, hidden = [], False
    for shift in range(spec.max_ngram):
        missing = shift >= len(ids) or ids[-1 - shift] < 0
        eos = (
            spec.boundary is Boundary.EOS
            and shift > 0
            and not missing
            and ids[-1 - shift] == spec.fill_id
        )
        hidden = hidden or missing or eos
        window.append(spec.fill_id if hidden else ids[-1 - shift])
    return window


def delta(
    rows: F64, hidden: F64, weights: FusionWeights, spec: FusionSpec
) -> tuple[F64, F64]:
    """Return what a whole sequence adds, and its gates, in float64.

    rows: (n_tokens, E), hidden: (n_tokens, B, d). Returns (n_tokens, B, d) and
    (n_tokens, B).
    """
    gates = np.zeros(hidden.shape[:2])
    gated = np.zeros(hidden.shape)
    for position in range(len(rows)):
        value = _value(rows[position], weights)
        for branch in range(spec.n_branches):
            key = _key(rows[position], branch, weights, spec)
            query = _rms_norm(
                hidden[position, branch], weights.query_norm[branch], spec.norm_epsilon
            )
            gates[position, branch] = _gate(key, query)
            gated[position, branch] = gates[position, branch] * value
    return gated + _convolution(gated, weights, spec), gates


def _value(row: F64, weights: FusionWeights) -> F64:
    value: F64 = weights.value.astype(np.float64) @ row
    return value if weights.value_bias is None else value + weights.value_bias


def _key(row: F64, branch: int, weights: FusionWeights, spec: FusionSpec) -> F64:
    part = slice(branch * spec.hidden_size, (branch + 1) * spec.hidden_size)
    key: F64 = weights.key[part].astype(np.float64) @ row
    if weights.key_bias is not None:
        key = key + weights.key_bias[part]
    return _rms_norm(key, weights.key_norm[branch], spec.norm_epsilon)


def _rms_norm(vector: F64, weight: NDArray[np.float32], epsilon: float) -> F64:
    normed: F64 = vector / np.sqrt(np.mean(vector**2) + epsilon) * weight
    return normed


def _gate(key: F64, query: F64) -> float:
    score = float(key @ query) / np.sqrt(len(key))
    root = np.sqrt(max(abs(score), 1e-6))
    return float(_sigmoid(np.sign(score) * root))


def _convolution(gated: F64, weights: FusionWeights, spec: FusionSpec) -> F64:
    """y[t] = SiLU(sum over taps i of w[i] * norm(u[t - (K - 1 - i) * dilation]))."""
    out = np.zeros(gated.shape)
    if not spec.conv_kernel:
        return out
    assert weights.conv is not None and weights.conv_norm is not None
    for position in range(len(gated)):
        for branch in range(spec.n_branches):
            taps = weights.conv.reshape(*gated.shape[1:], spec.conv_kernel)[branch]
            total = np.zeros(spec.hidden_size)
            for tap in range(spec.conv_kernel):
                source = position - (spec.conv_kernel - 1 - tap) * spec.conv_dilation
                if source >= 0:  # before the sequence there are zeros
                    total += taps[:, tap] * _rms_norm(
                        gated[source, branch],
                        weights.conv_norm[branch],
                        spec.conv_norm_epsilon,
                    )
            out[position, branch] = total * _sigmoid(total)
    return out


def _sigmoid(number: F64) -> F64:
    return 1 / (1 + np.exp(-number))
