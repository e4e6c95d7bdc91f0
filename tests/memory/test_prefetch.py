"""The thread that prepares ahead: named, asleep without work, joined."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from engram_local.memory.attached import AttachedMemory
from engram_local.memory.handover import (
    N_AHEAD,
    N_PREPARED,
    N_SUBMITTED,
    SLOW_NS,
    STALL_NS,
    Handover,
)
from engram_local.memory.prefetch import Prefetcher
from tests.fakes import make_memory

THREAD = "engram-prefetch"


def prefetch_threads() -> list[str]:
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith("engram-prefetch")]


def make_handover(capacity: int = 4) -> Handover:
    return Handover(
        token_map=np.arange(9, dtype=np.int32),
        n_layers=2,
        record_size=8,
        max_tokens=64,
        max_batch=capacity,
        bounded=True,
    )


class FakePreparer:
    """Prepares nothing; notes what it was asked."""

    def __init__(self, handover: Handover) -> None:
        self._handover = handover
        self.ended = False

    def work(self, *, wait_for_more: bool) -> None:
        """Sleep until the end."""
        from engram_local.memory.handover import STOP, WORK, _wait

        assert wait_for_more
        while not self._handover.control[STOP]:
            _wait(self._handover.semaphores, WORK)
        self.ended = True


def test_the_thread_has_a_name_and_is_joined() -> None:
    handover = make_handover()
    preparer = FakePreparer(handover)
    prefetcher = Prefetcher(preparer, handover)  # type: ignore[arg-type]
    assert prefetch_threads() == ["engram-prefetch"]
    prefetcher.close()
    prefetcher.close()
    assert prefetch_threads() == []
    assert preparer.ended


def test_without_work_it_takes_no_processor_time(tmp_path: Path, written) -> None:  # type: ignore[no-untyped-def]
    module = written(make_memory(tmp_path / "memory.gguf"))
    memory = AttachedMemory(module, "mmap", max_tokens=64, max_batch=8)
    memory.submit([1, 2, 3])
    before = time.process_time()
    time.sleep(0.2)
    assert time.process_time() - before < 0.1
    memory.close()


@pytest.mark.parametrize("capacity", [1, 3, 8])
def test_it_stops_where_the_ring_is_full(
    tmp_path: Path,
    written,  # type: ignore[no-untyped-def]
    capacity: int,
) -> None:
    module = written(make_memory(tmp_path / "memory.gguf"))
    memory = AttachedMemory(module, "mmap", max_tokens=64, max_batch=capacity)
    memory.submit(list(range(20)))
    counters = memory._handover.counters
    while (counters[:, N_PREPARED] < capacity).any():
        time.sleep(0.001)
    time.sleep(0.02)
    assert counters[:, N_PREPARED].tolist() == [capacity] * 2
    assert memory._handover.control[N_SUBMITTED] == 20
    assert np.isfinite(memory._handover.records).all()
    memory.close()


def test_it_avoids_the_processor_of_its_caller() -> None:
    allowed = os.sched_getaffinity(0)
    if len(allowed) < 2:
        pytest.skip("there is one processor only")
    handover = make_handover()
    prefetcher = Prefetcher(FakePreparer(handover), handover)  # type: ignore[arg-type]
    here = min(allowed)
    try:
        os.sched_setaffinity(0, {here})
        # Only one is allowed now: there is nowhere to go, and nothing is changed.
        prefetcher.avoid_this_processor()
        thread = next(one for one in threading.enumerate() if one.name == THREAD)
        assert thread.native_id is not None
        assert os.sched_getaffinity(thread.native_id) == allowed
        os.sched_setaffinity(0, allowed)
        prefetcher.avoid_this_processor()
        assert len(os.sched_getaffinity(thread.native_id)) == len(allowed) - 1
    finally:
        os.sched_setaffinity(0, allowed)
        prefetcher.close()


@pytest.mark.parametrize("stall_ns", [0, SLOW_NS])
def test_a_short_wait_leaves_the_thread_asleep(stall_ns: int) -> None:
    handover = make_handover()
    handover.control[STALL_NS] = stall_ns
    assert handover.end_decode(0) == stall_ns
    assert handover.control[N_AHEAD] == 0


def test_a_long_wait_lets_the_thread_go_ahead_for_a_while() -> None:
    handover = make_handover()
    handover.control[STALL_NS] = SLOW_NS + 1
    handover.end_decode(0)
    ahead = int(handover.control[N_AHEAD])
    assert ahead > 1
    handover.submit([1])
    assert handover.control[N_AHEAD] == ahead - 1
    assert handover.control[STALL_NS] == 0
