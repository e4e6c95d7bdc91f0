"""Row formats: bytes of a table <-> float32 rows. Knows nothing of files.

Decoding what a memory may hold is one compiled call without the GIL; the tests compare
it with gguf-py. The other types, of models with a table of their own, are decoded by
gguf-py: slow, and only for comparing.
"""

from __future__ import annotations

import numba
import numpy as np
from numba.extending import register_jitable
from numpy.typing import NDArray

from engram_local.errors import FormatError
from engram_local.kernels import kernel
from engram_local.spec import MEMORY_TYPES, RowType

CODES = {row_type: code for code, row_type in enumerate(MEMORY_TYPES)}
_F32, _F16, _BF16, _Q8_0, _Q4_0, _FP8 = range(6)
_BLOCK = 32


def _e4m3_values() -> NDArray[np.float32]:
    """The 256 values of OCP FP8 E4M3 "fn": bias 7, no infinities, 0x7F is NaN."""
    codes = np.arange(128)
    exponent, mantissa = codes >> 3, codes & 7
    magnitude = np.where(
        exponent == 0,
        np.ldexp(mantissa / 8, -6),
        np.ldexp(1 + mantissa / 8, exponent - 7),
    )
    magnitude[127] = np.nan
    return np.concatenate([magnitude, -magnitude]).astype(np.float32)


def _e8m0_values() -> NDArray[np.float32]:
    """The 256 powers of two of E8M0; 255 is NaN."""
    values = np.ldexp(1.0, np.arange(256) - 127)
    values[255] = np.nan
    return values.astype(np.float32)


E4M3 = _e4m3_values()
E8M0 = _e8m0_values()


