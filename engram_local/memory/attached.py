"""A memory at work beside a backbone: prepares ahead, adds its delta, keeps its state.

Knows nothing of llama.cpp: `engine.py` calls `submit` before a decode, and the hook
calls `add_delta` inside it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from engram_local.errors import BackboneError, FormatError
from engram_local.memory.fusion import Fusion, Projection, project
from engram_local.memory.hashing import RowHasher
from engram_local.memory.module import MemoryModule
from engram_local.memory.prefetch import Inline, Pending, Prefetcher, Preparer
from engram_local.memory.table import Progress, Table, open_table
from engram_local.spec import LayerSpec
from engram_local.units import MIB

F32 = NDArray[np.float32]

HISTORY_BYTES = 64 * MIB
"""Bound on the convolution inputs kept for `trim`, all layers together."""


@dataclass(slots=True)
class Counters:
    """What happened since `take_counters`; owned by the thread that decodes."""

    rows_read: int = 0
    bytes_read: int = 0
    n_submitted: int = 0
    n_waits: int = 0
    n_ready: int = 0
    stalls_s: list[float] = field(default_factory=list)
    """One entry per submitted batch: its layers' waits together."""

    gate_sums: dict[int, float] = field(default_factory=dict)
    gate_counts: dict[int, int] = field(default_factory=dict)

    def add_gates(self, layer_id: int, gates: F32) -> None:
        """Count some gates of a layer."""
        total = self.gate_sums.get(layer_id, 0.0) + float(gates.sum())
        self.gate_sums[layer_id] = total
        self.gate_counts[layer_id] = self.gate_counts.get(layer_id, 0) + gates.size

    def gate_means(self) -> dict[int, float]:
        """Return the mean gate per memory layer."""
        return {
            layer_id: total / self.gate_counts[layer_id]
            for layer_id, total in self.gate_sums.items()
        }


@dataclass(slots=True)
class _Batch:
    """Tokens handed in together, with what is being prepared for each layer."""

    n_tokens: int
    pending: list[Pending[Projection]]
    n_used: list[int]
    """Per layer: tokens of this batch that have passed the hook."""

    stall_s: float = 0.0

    @property
    def done(self) -> bool:
        return min(self.n_used) == self.n_tokens


