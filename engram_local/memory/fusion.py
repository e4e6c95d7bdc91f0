"""Rows + hidden state -> delta: projection, gate and short convolution, in float32.

In plain numpy: what `--reference` runs, and what the compiled projector.py and fuse.py
are compared with. `project` depends on tokens alone, `Fusion.delta` needs the hidden
state.

Source of the formulas: deepseek-ai/Engram, engram_demo_v1.py, commit 11a020e5. The
signed square root in the gate is in that code, not in the paper's equation 4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engram_local.memory.history import History
from engram_local.memory.module import FusionWeights
from engram_local.spec import FusionSpec

F32 = NDArray[np.float32]

_LEAST_SCORE = np.float32(1e-6)


@dataclass(frozen=True, slots=True)
class Projection:
    """What the rows of some tokens contribute, before the hidden state is known."""

    keys: F32
    """(n_tokens, n_branches, d): normalised."""

    values: F32
    """(n_tokens, d)"""


def project(rows: F32, weights: FusionWeights, spec: FusionSpec) -> Projection:
    """Return keys and values of concatenated rows: (n_tokens, E) float32.

    Depends on tokens alone. Pure, so safe from any thread.
    """
    keys = rows @ weights.key.T  # (n_tokens, B * d)
    values = rows @ weights.value.T  # (n_tokens, d)
    if weights.key_bias is not None:
        keys += weights.key_bias
    if weights.value_bias is not None:
        values += weights.value_bias
    keys = keys.reshape(len(rows), spec.n_branches, spec.hidden_size)
    return Projection(rms_norm(keys, weights.key_norm, spec.norm_epsilon), values)


def rms_norm(vectors: F32, weight: F32, epsilon: float) -> F32:
    """Return `vectors` over their root mean square, along the last axis."""
    square = np.mean(np.square(vectors), axis=-1, keepdims=True, dtype=np.float32)
    normed: F32 = np.divide(vectors, np.sqrt(square + np.float32(epsilon))) * weight
    return normed


class Fusion:
    """One layer's gate and convolution, with the history that follows the sequence.

    Not safe from several threads: the history belongs to one sequence.
    """

    def __init__(
        self, weights: FusionWeights, spec: FusionSpec, *, history_bytes: int
    ) -> None:
        self._weights = weights
        self._spec = spec
        self._history = History(
            reach=spec.reach,
            width=spec.n_branches * spec.hidden_size,
            max_bytes=history_bytes if spec.reach else 0,
        )

    def reset(self) -> None:
        """Forget the sequence."""
        self._history.reset()

    def drop(self, n_tokens: int) -> bool:
        """Forget the last `n_tokens` positions; False if they are too far back."""
        return self._history.drop(n_tokens) if self._spec.reach else True

    def delta(self, projection: Projection, hidden: F32) -> tuple[F32, F32]:
        """Return what to add to the hidden state, and the gates; advance the history.

        hidden: (n_tokens, n_branches, d). Returns (n_tokens, n_branches, d) and
        (n_tokens, n_branches), float32.
        """
        gates = self._gates(projection.keys, hidden)
        gated = gates[..., None] * projection.values[:, None, :]
        delta = gated + self._convolve(gated) if self._spec.conv_kernel else gated
        return delta, gates

    def _gates(self, keys: F32, hidden: F32) -> F32:
        weight, epsilon = self._weights.query_norm, self._spec.norm_epsilon
        query = rms_norm(hidden, weight, epsilon)
        score = np.sum(keys * query, axis=-1, dtype=np.float32)
        score /= np.float32(np.sqrt(self._spec.hidden_size))
        root = np.sign(score) * np.sqrt(np.maximum(np.abs(score), _LEAST_SCORE))
        return _sigmoid(root)

    def _convolve(self, gated: F32) -> F32:
        """Causal, depthwise, dilated; positions before the sequence are zero."""
        weights, spec = self._weights, self._spec
        assert weights.conv is not None and weights.conv_norm is not None
        normed = rms_norm(gated, weights.conv_norm, spec.conv_norm_epsilon)
        inputs = self._history.append(normed.reshape(len(gated), -1))
        n_tokens = len(gated)
        out = np.zeros((n_tokens, inputs.shape[1]), np.float32)
        for tap in range(spec.conv_kernel):
            back = (spec.conv_kernel - 1 - tap) * spec.conv_dilation
            end = len(inputs) - back
            out += inputs[end - n_tokens : end] * weights.conv[:, tap]
        out *= _sigmoid(out)  # SiLU
        return out.reshape(gated.shape)


def _sigmoid(numbers: F32) -> F32:
    with np.errstate(over="ignore"):  # exp(-x) is infinite below -88: the result is 0
        result: F32 = np.reciprocal(1 + np.exp(-numbers), dtype=np.float32)
    return result
