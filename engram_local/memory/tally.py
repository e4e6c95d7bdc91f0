"""What memories did: for one answer, and in all since the engine was opened."""

from __future__ import annotations

from typing import Protocol

from engram_local.events import MemoryKind, MemoryStats, MemoryTotals
from engram_local.memory.counters import N_BINS, Counters
from engram_local.telemetry import summarize


class Counting(Protocol):
    """A memory, as far as it counts."""

    @property
    def kind(self) -> MemoryKind:
        """Whether llama.cpp gathers the rows."""

    @property
    def tier(self) -> str:
        """Where rows lie."""

    def look(self) -> Counters:
        """Return the counters since `take_counters`, which go on counting."""

    def take_counters(self) -> Counters:
        """Return the counters and start again from zero."""


class Tally:
    """Sums up all that is taken. Use from the thread that decodes."""

    def __init__(self) -> None:
        self._taken = MemoryTotals(stall_counts=(0,) * N_BINS)

    def take(self, memory: Counting | None) -> MemoryStats | None:
        """Return what a memory did since it was asked before."""
        if memory is None:
            return None
        counters = memory.take_counters()
        self._taken = _sum(self._taken, counters)
        is_native = memory.kind == "native"
        return MemoryStats(
            kind=memory.kind,
            tier=memory.tier,
            rows_read=counters.rows_read,
            bytes_read=counters.bytes_read,
            pages_ahead=counters.pages_ahead,
            verified_rows=counters.verified_rows,
            stall=None if is_native else summarize(counters.stalls_s),
            stall_counts=() if is_native else tuple(counters.stall_counts),
            n_submitted=counters.n_waits,
            n_ready=counters.n_ready,
            n_late=counters.n_waits - counters.n_ready,
            gate_mean=counters.gate_means(),
        )

    def totals(self, memory: Counting | None) -> MemoryTotals:
        """Return the sums, with what `memory` has done since it was asked.

        Takes 20 us: nothing is summed over steps or tokens.
        """
        return self._taken if memory is None else _sum(self._taken, memory.look())


def _sum(before: MemoryTotals, counters: Counters) -> MemoryTotals:
    counts = zip(before.stall_counts, counters.stall_counts, strict=True)
    return MemoryTotals(
        rows_read=before.rows_read + counters.rows_read,
        bytes_read=before.bytes_read + counters.bytes_read,
        n_steps=before.n_steps + len(counters.stalls_s),
        stall_ms=before.stall_ms + 1e3 * counters.stall_s,
        stall_counts=tuple(one + other for one, other in counts),
        n_ready=before.n_ready + counters.n_ready,
        n_late=before.n_late + counters.n_waits - counters.n_ready,
    )
