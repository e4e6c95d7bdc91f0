"""The memory in torch: what is trained. DeepSeek's recipe with one stream, no biases.

The arithmetic is that of `engram_local.memory.fusion`; row ids come from
`engram_local.memory.hashing`, so training and running cannot disagree about a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from engram_local.memory.constants import (
    derive_multipliers,
    derive_sizes,
    offsets_of,
)
from engram_local.memory.hashing import RowHasher
from engram_local.spec import Boundary, FusionSpec, HashSpec, Window

_LEAST_SCORE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """The shape of the memory."""

    layer_ids: tuple[int, ...] = (2, 14)
    max_ngram: int = 3
    n_heads: int = 4
    rows_per_head: int = 16_000
    width: int = 32
    conv_kernel: int = 4
    seed: int = 0
    """Of the multipliers."""

    def fusion(self, hidden_size: int) -> FusionSpec:
        """How rows enter a hidden state of that size."""
        return FusionSpec(
            hidden_size=hidden_size,
            conv_kernel=self.conv_kernel,
            conv_dilation=self.max_ngram,
        )

    def hashes(self, token_map: NDArray[np.int32], pad_id: int) -> list[HashSpec]:
        """Return the hash of every layer. pad_id: a token id of the backbone."""
        starts = [self.rows_per_head] * (self.max_ngram - 1)
        sizes = derive_sizes(starts, n_layers=len(self.layer_ids), n_heads=self.n_heads)
        fill_id, n_canonical = int(token_map[pad_id]), int(token_map.max()) + 1
        return [
            HashSpec(
                multipliers=derive_multipliers(
                    seed=self.seed,
                    layer_id=layer_id,
                    n_canonical=n_canonical,
                    max_ngram=self.max_ngram,
                ),
                sizes=layer_sizes,
                offsets=offsets_of(layer_sizes),
                n_heads=self.n_heads,
                window=Window.NEWEST_FIRST,
                boundary=Boundary.PAD,
                fill_id=fill_id,
            )
            for layer_id, layer_sizes in zip(self.layer_ids, sizes, strict=True)
        ]


class MemoryLayer(nn.Module):
    """Rows, gate and short convolution of one layer."""

    def __init__(self, hash_spec: HashSpec, width: int, fusion: FusionSpec) -> None:
        super().__init__()
        size, hidden_size = hash_spec.n_slots * width, fusion.hidden_size
        self.fusion = fusion
        self.table = nn.Embedding(hash_spec.n_rows, width, sparse=True)
        self.key = nn.Linear(size, hidden_size, bias=False)
        self.value = nn.Linear(size, hidden_size, bias=False)
        self.key_norm = nn.Parameter(torch.ones(hidden_size))
        self.query_norm = nn.Parameter(torch.ones(hidden_size))
        self.conv_norm = nn.Parameter(torch.ones(hidden_size))
        self.conv = nn.Parameter(torch.zeros(hidden_size, fusion.conv_kernel))
        nn.init.normal_(self.table.weight, std=0.05)
        nn.init.normal_(self.value.weight, std=0.02)

    def forward(
        self, row_ids: Tensor, hidden: Tensor, history: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return delta (batch, n_tokens, d), gates (batch, n_tokens) and the history.

        row_ids: (batch, n_tokens, n_slots) int64; hidden: (batch, n_tokens, d) float32.
        history: what the convolution read of a shared prefix: (1, reach, d).
        """
        rows = self.table(row_ids).flatten(2)  # (batch, n_tokens, n_slots * width)
        gates = self._gates(self.key(rows), hidden)
        gated = gates[..., None] * self.value(rows)
        convolved, history = self._convolve(gated, history)
        return gated + convolved, gates, history

    def _gates(self, keys: Tensor, hidden: Tensor) -> Tensor:
        epsilon, size = self.fusion.norm_epsilon, (self.fusion.hidden_size,)
        keys = functional.rms_norm(keys, size, self.key_norm, epsilon)
        queries = functional.rms_norm(hidden, size, self.query_norm, epsilon)
        scores = (keys * queries).sum(-1) / size[0] ** 0.5
        roots = scores.abs().clamp_min(_LEAST_SCORE).sqrt()
        return torch.sigmoid(scores.sign() * roots)

    def _convolve(self, gated: Tensor, history: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the convolution's share and the last `reach` normalised positions."""
        spec, (n_rows, n_tokens, size) = self.fusion, gated.shape
        epsilon = spec.conv_norm_epsilon
        normed = functional.rms_norm(gated, (size,), self.conv_norm, epsilon)
        if history is None:
            history = normed.new_zeros(1, spec.reach, size)
        normed = torch.cat([history.expand(n_rows, -1, -1), normed], dim=1)
        total = torch.zeros_like(gated)
        for tap in range(spec.conv_kernel):
            start = tap * spec.conv_dilation
            total = total + self.conv[:, tap] * normed[:, start : start + n_tokens]
        return functional.silu(total), normed[:, n_tokens:]


class Memory(nn.Module):
    """All layers, with the token map and the hash."""

    def __init__(
        self,
        recipe: Recipe,
        hidden_size: int,
        token_map: NDArray[np.int32],
        pad_id: int,
    ) -> None:
        super().__init__()
        self.recipe, self.token_map = recipe, token_map
        self.hashes = recipe.hashes(token_map, pad_id)
        self.hashers = [RowHasher(spec) for spec in self.hashes]
        fusion = recipe.fusion(hidden_size)
        self.layers = nn.ModuleList(
            MemoryLayer(spec, recipe.width, fusion) for spec in self.hashes
        )

    def memory_layers(self) -> list[MemoryLayer]:
        """Return the layers with their type, which ModuleList forgets."""
        return [layer for layer in self.layers if isinstance(layer, MemoryLayer)]

    def row_ids(self, sequences: Sequence[NDArray[np.int64]], skip: int) -> Tensor:
        """Return (n_layers, batch, n_tokens, n_slots) of padded sequences.

        sequences: whole token id sequences from their first position on.
        skip: leading positions that are left out (the shared prefix).
        """
        longest = max(map(len, sequences)) - skip
        shape = (len(self.hashers), len(sequences), longest, self.hashes[0].n_slots)
        rows = np.zeros(shape, np.int64)
        for line, token_ids in enumerate(sequences):
            canonical = self.token_map[token_ids].astype(np.int64)
            for number, hasher in enumerate(self.hashers):
                own = hasher.row_ids(canonical)[skip:]
                rows[number, line, : len(own)] = own
        return torch.from_numpy(rows)


class Injector:
    """Adds the memory to the hidden state in one forward pass, and keeps the gates."""

    def __init__(
        self,
        memory: Memory,
        row_ids: Tensor,
        histories: Sequence[Tensor] | None = None,
    ) -> None:
        self._memory, self._row_ids = memory, row_ids
        self._before = histories
        self.histories: list[Tensor] = []
        self.gates: list[Tensor] = []
        """Per memory layer: (batch, n_tokens)."""

    def __call__(self, layer_id: int, hidden: Tensor) -> Tensor:
        """Return `hidden` with the delta of `layer_id`, if that layer has a memory."""
        if layer_id not in self._memory.recipe.layer_ids:
            return hidden
        number = self._memory.recipe.layer_ids.index(layer_id)
        before = self._before[number] if self._before else None
        layer = self._memory.memory_layers()[number]
        delta, gates, history = layer(self._row_ids[number], hidden, before)
        self.histories.append(history)
        self.gates.append(gates)
        result: Tensor = hidden + delta
        return result
