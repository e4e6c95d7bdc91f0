"""Records + hidden state -> hidden state: gate and short convolution, compiled.

The same arithmetic as fusion.py, which tests compare and which names the source of the
formulas; 4 us per token of the default model.
"""

from __future__ import annotations

import numba
import numpy as np
from numba.extending import register_jitable

from engram_local.kernels import kernel
from engram_local.memory.projector import FAST

_LEAST_SCORE = np.float32(1e-6)
_ROUNDS = np.float32(1.5 * 2**23)
_TABLE = numba.f4[:, ::1]
_VECTORS = {"fastmath": FAST, "error_model": "numpy"}
"""Python's division looks for a zero each time, which keeps a loop from vectors."""


@register_jitable(fastmath={"contract"})
def _exp(x):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Return exp(x) to 1e-7, in instructions that work on many numbers at once.

    libm's took most of a token's time: 5.3 us of 512 tokens' mean against 0.6. Powers
    of two come from the exponent bits, the rest from Cephes' polynomial for expf; x is
    kept within float32's range.
    """
    x = min(max(x, np.float32(-87)), np.float32(88))
    # Adding 1.5 * 2^23 leaves no digits behind the point: rounds to nearest.
    n = (x * np.float32(1.44269504) + _ROUNDS) - _ROUNDS
    r = x - n * np.float32(0.693359375) + n * np.float32(2.12194440e-4)
    p = np.float32(1.9875691500e-4)
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    power = np.uint32(np.uint32(np.int32(n) + np.int32(127)) << np.uint32(23))
    return (p * r * r + r + np.float32(1)) * power.view(np.float32)


@register_jitable(**_VECTORS)
def _gate(key, stream, epsilon):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Return the sigmoid of the signed square root of the score."""
    product, square = np.float32(0), np.float32(0)
    for i in range(stream.shape[0]):
        product += key[i] * stream[i]
        square += stream[i] * stream[i]
    score = np.float32(product / np.sqrt(square / stream.shape[0] + epsilon))
    root = np.sqrt(max(abs(score), _LEAST_SCORE))
    signed = root if score > 0 else -root if score < 0 else np.float32(0)
    return np.float32(1 / (1 + np.exp(-signed)))


@register_jitable(**_VECTORS)
def _normalize(value, factor, norm, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    for i in range(value.shape[0]):
        out[i] = value[i] * factor * norm[i]


@register_jitable(**_VECTORS)
def _add_product(one, other, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    for i in range(out.shape[0]):
        out[i] += one[i] * other[i]


@register_jitable(**_VECTORS)
def _add_silu(numbers, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    for i in range(out.shape[0]):
        out[i] += numbers[i] / (np.float32(1) + _exp(-numbers[i]))


@register_jitable(**_VECTORS)
def _convolve(history, first, position, taps, dilation, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Add the SiLU of one branch's convolution at a position to out[0]."""
    total, last = out[1], first + out.shape[1]
    total[:] = 0
    n_taps = taps.shape[0]
    for tap in range(n_taps):
        source = position - (n_taps - 1 - tap) * dilation
        if source >= 0:  # before the sequence there are zeros
            row = history[source % history.shape[0], first:last]
            _add_product(row, taps[tap, first:last], total)
    _add_silu(total, out[0])


@kernel(
    numba.f8(
        numba.f4[:, :, ::1],
        _TABLE,
        numba.i8,
        _TABLE,
        _TABLE,
        _TABLE,
        numba.i8,
        numba.f8,
        numba.f8,
        _TABLE,
        numba.f4[::1],
    ),
    fastmath=FAST,
)
def fuse(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    hidden,
    records,
    position,
    history,
    taps,
    conv_norm,
    dilation,
    norm_epsilon,
    conv_norm_epsilon,
    scratch,
    gates,
):
    """Add the delta of some tokens to `hidden`, in place; return the sum of the gates.

    hidden: (n_tokens, S, d); S is 1 where all branches read one stream and are summed
    into it, else B. records: (n_tokens, (B + 1) * d), see projector.py. position: of
    the first token. history: (n, B * d), the convolution's inputs; position p lies in
    row p % n. taps: (taps, B * d). conv_norm: (B, d). scratch: (2, d). gates:
    (n_tokens,), for the mean over a token's branches.
    """
    n_branches, d = conv_norm.shape
    n_streams = hidden.shape[1]
    total = scratch[0]
    gate_sum = 0.0
    for token in range(hidden.shape[0]):
        at = position + token
        value = records[token, n_branches * d :]
        square, before = np.float32(0), gate_sum
        for i in range(d):
            square += value[i] * value[i]
        for branch in range(n_branches):
            first = branch * d
            stream = hidden[token, branch % n_streams]
            gate = _gate(records[token, first : first + d], stream, norm_epsilon)
            gate_sum += gate
            if branch == 0 or n_streams > 1:
                total[:] = 0
            for i in range(d):
                total[i] += gate * value[i]
            if taps.shape[0]:
                # The input is normalised gate * value, of which the squares are known.
                mean = gate * gate * square / d
                factor = np.float32(gate / np.sqrt(mean + conv_norm_epsilon))
                row = history[at % history.shape[0], first : first + d]
                _normalize(value, factor, conv_norm[branch], row)
                _convolve(history, first, at, taps, dilation, scratch)
            if branch == n_branches - 1 or n_streams > 1:
                for i in range(d):
                    stream[i] += total[i]
        gates[token] = np.float32((gate_sum - before) / n_branches)
    return gate_sum