class AttachedMemory:
    """One memory and one sequence. Use from the thread that decodes, and close it.

    Order of calls: `submit` the token ids of a decode, then decode; inside it, for each
    memory layer in turn, `add_delta`. Several batches may be submitted ahead.
    """

    def __init__(
        self,
        module: MemoryModule,
        tier: str,
        *,
        prefetch: bool = True,
        progress: Progress | None = None,
    ) -> None:
        self.module = module
        self.tier = tier
        self._batches: deque[_Batch] = deque()
        self._token_ids: list[int] = []
        self._n_passed = [0] * len(module.spec.layers)
        self.counters = Counters()
        with ExitStack() as stack:
            self._layers = [
                _Layer(module, line, self._open(stack, layer, tier, progress))
                for line, layer in enumerate(module.spec.layers)
            ]
            self._preparer: Preparer = Prefetcher() if prefetch else Inline()
            stack.callback(self._preparer.close)  # first: it reads the tables
            self._stack = stack.pop_all()

    @property
    def layer_ids(self) -> tuple[int, ...]:
        """Decoder layers whose input the memory is added to."""
        return tuple(layer.layer_id for layer in self.module.spec.layers)

    @property
    def resident_bytes(self) -> int | None:
        """Bytes of the tables that are in memory now; None if the system hides it."""
        parts = [layer.table.resident_bytes() for layer in self._layers]
        return None if None in parts else sum(part or 0 for part in parts)

    def submit(self, token_ids: Sequence[int]) -> None:
        """Begin to prepare the next tokens of the sequence."""
        first = len(self._token_ids)
        self._token_ids += token_ids
        pending = []
        for layer in self._layers:
            context = self._token_ids[max(0, first - layer.hasher.context) :]
            n_before = len(context) - len(token_ids)
            work = partial(layer.prepare, np.array(context, np.int64), n_before)
            pending.append(self._preparer.submit(work))
        n_tokens = len(token_ids)
        self._batches.append(_Batch(n_tokens, pending, [0] * len(pending)))
        self.counters.n_submitted += len(pending)
        self.counters.rows_read += n_tokens * self.module.spec.rows_per_token
        self.counters.bytes_read += n_tokens * self.module.spec.bytes_per_token

    def add_delta(self, line: int, hidden: F32) -> None:
        """Add the memory of layer number `line` to `hidden`, in place.

        hidden: (n_tokens, d) float32, the next tokens of the sequence. All branches
        read the same hidden state, and their outputs are summed (engram-peft's rule
        for a backbone without hyper-connections).
        """
        start = 0
        while start < len(hidden):
            batch = self._batch_of(line)
            projection = self._wait(batch, line)
            used = batch.n_used[line]
            n_tokens = min(batch.n_tokens - used, len(hidden) - start)
            part = slice(used, used + n_tokens)
            piece = Projection(projection.keys[part], projection.values[part])
            self._fuse(line, piece, hidden[start : start + n_tokens])
            start += n_tokens
            batch.n_used[line] += n_tokens
            self._n_passed[line] += n_tokens
            self._retire()

    def check(self, n_tokens: int) -> None:
        """Raise unless every layer was added to exactly the first `n_tokens`.

        A hidden state that never arrived would shift all rows after it, unseen.
        """
        if self._n_passed != [n_tokens] * len(self._n_passed):
            raise BackboneError(
                f"{n_tokens} tokens were computed, the memory layers saw "
                f"{self._n_passed}",
                hint="run it without a memory: --no-memory",
            )

    def trim(self, n_tokens: int) -> bool:
        """Keep the first `n_tokens` of the sequence, between two decodes.

        Batches that were submitted but not decoded are forgotten. Returns False if the
        state before that position is gone; only `reset` helps then.
        """
        n_kept = min(n_tokens, *self._n_passed)
        self._batches.clear()
        for layer, n_passed in zip(self._layers, self._n_passed, strict=True):
            if not layer.fusion.drop(n_passed - n_kept):
                return False
        del self._token_ids[n_kept:]
        self._n_passed = [n_kept] * len(self._n_passed)
        return True

    def reset(self) -> None:
        """Start a new sequence."""
        self._batches.clear()
        self._token_ids.clear()
        self._n_passed = [0] * len(self._n_passed)
        for layer in self._layers:
            layer.fusion.reset()

    def take_counters(self) -> Counters:
        """Return the counters and start again from zero."""
        taken, self.counters = self.counters, Counters()
        return taken

    def close(self) -> None:
        """Join the thread, then close the tables. Calling it twice is fine."""
        self._batches.clear()
        self._stack.close()

    def _open(
        self, stack: ExitStack, layer: LayerSpec, tier: str, progress: Progress | None
    ) -> Table:
        table = open_table(self.module.path, layer.table, tier, progress=progress)
        stack.callback(table.close)
        return table

    def _batch_of(self, line: int) -> _Batch:
        for batch in self._batches:
            if batch.n_used[line] < batch.n_tokens:
                return batch
        raise AssertionError(
            "a hidden state arrived for tokens that were not submitted"
        )

    def _wait(self, batch: _Batch, line: int) -> Projection:
        if batch.n_used[line] == 0:
            self.counters.n_waits += 1
            self.counters.n_ready += batch.pending[line].ready
        projection, stall_s = batch.pending[line].wait()
        batch.stall_s += stall_s
        return projection

    def _fuse(self, line: int, projection: Projection, hidden: F32) -> None:
        layer = self._layers[line]
        shape = (len(hidden), layer.spec.n_branches, hidden.shape[1])
        streams = np.broadcast_to(hidden[:, None, :], shape)
        delta, gates = layer.fusion.delta(projection, streams)
        hidden += delta.sum(axis=1)
        self.counters.add_gates(self.layer_ids[line], gates)

    def _retire(self) -> None:
        while self._batches and self._batches[0].done:
            self.counters.stalls_s.append(self._batches.popleft().stall_s)


class _Layer:
    """What one memory layer needs: its hash, its rows, its weights, its history."""

    def __init__(self, module: MemoryModule, line: int, table: Table) -> None:
        layer = module.spec.layers[line]
        self.spec = module.fusion
        self.table = table
        self._layer_id = layer.layer_id
        self._token_map = module.token_map
        self.hasher = RowHasher(layer.hash)
        self._weights = module.weights[line]
        self.fusion = Fusion(
            self._weights,
            module.fusion,
            history_bytes=HISTORY_BYTES // len(module.spec.layers),
        )

    def prepare(self, token_ids: NDArray[np.int64], n_before: int) -> Projection:
        """Tokens -> keys and values, in the prefetch thread."""
        canonical_ids = self._token_map[token_ids].astype(np.int64)
        row_ids = self.hasher.row_ids(canonical_ids, n_before)
        rows = self._gather(row_ids.reshape(-1)).reshape(len(row_ids), -1)
        return project(rows, self._weights, self.spec)

    def _gather(self, row_ids: NDArray[np.int64]) -> F32:
        rows = np.empty((len(row_ids), self.table.spec.width), np.float32)
        self.table.gather(row_ids, rows)
        finite = np.isfinite(rows).all(axis=1)
        if not finite.all():
            row_id = int(row_ids[np.argmin(finite)])
            raise FormatError(
                f"row {row_id} of memory layer {self._layer_id} holds NaN or infinite "
                "values",
                hint="the file is damaged: restore it, or run with --no-memory",
            )
        return rows
