"""What a memory file holds, without its rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engram_local.spec import Fingerprint, FusionSpec, MemorySpec


@dataclass(frozen=True, slots=True, kw_only=True)
class FusionWeights:
    """The small weights of one memory layer; all float32, C order.

    E = slots x row width, d = hidden size, B = branches, K = convolution taps.
    """

    key: NDArray[np.float32]
    """(B * d, E): the keys of all branches in one matrix."""

    value: NDArray[np.float32]
    """(d, E): shared by the branches."""

    key_norm: NDArray[np.float32]
    """(B, d)"""

    query_norm: NDArray[np.float32]
    """(B, d)"""

    key_bias: NDArray[np.float32] | None = None
    """(B * d,)"""

    value_bias: NDArray[np.float32] | None = None
    """(d,)"""

    conv_norm: NDArray[np.float32] | None = None
    """(B, d)"""

    conv: NDArray[np.float32] | None = None
    """(B * d, K): the last tap multiplies the current position."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryModule:
    """A memory: its numbers, its small weights, its token map; rows stay in `path`."""

    path: Path
    spec: MemorySpec
    fusion: FusionSpec
    fingerprint: Fingerprint
    token_map: NDArray[np.int32]
    """(vocab_size,): canonical id of every token id."""

    weights: tuple[FusionWeights, ...]
    """One per layer, in the order of `spec.layers`."""

    @property
    def layer_ids(self) -> tuple[int, ...]:
        """Decoder layers whose input the memory is added to."""
        return tuple(layer.layer_id for layer in self.spec.layers)

    def canonical_ids(self, token_ids: Sequence[int]) -> NDArray[np.int64]:
        """Return what is hashed in place of token ids: (n_tokens,) int64."""
        return self.token_map[list(token_ids)].astype(np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeModule:
    """A table inside a model: llama.cpp gathers its rows, this says which and where."""

    path: Path
    """The file that holds the table; of a split model, one of its parts."""

    spec: MemorySpec
    """One layer; its `layer_id` is the first that uses the rows."""

    node: str
    """Of llama.cpp's graph: where all rows of a token are, as float32."""

    node_scale: float = 1.0
    """What the rows were multiplied with there, in float32."""

    image_id: int | None = None
    """What a position of an image is hashed as; None = as the file's EOS, or not."""

    @property
    def layer_ids(self) -> tuple[int, ...]:
        """Decoder layer that first uses the rows."""
        return tuple(layer.layer_id for layer in self.spec.layers)

    def canonical_ids(self, token_ids: Sequence[int]) -> NDArray[np.int64]:
        """Return what is hashed: the token ids themselves."""
        return np.array(token_ids, np.int64)