def decode_rows(
    buffer: NDArray[np.uint8],
    starts: NDArray[np.int64],
    row_type: RowType,
    out: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Decode the rows that begin at `starts` into `out` and return it.

    buffer: (n_bytes,) uint8; starts: (n_rows,) int64, each with a whole row behind it
    (the caller checks); out: (n_rows, width) float32. Releases the GIL for the types
    in MEMORY_TYPES.
    """
    row_bytes = row_type.row_bytes(out.shape[1])
    if row_type in CODES:
        decode(buffer, starts, row_bytes, CODES[row_type], E4M3, E8M0, out)
    else:
        raw = buffer[starts[:, None] + np.arange(row_bytes)]
        out[:] = _decode_with_gguf(raw, row_type)
    return out


def _decode_with_gguf(raw: NDArray[np.uint8], row_type: RowType) -> NDArray[np.float32]:
    """Return the rows of `raw`, (n_rows, row_bytes): the bits that ggml computes, too.

    The same whether or not a compiler fuses the product with the minimum that is added
    in Q4_1, Q5_1, Q2_K, Q4_K and Q5_K: 11 bits of a half, at most 6 of a block's scale
    and 5 of a value are 22, so no product is rounded.
    """
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import dequantize

    with np.errstate(all="ignore"):  # a damaged row may hold any scale
        rows = dequantize(raw, GGMLQuantizationType[row_type.name])
    return np.asarray(rows, np.float32)


def encode_rows(rows: NDArray[np.float32], row_type: RowType) -> NDArray[np.uint8]:
    """Return the bytes of `rows`: (n_rows, row_bytes) uint8.

    rows: (n_rows, width) float32; row_type: of MEMORY_TYPES. Raises FormatError for a
    width that does not fit.
    """
    n_bytes = row_type.row_bytes(rows.shape[1])
    if row_type is RowType.FP8:
        return _encode_fp8(rows)
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import quantize

    encoded = quantize(rows, GGMLQuantizationType[row_type.name])
    return np.ascontiguousarray(encoded).view(np.uint8).reshape(len(rows), n_bytes)


def _encode_fp8(rows: NDArray[np.float32]) -> NDArray[np.uint8]:
    blocks = rows.reshape(len(rows), -1, _BLOCK)
    largest = np.abs(blocks).max(axis=2)
    if not np.isfinite(largest).all():
        raise FormatError("rows with NaN or infinite values cannot be stored as FP8")
    # The least power of two that brings a block into E4M3's range of +-448.
    exponent = np.ceil(np.log2(np.maximum(largest, 2.0**-126) / 448)).astype(int)
    exponent = np.clip(exponent, -126, 127)
    scaled = np.ldexp(blocks, -exponent[..., None])
    codes = _nearest_e4m3(np.abs(scaled)) | (np.signbit(scaled) * 0x80)
    return np.concatenate(
        [codes.reshape(len(rows), -1), exponent + 127], axis=1
    ).astype(np.uint8)


def _nearest_e4m3(magnitudes: NDArray[np.float32]) -> NDArray[np.int64]:
    values = E4M3[:127]
    middles = (values[1:] + values[:-1]) / 2
    return np.searchsorted(middles, magnitudes, side="right").astype(np.int64)


@kernel("f4(u1, u1)", inline="always")
def _half(low, high):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    sign = np.uint32(high >> 7) << np.uint32(31)
    exponent = np.uint32((high >> 2) & 31)
    mantissa = (np.uint32(high & 3) << np.uint32(8)) | np.uint32(low)
    if exponent == 0:
        value = np.float32(mantissa) * np.float32(2.0**-24)
        return -value if sign else value
    if exponent == 31:
        bits = sign | np.uint32(0x7F800000) | (mantissa << np.uint32(13))
    else:
        bits = (
            sign
            | ((exponent + np.uint32(112)) << np.uint32(23))
            | (mantissa << np.uint32(13))
        )
    return np.uint32(bits).view(np.float32)


# A file mapping is a read-only array; a writable one is accepted in its place.
_BUFFER = numba.types.Array(numba.u1, 1, "C", readonly=True)


@kernel("i8(i8[::1], i8, i8, i8, i8[::1])")
def locate_rows(row_ids, n_rows, row_bytes, base_bytes, starts):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Fill `starts` with where rows begin; return a place with a wrong id, or -1."""
    for i in range(row_ids.shape[0]):
        if row_ids[i] < 0 or row_ids[i] >= n_rows:
            return i
        starts[i] = base_bytes + row_ids[i] * row_bytes
    return -1


@register_jitable
def _touch(buffer, starts, row_bytes):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Read a byte of every cache line, so that the memory works on many at once.

    Decoding row by row waits for each: 48 rows in 11 us, after this in 3.
    """
    total = np.uint64(0)
    for row in range(starts.shape[0]):
        start = np.uint64(starts[row])
        for i in range(np.uint64(0), np.uint64(row_bytes), np.uint64(64)):
            total += np.uint64(buffer[start + i])
        total += np.uint64(buffer[start + np.uint64(row_bytes - 1)])
    return total


# Indices are unsigned: a signed one may count from the end, which costs a test each.
_1 = np.uint64(1)


@register_jitable
def _decode_row(buffer, start, code, e4m3, e8m0, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    width = np.uint64(out.shape[0])
    if code == _F32:
        for i in range(width):
            at = start + np.uint64(4) * i
            low = np.uint32(buffer[at]) | (np.uint32(buffer[at + _1]) << 8)
            high = np.uint32(buffer[at + np.uint64(2)]) | (
                np.uint32(buffer[at + np.uint64(3)]) << 8
            )
            out[i] = np.uint32(low | (high << 16)).view(np.float32)
    elif code == _F16:
        for i in range(width):
            at = start + np.uint64(2) * i
            out[i] = _half(buffer[at], buffer[at + _1])
    elif code == _BF16:
        for i in range(width):
            at = start + np.uint64(2) * i
            bits = np.uint32(buffer[at]) | (np.uint32(buffer[at + _1]) << 8)
            out[i] = np.uint32(bits << 16).view(np.float32)
    elif code == _Q8_0:
        for block in range(width // np.uint64(_BLOCK)):
            at = start + np.uint64(34) * block
            scale = _half(buffer[at], buffer[at + _1])
            for i in range(np.uint64(_BLOCK)):
                quant = np.float32(np.int8(buffer[at + np.uint64(2) + i]))
                out[block * np.uint64(_BLOCK) + i] = scale * quant
    elif code == _Q4_0:
        for block in range(width // np.uint64(_BLOCK)):
            at = start + np.uint64(18) * block
            scale = _half(buffer[at], buffer[at + _1])
            for i in range(np.uint64(_BLOCK // 2)):
                pair = np.int32(buffer[at + np.uint64(2) + i])
                first = block * np.uint64(_BLOCK) + i
                out[first] = scale * np.float32((pair & 15) - 8)
                out[first + np.uint64(16)] = scale * np.float32((pair >> 4) - 8)
    else:
        for i in range(width):
            scale = e8m0[buffer[start + width + i // np.uint64(_BLOCK)]]
            out[i] = e4m3[buffer[start + i]] * scale


@kernel(
    numba.u8(
        _BUFFER,
        numba.i8[::1],
        numba.i8,
        numba.i8,
        numba.f4[::1],
        numba.f4[::1],
        numba.f4[:, ::1],
    )
)
def decode(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    buffer, starts, row_bytes, code, e4m3, e8m0, out
):
    """See `decode_rows`; code: of the row type, in CODES. The result means nothing."""
    touched = _touch(buffer, starts, row_bytes)
    for row in range(out.shape[0]):
        _decode_row(buffer, np.uint64(starts[row]), code, e4m3, e8m0, out[row])
    return touched
