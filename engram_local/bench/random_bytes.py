"""Random blocks of every type that llama.cpp gathers rows of, faster than a drive."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engram_local.errors import UsageError
from engram_local.units import MIB

_TILE_BYTES = 64 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """How a type is stored, and what random blocks of it are worth."""

    type_id: int
    """ggml's number."""

    width: int
    """Values of a block."""

    n_bytes: int
    std: float
    """Of the values of random blocks whose scale is 1."""

    scale_at: int = 0
    """Where the float16 scale of a block lies."""

    least: float | None = None
    """Of types with a least value: how many scales it is, so that the mean is 0; its
    float16 lies behind the scale. K-quants subtract it, the others add it."""

    def row_bytes(self, width: int) -> int:
        """Return the bytes of one row; raise UsageError if `width` does not fit."""
        if width < 1 or width % self.width:
            raise UsageError(f"a width of {width} is not divisible by {self.width}")
        return width // self.width * self.n_bytes


def _uniform(n_steps: int) -> float:
    """Return the standard deviation of integers drawn from `n_steps` in a row."""
    return float(((n_steps**2 - 1) / 12) ** 0.5)


def _plain(type_id: int, n_bytes: int) -> Blocks:
    return Blocks(type_id=type_id, width=1, n_bytes=n_bytes, std=1.0)


def _small(type_id: int, n_bytes: int, std: float, **more: float) -> Blocks:
    return Blocks(type_id=type_id, width=32, n_bytes=n_bytes, std=std, **more)  # type: ignore[arg-type]


def _large(type_id: int, n_bytes: int, std: float, **more: float) -> Blocks:
    return Blocks(type_id=type_id, width=256, n_bytes=n_bytes, std=std, **more)  # type: ignore[arg-type]


BLOCKS = {
    "f32": _plain(0, 4),
    "f16": _plain(1, 2),
    "bf16": _plain(30, 2),
    "q8_0": _small(8, 34, _uniform(256)),
    "q4_0": _small(2, 18, _uniform(16)),
    "q4_1": _small(3, 20, _uniform(16), least=-7.5),
    "q5_0": _small(6, 22, _uniform(32)),
    "q5_1": _small(7, 24, _uniform(32), least=-15.5),
    "iq4_nl": _small(20, 18, 70.1),
    "mxfp4": _small(39, 17, 2.926),
    "q2_k": _large(10, 84, 13.9, scale_at=80, least=1.5),
    "q3_k": _large(11, 110, 43.3, scale_at=108),
    "q4_k": _large(12, 144, 258.0, least=7.5),
    "q5_k": _large(13, 176, 527.0, least=15.5),
    "q6_k": _large(14, 210, 1366.0, scale_at=208),
}
"""By ggml's names in lower case. What K-quants are worth counts their scales."""


class RandomBytes:
    """Blocks of a type with random contents, without end.

    A tile is read round and round. It is an odd number of blocks long, so a page of the
    file meets other bytes in each of 2048 rounds (128 GiB): a drive or a file system
    finds nothing to share or to compress.
    """

    def __init__(self, type_name: str, *, std: float) -> None:
        self._tile = _tile(type_name, std).reshape(-1)
        self._position = 0

    def take(self, n_bytes: int) -> Iterator[NDArray[np.uint8]]:
        """Yield the next `n_bytes`, a whole number of blocks, in chunks."""
        while n_bytes > 0:
            chunk = self._tile[self._position :][:n_bytes]
            self._position = (self._position + len(chunk)) % len(self._tile)
            n_bytes -= len(chunk)
            yield chunk


def _tile(type_name: str, std: float) -> NDArray[np.uint8]:
    """Return random blocks: (n_blocks, block_bytes) uint8, values finite."""
    blocks = BLOCKS[type_name]
    n_blocks = _TILE_BYTES // blocks.n_bytes | 1
    if blocks.width == 1:
        return _floats(type_name, n_blocks, std)
    words = np.random.default_rng(0).integers(
        0, 2**64 - 1, n_blocks * blocks.n_bytes // 8 + 1, np.uint64, endpoint=True
    )
    tile = words.view(np.uint8)[: n_blocks * blocks.n_bytes].reshape(n_blocks, -1)
    if type_name == "mxfp4":
        tile[:, 0] = 127 + round(np.log2(std / blocks.std))
    else:
        _set_scales(tile, blocks, std / blocks.std)
    return tile


def _floats(type_name: str, n: int, std: float) -> NDArray[np.uint8]:
    """Return values of a uniform distribution: (n, bytes of a value) uint8."""
    values = np.random.default_rng(0).random(n, np.float32)
    values = (values - np.float32(0.5)) * np.float32(12**0.5 * std)
    if type_name == "f16":
        return values.astype(np.float16).view(np.uint8).reshape(n, 2)
    raw = values.view(np.uint8).reshape(n, 4)
    return np.ascontiguousarray(raw[:, 2:]) if type_name == "bf16" else raw


def _set_scales(tile: NDArray[np.uint8], blocks: Blocks, scale: float) -> None:
    """Give all blocks one scale.

    Without a least value its sign stays random: quants have a mean of -0.5, which as a
    constant in every weight would outgrow the rest of the hidden state.
    """
    low, high = np.float16(scale).tobytes()
    at = blocks.scale_at
    tile[:, at] = low
    if blocks.least is None:
        tile[:, at + 1] = tile[:, at + 1] & 0x80 | high
    else:
        tile[:, at + 1] = high
        least = np.float16(scale * blocks.least).tobytes()
        tile[:, at + 2 : at + 4] = np.frombuffer(least, np.uint8)
