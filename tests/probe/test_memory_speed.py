"""Reading RAM: the loops read everything, and the best turn counts."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import numpy as np
import pytest

from engram_local.probe import memory_speed
from engram_local.probe.memory_speed import ROW_BYTES, measure_memory, thread_counts


def test_the_loops_add_up_what_numpy_does() -> None:
    read_all, read_rows = memory_speed._loops()
    words = np.arange(24, dtype=np.int64)
    assert read_all(words) == words.sum()
    rows, row_ids = words.reshape(6, 4), np.array([5, 0, 5])
    assert read_rows(rows, row_ids) == rows[row_ids].sum()


@pytest.mark.parametrize(
    ("n_threads", "expected"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6])]
)
def test_threads_are_doubled(n_threads: int, expected: list[int]) -> None:
    assert thread_counts(n_threads) == expected


def test_rates_are_what_was_read_over_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_speed, "_N_ROWS", 100)
    ticks: Iterator[float] = count(0.0, 0.5)  # every turn takes half a second
    speed = measure_memory(
        2, n_rounds=1, buffer_bytes=1 << 16, clock=lambda: next(ticks)
    )
    assert speed.buffer_bytes == 1 << 16
    assert [stream.n_threads for stream in speed.streams] == [1, 2]
    assert {stream.bytes_per_s for stream in speed.streams} == {2.0 * (1 << 16)}
    found = {(one.n_threads, one.row_bytes): one.rows_per_s for one in speed.gathers}
    expected = {(n, size): n * 200.0 for n in (1, 2) for size in ROW_BYTES}
    assert found == expected


def test_the_best_turn_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_speed, "_N_ROWS", 100)
    n_cases = 1 + len(ROW_BYTES)
    slow, fast = [0.0, 8.0] * n_cases, [0.0, 4.0] * n_cases
    ticks = iter([*slow, *fast, *slow])
    speed = measure_memory(
        1, n_rounds=3, buffer_bytes=1 << 16, clock=lambda: next(ticks)
    )
    assert speed.streams[0].bytes_per_s == (1 << 16) / 4
    assert {one.rows_per_s for one in speed.gathers} == {25.0}
