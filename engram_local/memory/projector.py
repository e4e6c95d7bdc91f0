"""Rows -> records: the key and value projections, with small weights.

A record is what one token's rows contribute to one layer before the hidden state is
known: the keys of all branches, normalised and scaled so that the gate's score is their
dot product with the hidden state over its root mean square, then the value.

A token's projections read all weights once, and between two tokens llama.cpp has swept
them out of the cache: float32 took 102 us for the default model's two layers, bfloat16
46, int8 34, of about 6,000 per token.

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


WEIGHT_TYPES = ("int8", "bf16", "f32")


class Projector:
    """The projections of one layer. Immutable, so safe from any thread."""

    def __init__(
        self, weights: FusionWeights, spec: FusionSpec, weight_type: str
    ) -> None:
        """weight_type: how the projections are kept, one of WEIGHT_TYPES; f32 = the
        file's own values, the others are rounded to nearest.
        """
        matrix = np.concatenate([weights.key, weights.value])
        self.matrix, self.line_scale = _shrink(matrix, weight_type)
        """((B + 1) * d, E) and ((B + 1) * d,): their product is the weights."""

        self.bias = np.concatenate(
            [
                _or_zeros(weights.key_bias, spec.n_branches * spec.hidden_size),
                _or_zeros(weights.value_bias, spec.hidden_size),
            ]
        )
        """((B + 1) * d,)"""

        key_scale = weights.key_norm * weights.query_norm / np.sqrt(spec.hidden_size)
        self.key_scale = key_scale.astype(np.float32)
        """(B, d): key norm, query norm and the score's 1 / sqrt(d) in one."""

        self._epsilon = spec.norm_epsilon
        self._product = PRODUCTS[weight_type]

    def project(self, rows: F32, out: F32) -> F32:
        """Fill the records of some tokens and return them.

        rows: (n_tokens, E); out: (n_tokens, (B + 1) * d).
        """
        self._product(self.matrix, rows, out)
        finish_records(out, self.line_scale, self.bias, self.key_scale, self._epsilon)
        return out


def _shrink(matrix: F32, weight_type: str) -> tuple[NDArray[Any], F32]:
    """Return the matrix in a small type, and what each line is to be multiplied by."""
    scale = np.ones(len(matrix), np.float32)
    if weight_type == "bf16":
        return encode_rows(matrix, RowType.BF16).view(np.uint16), scale
    if weight_type == "int8":
        scale = np.maximum(np.abs(matrix).max(axis=1), 1e-30) / np.float32(127)
        return np.rint(matrix / scale[:, None]).astype(np.int8), scale
    return matrix, scale


def _or_zeros(bias: F32 | None, size: int) -> F32:
    return np.zeros(size, np.float32) if bias is None else bias


@register_jitable(fastmath=FAST)
def _from_bf16(weight):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    return np.uint32(np.uint32(weight) << np.uint32(16)).view(np.float32)


@register_jitable(fastmath=FAST)
def _from_number(weight):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    return np.float32(weight)


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


def _compile(weight: Any, convert: Callable[[Any], Any]) -> Any:
    table = numba.f4[:, ::1]
    signature = numba.void(weight[:, ::1], table, table)
    return kernel(signature, fastmath=FAST)(_make_product(convert))


product_int8 = _compile(numba.i1, _from_number)
product_bf16 = _compile(numba.u2, _from_bf16)
product_f32 = _compile(numba.f4, _from_number)
PRODUCTS = {"int8": product_int8, "bf16": product_bf16, "f32": product_f32}
"""(matrix, rows, out): (lines, E), (n_tokens, E) -> (n_tokens, lines)."""


@kernel("void(f4[:, ::1], f4[::1], f4[::1], f4[:, ::1], f8)", fastmath=FAST)
def finish_records(records, line_scale, bias, key_scale, epsilon):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Scale, add the biases, then normalise and scale the keys of each branch."""
    n_branches, d = key_scale.shape
    for token in range(records.shape[0]):
        record = records[token]
        for i in range(record.shape[0]):
            record[i] = record[i] * line_scale[i] + bias[i]
        for branch in range(n_branches):
            key = record[branch * d : (branch + 1) * d]
            square = np.float32(0)
            for i in range(d):
                square += key[i] * key[i]
            factor = np.float32(1 / np.sqrt(square / d + epsilon))
            for i in range(d):
                key[i] *= factor * key_scale[branch, i]
