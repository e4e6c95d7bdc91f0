"""Random blocks of every type that llama.cpp gathers rows of, faster than a drive."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engram_local.spec import RowType
from engram_local.units import MIB

_TILE_BYTES = 64 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class _Blocks:
    """Where the scale of a block lies, and what random blocks are worth."""

    std: float
    """Of the values of random blocks whose scale is 1."""

    scale_at: int = 0
    """Where the float16 scale of a block lies."""

    least: float | None = None
    """Of types with a least value: how many scales it is, so that the mean is 0; its
    float16 lies behind the scale. K-quants subtract it, the others add it."""


_UNIFORM = 1 / 12**0.5  # of a uniform distribution, in parts of its width
_FLOATS = (RowType.F32, RowType.F16, RowType.BF16)
_BLOCKS = {
    RowType.Q8_0: _Blocks(std=256 * _UNIFORM),
    RowType.Q4_0: _Blocks(std=16 * _UNIFORM),
    RowType.Q4_1: _Blocks(std=16 * _UNIFORM, least=-7.5),
    RowType.Q5_0: _Blocks(std=32 * _UNIFORM),
    RowType.Q5_1: _Blocks(std=32 * _UNIFORM, least=-15.5),
    RowType.IQ4_NL: _Blocks(std=67.4),
    RowType.Q2_K: _Blocks(std=13.9, scale_at=80, least=1.5),
    RowType.Q3_K: _Blocks(std=43.4, scale_at=108),
    RowType.Q4_K: _Blocks(std=258.0, least=7.5),
    RowType.Q5_K: _Blocks(std=527.0, least=15.5),
    RowType.Q6_K: _Blocks(std=1366.0, scale_at=208),
    RowType.IQ1_S: _Blocks(std=7.2),
    RowType.IQ2_XXS: _Blocks(std=53.1),
    RowType.IQ2_XS: _Blocks(std=55.7),
    RowType.IQ2_S: _Blocks(std=56.5),
    RowType.IQ3_XXS: _Blocks(std=142.0),
    RowType.IQ3_S: _Blocks(std=140.0),
    RowType.IQ4_XS: _Blocks(std=1245.0),
    RowType.TQ1_0: _Blocks(std=0.82, scale_at=52),
    RowType.TQ2_0: _Blocks(std=1.22, scale_at=64),
}
"""Types with a float16 scale; what the last ones are worth was measured."""

_BYTE_SCALES = {
    RowType.MXFP4: (slice(0, 1), 127, 2.93),
    RowType.NVFP4: (slice(0, 4), 0x38, 2.93),
}
"""Types whose scales are small floats: where, the code of 1, and what that is worth."""

_IQ1_M_STD = 7.2

RANDOM_TYPES = (*_FLOATS, *_BLOCKS, *_BYTE_SCALES, RowType.IQ1_M)
"""What can be made."""


class RandomBytes:
    """Blocks of a type with random contents, without end.

    A tile is read round and round. It is an odd number of blocks long, so a page of the
    file meets other bytes in each of 2048 rounds (128 GiB): a drive or a file system
    finds nothing to share or to compress.
    """

    def __init__(self, row_type: RowType, *, std: float) -> None:
        self._tile = _tile(row_type, std).reshape(-1)
        self._position = 0

    def take(self, n_bytes: int) -> Iterator[NDArray[np.uint8]]:
        """Yield the next `n_bytes`, a whole number of blocks, in chunks."""
        while n_bytes > 0:
            chunk = self._tile[self._position :][:n_bytes]
            self._position = (self._position + len(chunk)) % len(self._tile)
            n_bytes -= len(chunk)
            yield chunk


def _tile(row_type: RowType, std: float) -> NDArray[np.uint8]:
    """Return random blocks: (n_blocks, block_bytes) uint8, values finite."""
    block_bytes = row_type.row_bytes(row_type.block_width)
    n_blocks = _TILE_BYTES // block_bytes | 1
    if row_type in _FLOATS:
        return _floats(row_type, n_blocks, std)
    words = np.random.default_rng(0).integers(
        0, 2**64 - 1, n_blocks * block_bytes // 8 + 1, np.uint64, endpoint=True
    )
    tile = words.view(np.uint8)[: n_blocks * block_bytes].reshape(n_blocks, -1)
    if row_type in _BYTE_SCALES:
        _set_byte_scales(tile, row_type, std)
    elif row_type is RowType.IQ1_M:
        _set_spread_scale(tile, std / _IQ1_M_STD)
    else:
        _set_scales(tile, _BLOCKS[row_type], std)
    return tile


def _floats(row_type: RowType, n: int, std: float) -> NDArray[np.uint8]:
    """Return values of a uniform distribution: (n, bytes of a value) uint8."""
    values = np.random.default_rng(0).random(n, np.float32)
    values = (values - np.float32(0.5)) * np.float32(12**0.5 * std)
    if row_type is RowType.F16:
        return values.astype(np.float16).view(np.uint8).reshape(n, 2)
    raw = values.view(np.uint8).reshape(n, 4)
    return np.ascontiguousarray(raw[:, 2:]) if row_type is RowType.BF16 else raw


def _set_byte_scales(tile: NDArray[np.uint8], row_type: RowType, std: float) -> None:
    """Give all blocks the power of two that comes nearest."""
    where, one, worth = _BYTE_SCALES[row_type]
    steps = 1 if row_type is RowType.MXFP4 else 8  # NVFP4 has 3 bits of mantissa
    tile[:, where] = one + steps * round(np.log2(std / worth))


def _set_spread_scale(tile: NDArray[np.uint8], scale: float) -> None:
    """Give all blocks of IQ1_M one scale: its float16 lies in the high nibbles of four
    words, after 48 bytes.
    """
    bits = int(np.float16(scale).view(np.uint16))
    for word in range(4):
        at = 49 + 2 * word
        tile[:, at] = tile[:, at] & 0x0F | (bits >> 4 * word & 0x0F) << 4


def _set_scales(tile: NDArray[np.uint8], blocks: _Blocks, std: float) -> None:
    """Give all blocks one scale.

    Without a least value its sign stays random: quants have a mean of -0.5, which as a
    constant in every weight would outgrow the rest of the hidden state.
    """
    scale = std / blocks.std
    low, high = np.float16(scale).tobytes()
    at = blocks.scale_at
    tile[:, at] = low
    if blocks.least is None:
        tile[:, at + 1] = tile[:, at + 1] & 0x80 | high
    else:
        tile[:, at + 1] = high
        least = np.float16(scale * blocks.least).tobytes()
        tile[:, at + 2 : at + 4] = np.frombuffer(least, np.uint8)
