"""A memory at work beside a backbone: prepares ahead, adds its delta, keeps its state.

Knows nothing of llama.cpp: `engine.py` submits token ids, and the hook calls the
function at `address` for each memory layer in turn (llama/hook.py).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
from numpy.typing import NDArray

from engram_local.events import MemoryKind
from engram_local.memory.counters import Counters, check_passed
from engram_local.memory.forward import Forward
from engram_local.memory.handover import (
    N_GATES,
    N_PASSED,
    N_READY,
    N_WAITS,
    STALL_NS,
    Handover,
)
from engram_local.memory.module import MemoryModule
from engram_local.memory.prefetch import Prefetcher
from engram_local.memory.prepare import Preparer
from engram_local.memory.table import Progress, Table, open_tables, resident_bytes_of

F32 = NDArray[np.float32]

_TOKENS_PER_LOOK = 32
"""How often the prefetch thread is told which processor to leave alone: two system
calls, and the system moves the decoding thread now and then only."""


class AttachedMemory:
    """One memory and one sequence. Use from the thread that decodes, and close it.

    Order of calls: `submit` token ids, any number of them ahead; then for every decode
    `prepare`, the decode itself with its hooks, and `check`. `address`, `state` and
    `raise_error` are what llama/hook.py calls a hook function.
    """

    kind: MemoryKind = "attached"

    def __init__(
        self,
        module: MemoryModule,
        tier: str,
        *,
        max_tokens: int,
        max_batch: int,
        prefetch: bool = True,
        weight_type: str = "int8",
        progress: Progress | None = None,
    ) -> None:
        """max_tokens: of a sequence; max_batch: of a decode. weight_type: of the
        projections, one of WEIGHT_TYPES (projector.py). Raises TableError or FitError.
        """
        self.module = module
        self.tier = tier
        self._n_counted = 0
        """Tokens submitted since `take_counters`."""

        self._counted = Counters()
        self._rows_per_token = module.spec.rows_per_token
        self._bytes_per_token = module.spec.bytes_per_token
        with ExitStack() as stack:
            specs = [layer.table for layer in module.spec.layers]
            self._tables = open_tables(stack, module.path, specs, tier, progress)
            self._handover = Handover(
                token_map=module.token_map,
                n_layers=len(self._tables),
                record_size=(module.fusion.n_branches + 1) * module.fusion.hidden_size,
                max_tokens=max_tokens,
                max_batch=max_batch,
                bounded=prefetch,
            )
            self._preparer = Preparer(module, self._tables, self._handover, weight_type)
            self._forward = Forward(
                module.weights, module.fusion, self._handover, self._preparer
            )
            if not self._preparer.works_in_place:
                self._handover.always_ahead()
            self._prefetcher: Prefetcher | None = None
            if prefetch:
                self._prefetcher = Prefetcher(self._preparer, self._handover)
                stack.callback(self._prefetcher.close)  # first: it reads the tables
            self._stack = stack.pop_all()

    @property
    def address(self) -> int:
        """Of the compiled function that adds the deltas of one layer."""
        return self._forward.address

    @property
    def state(self) -> int:
        """What that function gets as its last argument."""
        return self._forward.state

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
        """Append to the sequence; the thread begins at once where that pays."""
        before = self._n_counted // _TOKENS_PER_LOOK
        self._n_counted += len(token_ids)
        if self._prefetcher and before != self._n_counted // _TOKENS_PER_LOOK:
            self._prefetcher.avoid_this_processor()
        self._handover.submit(token_ids)

    def prepare(self) -> None:
        """Make the records of the next decode, where nobody else can: the hook makes
        those of rows in memory, the thread all others.
        """
        if self._prefetcher is None and not self._preparer.works_in_place:
            start = time.perf_counter_ns()
            self._preparer.work(wait_for_more=False)
            self._handover.control[STALL_NS] += time.perf_counter_ns() - start

    def add_delta(self, line: int, hidden: F32) -> None:
        """Do what the hook does for memory layer number `line`.

        hidden: (n_tokens, d) float32, the next tokens of the sequence, changed in
        place. All branches read the same hidden state, and their outputs are summed
        (engram-peft's rule for a backbone without hyper-connections).
        """
        if not self._forward.add_deltas(line, hidden):
            self.raise_error()

    def raise_error(self) -> None:
        """Raise why the hook's function failed, if it did. `reset` clears it."""
        self._preparer.raise_error()

    def check(self, n_tokens: int) -> None:
        """End a decode; raise unless every layer was added to the first `n_tokens`."""
        stall_ns = self._handover.end_decode(n_tokens)
        self._counted.add_stall(1e-9 * max(stall_ns, 0))
        if stall_ns < 0:
            check_passed(self._handover.counters[:, N_PASSED].tolist(), n_tokens)

    def gates(self, first: int, end: int) -> F32:
        """Return the gates of positions that have been decoded, mean over branches.

        (n_layers, n_tokens) float32, of `first` up to `end` or the last one decoded.
        """
        n_passed = int(self._handover.counters[:, N_PASSED].min())
        return self._handover.gates[:, first : min(end, n_passed)].copy()

    def trim(self, n_tokens: int) -> bool:
        """Keep the first `n_tokens` of the sequence, between two decodes.

        What was submitted but not decoded is forgotten. Returns False if the state
        before that position is gone; only `reset` helps then.
        """
        n_passed = self._handover.counters[:, N_PASSED]
        n_kept = min(n_tokens, int(n_passed.min()))
        if not self._forward.can_drop(n_kept, int(n_passed.max())):
            return False
        self._handover.rewind(n_kept)
        return True

    def reset(self) -> None:
        """Start a new sequence."""
        self._forward.reset()
        self._handover.rewind(0)

    def look(self) -> Counters:
        """Return the counters, gates left out, as they are: a few microseconds."""
        # In Python: numpy's sums would take 20 us out of a cold cache.
        layers, counted = self._handover.counters.tolist(), self._counted
        counted.n_waits = sum(layer[N_WAITS] for layer in layers)
        if self._prefetcher is not None:  # else they were made while all waited
            counted.n_ready = sum(layer[N_READY] for layer in layers)
        counted.rows_read = self._n_counted * self._rows_per_token
        counted.bytes_read = self._n_counted * self._bytes_per_token
        return counted

    def take_counters(self) -> Counters:
        """Return the counters and start again from zero."""
        counters, sums = self._handover.counters, self._handover.gate_sums
        taken, self._counted = self.look(), Counters()
        for line, layer_id in enumerate(self.layer_ids):
            taken.add_gates(layer_id, float(sums[line]), int(counters[line, N_GATES]))
        self._n_counted = 0
        counters[:, [N_WAITS, N_READY, N_GATES]] = 0
        sums[:] = 0
        return taken

    def close(self) -> None:
        """Join the thread, then close the tables. Calling it twice is fine."""
        self._stack.close()
