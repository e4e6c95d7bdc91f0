"""How fast RAM is read: from beginning to end, and rows at random.

In pages of 4 KiB, as the page cache has them: finding a page is part of a row's price.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from engram_local.events import Progress
from engram_local.kernels import kernel
from engram_local.units import GIB

ROW_BYTES = (64, 128, 256, 512)
BUFFER_BYTES = GIB
"""No processor's cache holds a part of it worth mentioning."""

RAM_PART = 0.25
"""Of the RAM that is available, what the buffer may take."""

_N_ROWS = 400_000  # per thread and turn: 10 to 20 ms
_WORD_BYTES = 8

I64 = NDArray[np.int64]
Clock = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRate:
    """Sequential reads."""

    n_threads: int
    bytes_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GatherRate:
    """Rows at random, each read once."""

    n_threads: int
    row_bytes: int
    rows_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySpeed:
    """What RAM gave, the best of a few turns."""

    streams: tuple[StreamRate, ...]
    """Ascending by threads."""

    gathers: tuple[GatherRate, ...]
    buffer_bytes: int


def measure_memory(
    n_threads: int,
    *,
    n_rounds: int = 5,
    buffer_bytes: int | None = None,
    clock: Clock = time.perf_counter,
    progress: Progress = lambda what, part: None,
) -> MemorySpeed:
    """Measure with 1, 2, 4 ... `n_threads` threads; takes 3 s with two.

    buffer_bytes: None = 1 GiB, or a quarter of the RAM that is available if it is less.
    """
    if buffer_bytes is None:
        available_bytes = psutil.virtual_memory().available
        buffer_bytes = min(BUFFER_BYTES, int(available_bytes * RAM_PART))
    progress("filling RAM", 0.0)
    memory = _Memory(buffer_bytes // max(ROW_BYTES) * max(ROW_BYTES), clock)
    cases = list(product(thread_counts(n_threads), (0, *ROW_BYTES)))
    rates = dict.fromkeys(cases, 0.0)
    with ThreadPoolExecutor(n_threads) as pool:
        for number, case in enumerate(cases * n_rounds):
            progress("reading RAM", number / (len(cases) * n_rounds))
            rates[case] = max(rates[case], memory.turn(pool, *case))
    return MemorySpeed(
        streams=tuple(
            StreamRate(n_threads=n, bytes_per_s=rate)
            for (n, row_bytes), rate in rates.items()
            if not row_bytes
        ),
        gathers=tuple(
            GatherRate(n_threads=n, row_bytes=row_bytes, rows_per_s=rate)
            for (n, row_bytes), rate in rates.items()
            if row_bytes
        ),
        buffer_bytes=memory.words.nbytes,
    )


def thread_counts(n_threads: int) -> list[int]:
    """Return 1, 2, 4 ... and `n_threads` itself."""
    powers = [2**i for i in range(n_threads.bit_length())]
    return sorted({*powers, n_threads})


class _Memory:
    """A buffer of words that are not zero: the system shares empty pages."""

    def __init__(self, n_bytes: int, clock: Clock) -> None:
        pages = mmap.mmap(-1, n_bytes)
        if hasattr(mmap, "MADV_NOHUGEPAGE"):  # Linux
            pages.madvise(mmap.MADV_NOHUGEPAGE)
        self.words = np.frombuffer(pages, np.int64)
        self.words.fill(1)
        self._loops = _loops()  # compiled before a clock runs
        self._clock = clock
        self._generator = np.random.default_rng(0)

    def turn(self, pool: ThreadPoolExecutor, n_threads: int, row_bytes: int) -> float:
        """Return bytes per second, or rows per second where rows have a size."""
        if not row_bytes:
            parts = np.array_split(self.words, n_threads)
            return (
                self._time(pool, [(self._loops[0], part) for part in parts])
                * _WORD_BYTES
            )
        rows = self.words.reshape(-1, row_bytes // _WORD_BYTES)
        ids = self._generator.integers(0, len(rows), (n_threads, _N_ROWS))
        jobs = [(self._loops[1], rows, own_ids) for own_ids in ids]
        return self._time(pool, jobs) / rows.shape[1]

    def _time(self, pool: ThreadPoolExecutor, jobs: list[tuple[Any, ...]]) -> float:
        """Return words per second of all threads; a loop returns the words it read."""
        begin_s = self._clock()
        futures = [pool.submit(*job) for job in jobs]
        n_words = sum(future.result() for future in futures)
        return float(n_words / (self._clock() - begin_s))


@cache
def _loops() -> tuple[Any, Any]:
    """Compile when first needed: nobody else does."""
    return (
        kernel("i8(i8[::1])")(_read_all),
        kernel("i8(i8[:, ::1], i8[::1])")(_read_rows),
    )


def _read_all(words):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Return the sum of all words: as each is 1, how many were read."""
    total = 0
    for i in range(words.size):
        total += words[i]
    return total


def _read_rows(rows, row_ids):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Return the sum of the words of rows, (n_rows, n_words).

    A flat array with a computed place took eight times as long as this.
    """
    total = 0
    for i in range(row_ids.size):
        row = rows[row_ids[i]]
        for j in range(row.size):
            total += row[j]
    return total
