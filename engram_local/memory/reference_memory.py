"""The memory in plain numpy, one step after the other: what `--reference` runs.

The same calls and the same numbers as `AttachedMemory`, without a thread, compiled
callbacks or small weights; slow, and obvious.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
from numpy.typing import NDArray

from engram_local.events import MemoryKind
from engram_local.memory.counters import Counters, check_passed
from engram_local.memory.fusion import Fusion, project
from engram_local.memory.hashing import RowHasher
from engram_local.memory.history import HISTORY_BYTES
from engram_local.memory.module import MemoryModule
from engram_local.memory.table import (
    Progress,
    Table,
    gather_finite,
    open_tables,
    resident_bytes_of,
)

F32 = NDArray[np.float32]


class ReferenceMemory:
    """One memory and one sequence; see `AttachedMemory` for the calls."""

    kind: MemoryKind = "attached"

    def __init__(
        self, module: MemoryModule, tier: str, *, progress: Progress | None = None
    ) -> None:
        self.module = module
        self.tier = tier
        self._token_ids: list[int] = []
        self._n_passed = [0] * len(module.layer_ids)
        self._gates: list[list[float]] = [[] for _ in module.layer_ids]
        self._counted = Counters()
        self._stall_s = 0.0
        self._hashers = [RowHasher(layer.hash) for layer in module.spec.layers]
        self._fusions = [
            Fusion(
                weights,
                module.fusion,
                history_bytes=HISTORY_BYTES // len(module.weights),
            )
            for weights in module.weights
        ]
        with ExitStack() as stack:
            specs = [layer.table for layer in module.spec.layers]
            self._tables = open_tables(stack, module.path, specs, tier, progress)
            self._stack = stack.pop_all()

    @property
    def layer_ids(self) -> tuple[int, ...]:
        """Decoder layers whose input the memory is added to."""
        return self.module.layer_ids

    @property
    def tables(self) -> Sequence[Table]:
        """Of the layers, in their order."""
        return self._tables

    @property
    def resident_bytes(self) -> int | None:
        """Bytes of the tables that are in memory now; None if the system hides it."""
        return resident_bytes_of(self._tables)

    def submit(self, token_ids: Sequence[int]) -> None:
        """Append to the sequence."""
        self._token_ids += token_ids
        self._counted.add_rows(self.module.spec, len(token_ids))

    def prepare(self) -> None:
        """Nothing is prepared: all is done in `add_delta`."""

    def add_delta(self, line: int, hidden: F32) -> None:
        """Add a layer's memory to `hidden`, (n_tokens, d) float32, in place."""
        start = time.perf_counter()
        first = self._n_passed[line]
        rows = self._rows(line, first, first + len(hidden))
        self._stall_s += time.perf_counter() - start
        projection = project(rows, self.module.weights[line], self.module.fusion)
        shape = (len(hidden), self.module.fusion.n_branches, hidden.shape[1])
        streams = np.broadcast_to(hidden[:, None, :], shape)
        delta, gates = self._fusions[line].delta(projection, streams)
        hidden += delta.sum(axis=1)
        self._n_passed[line] += len(hidden)
        self._gates[line] += gates.mean(axis=1).tolist()
        self._counted.add_gates(self.layer_ids[line], float(gates.sum()), gates.size)
        self._counted.n_waits += 1

    def check(self, n_tokens: int) -> None:
        """End a decode; raise unless every layer was added to the first `n_tokens`."""
        self._counted.add_stall(self._stall_s)
        self._stall_s = 0.0
        check_passed(self._n_passed, n_tokens)

    def gates(self, first: int, end: int) -> F32:
        """Return the gates of positions: see `AttachedMemory.gates`."""
        end = min(end, *self._n_passed)
        return np.array([gates[first:end] for gates in self._gates], np.float32)

    def trim(self, n_tokens: int) -> bool:
        """Keep the first `n_tokens`; False if the state before them is gone."""
        n_kept = min(n_tokens, *self._n_passed)
        for fusion, n_passed in zip(self._fusions, self._n_passed, strict=True):
            if not fusion.drop(n_passed - n_kept):
                return False
        del self._token_ids[n_kept:]
        self._n_passed = [n_kept] * len(self._n_passed)
        for gates in self._gates:
            del gates[n_kept:]
        return True

    def reset(self) -> None:
        """Start a new sequence."""
        self._token_ids.clear()
        self._n_passed = [0] * len(self._n_passed)
        for gates in self._gates:
            gates.clear()
        for fusion in self._fusions:
            fusion.reset()

    def look(self) -> Counters:
        """Return the counters as they are; they go on counting."""
        return self._counted

    def take_counters(self) -> Counters:
        """Return the counters and start again from zero."""
        taken, self._counted = self._counted, Counters()
        return taken

    def close(self) -> None:
        """Close the tables. Calling it twice is fine."""
        self._stack.close()

    def _rows(self, line: int, start: int, end: int) -> F32:
        """The concatenated rows of some positions: (n_tokens, E)."""
        assert end <= len(self._token_ids), (
            "a hidden state arrived for tokens that were not submitted"
        )
        hasher, table = self._hashers[line], self._tables[line]
        first = max(0, start - hasher.context)
        ids = self.module.canonical_ids(self._token_ids[first:end])
        row_ids = hasher.row_ids(ids, start - first).reshape(-1)
        rows = gather_finite(table, row_ids, self.layer_ids[line])
        return rows.reshape(end - start, -1)
