"""What is taken from a memory, and what is seen while it goes on."""

from __future__ import annotations

from typing import Any

from engram_local.events import MemoryKind
from engram_local.memory.counters import Counters
from engram_local.memory.tally import Tally


class Counting:
    """A memory that counts."""

    tier = "mmap"

    def __init__(self, kind: MemoryKind = "attached") -> None:
        self.kind = kind
        self.counters = Counters()

    def work(self, *stalls_s: float, n_ready: int = 0) -> None:
        for stall_s in stalls_s:
            self.counters.add_stall(stall_s)
        self.counters.rows_read += 8 * len(stalls_s)
        self.counters.bytes_read += 80 * len(stalls_s)
        self.counters.n_waits += 2 * len(stalls_s)
        self.counters.n_ready += n_ready

    def look(self) -> Counters:
        return self.counters

    def take_counters(self) -> Counters:
        taken, self.counters = self.counters, Counters()
        return taken


def test_stalls_are_counted_by_their_length() -> None:
    memory = Counting()
    memory.work(0.0, 10e-6, 11e-6, 5e-3, 99.0)
    stats = Tally().take(memory)
    assert stats is not None
    assert stats.stall_counts == (2, 1, 0, 0, 0, 0, 1, 0, 0, 1)


def test_totals_are_what_was_taken_and_what_was_not() -> None:
    tally, memory = Tally(), Counting()
    memory.work(1e-3, 2e-3, n_ready=3)
    before = tally.totals(memory)
    assert (before.rows_read, before.bytes_read, before.n_steps) == (16, 160, 2)
    assert (before.stall_ms, before.n_ready, before.n_late) == (3.0, 3, 1)
    assert tally.totals(memory) == before  # nothing was taken
    tally.take(memory)
    assert tally.totals(memory) == before
    assert tally.totals(None) == before  # the memory is gone
    memory.work(1e-3)
    after = tally.totals(memory)
    assert after.rows_read == 24
    assert sum(after.stall_counts) == after.n_steps == 3


def test_where_llama_cpp_waits_there_are_no_stalls() -> None:
    memory: Any = Counting("native")
    memory.counters.rows_read = 4
    stats = Tally().take(memory)
    assert stats is not None
    assert (stats.stall, stats.stall_counts, stats.rows_read) == (None, (), 4)


def test_without_a_memory_nothing_is_counted() -> None:
    tally = Tally()
    assert tally.take(None) is None
    assert tally.totals(None).rows_read == 0
    assert sum(tally.totals(None).stall_counts) == 0
