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
_TABLE = numba.f4[:, ::1]


@register_jitable(fastmath=FAST)
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


@register_jitable(fastmath=FAST)
def _normalize(value, factor, norm, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    for i in range(value.shape[0]):
        out[i] = value[i] * factor * norm[i]


@register_jitable(fastmath=FAST)
def _convolve(history, first, position, taps, dilation, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Add the SiLU of one branch's convolution at a position to out[0]."""
    d, n_taps = out.shape[1], taps.shape[0]
    out[1, :] = 0
    for tap in range(n_taps):
        source = position - (n_taps - 1 - tap) * dilation
        if source >= 0:  # before the sequence there are zeros
            row = source % history.shape[0]
            for i in range(d):
                out[1, i] += history[row, first + i] * taps[tap, first + i]
    for i in range(d):
        out[0, i] += out[1, i] / (np.float32(1) + np.exp(-out[1, i]))


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
):
    """Add the delta of some tokens to `hidden`, in place; return the sum of the gates.

    hidden: (n_tokens, S, d); S is 1 where all branches read one stream and are summed
    into it, else B. records: (n_tokens, (B + 1) * d), see projector.py. position: of
    the first token. history: (n, B * d), the convolution's inputs; position p lies in
    row p % n. taps: (taps, B * d). conv_norm: (B, d). scratch: (2, d).
    """
    n_branches, d = conv_norm.shape
    n_streams = hidden.shape[1]
    total = scratch[0]
    gate_sum = 0.0
    for token in range(hidden.shape[0]):
        at = position + token
        value = records[token, n_branches * d :]
        square = np.float32(0)
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
    return gate_sum
