"""Rows -> records: the key and value projections, with small weights.

A record is what one token's rows contribute to one layer before the hidden state is
known: the keys of all branches, normalised and scaled so that the gate's score is their
dot product with the hidden state over its root mean square, then the value.

A token's projections read all weights once, and between two tokens llama.cpp has swept
them out of the cache: float32 took 102 us for the default model's two layers, bfloat16
46, int8 34, of about 8,000 per token. bfloat16 is four times as exact as int8.

One kernel serves a single token and a prompt, so that the records of a token have the
same bits however tokens arrive; for 512 tokens it is as fast as numpy's product.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba.extending import register_jitable
from numpy.typing import NDArray

from engram_local.kernels import kernel
from engram_local.memory.module import FusionWeights
from engram_local.memory.rows import encode_rows
from engram_local.spec import FusionSpec, RowType

F32 = NDArray[np.float32]

FAST = {"reassoc", "contract", "nsz"}
"""Sums may be reordered, so that they use vector instructions; NaN stays NaN."""


class Projector:
    """The projections of one layer. Immutable, so safe from any thread."""

    def __init__(
        self, weights: FusionWeights, spec: FusionSpec, weight_type: RowType
    ) -> None:
        """weight_type: BF16 (rounded to nearest), or F32 for the file's own values."""
        matrix = np.concatenate([weights.key, weights.value])
        if weight_type is RowType.BF16:
            matrix = encode_rows(matrix, RowType.BF16).view(np.uint16)
        self.matrix: NDArray[np.uint16] | F32 = matrix
        """((B + 1) * d, E)"""

        self.bias = np.concatenate(
            [
                _or_zeros(weights.key_bias, spec.n_branches * spec.hidden_size),
                _or_zeros(weights.value_bias, spec.hidden_size),
            ]
        )
        """((B + 1) * d,)"""

        scale = weights.key_norm * weights.query_norm / np.sqrt(spec.hidden_size)
        self.scale = scale.astype(np.float32)
        """(B, d): key norm, query norm and the score's 1 / sqrt(d) in one."""

        self._epsilon = spec.norm_epsilon

    def project(self, rows: F32, out: F32) -> F32:
        """Fill the records of some tokens and return them.

        rows: (n_tokens, E); out: (n_tokens, (B + 1) * d).
        """
        if self.matrix.dtype == np.uint16:
            project_bf16(self.matrix, rows, out)
        else:
            project_f32(self.matrix, rows, out)
        finish_records(out, self.bias, self.scale, self._epsilon)
        return out


def _or_zeros(bias: F32 | None, size: int) -> F32:
    return np.zeros(size, np.float32) if bias is None else bias


@register_jitable(fastmath=FAST)
def _as_f32(weight):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Return a weight as float32; bfloat16 is the upper half of one."""
    return np.uint32(np.uint32(weight) << np.uint32(16)).view(np.float32)


@register_jitable(fastmath=FAST)
def _same(weight):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    return weight


def _make_product(convert: Callable[[Any], Any]) -> Callable[..., None]:
    """Return rows x matrix, transposed, for weights that `convert` makes float32.

    Tokens go by sixteen, so that their rows stay in the first cache; four lines of the
    matrix at once share each value read.
    """

    def product(matrix, rows, out):  # type: ignore[no-untyped-def]  # pragma: no cover
        n_tokens, size = rows.shape
        n_lines = matrix.shape[0]
        for start in range(0, n_tokens, 16):
            for line in range(0, n_lines - 3, 4):
                for token in range(start, min(n_tokens, start + 16)):
                    a, b = np.float32(0), np.float32(0)
                    c, d = np.float32(0), np.float32(0)
                    for i in range(size):
                        value = rows[token, i]
                        a += convert(matrix[line, i]) * value
                        b += convert(matrix[line + 1, i]) * value
                        c += convert(matrix[line + 2, i]) * value
                        d += convert(matrix[line + 3, i]) * value
                    out[token, line], out[token, line + 1] = a, b
                    out[token, line + 2], out[token, line + 3] = c, d
            for line in range(n_lines - n_lines % 4, n_lines):
                for token in range(start, min(n_tokens, start + 16)):
                    total = np.float32(0)
                    for i in range(size):
                        total += convert(matrix[line, i]) * rows[token, i]
                    out[token, line] = total

    return product


_TABLE = numba.f4[:, ::1]
project_bf16 = kernel(numba.void(numba.u2[:, ::1], _TABLE, _TABLE), fastmath=FAST)(
    _make_product(_as_f32)
)
project_f32 = kernel(numba.void(_TABLE, _TABLE, _TABLE), fastmath=FAST)(
    _make_product(_same)
)
"""(matrix, rows, out): (lines, E), (n_tokens, E) -> (n_tokens, lines)."""


@kernel("void(f4[:, ::1], f4[::1], f4[:, ::1], f8)", fastmath=FAST)
def finish_records(records, bias, scale, epsilon):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Add the biases, then normalise and scale the keys of each branch, in place."""
    n_branches, d = scale.shape
    for token in range(records.shape[0]):
        record = records[token]
        for i in range(record.shape[0]):
            record[i] += bias[i]
        for branch in range(n_branches):
            key = record[branch * d : (branch + 1) * d]
            square = np.float32(0)
            for i in range(d):
                square += key[i] * key[i]
            factor = np.float32(1 / np.sqrt(square / d + epsilon))
            for i in range(d):
                key[i] *= factor * scale[branch, i]
