"""Asks the system to read the pages of rows, without waiting for them. Linux only."""

from __future__ import annotations

import mmap

import numpy as np
from numpy.typing import NDArray

from engram_local.kernels import kernel
from engram_local.memory.hashing import RowHasher
from engram_local.memory.libc import WILL_NEED, posix_fadvise
from engram_local.memory.module import NativeModule
from engram_local.memory.table_file import open_file

I64 = NDArray[np.int64]

_FILE, _START, _ROW_BYTES, _PAGE_BYTES, _CANCELLED, _N_FIELDS = range(6)
"""What the compiled functions know of a table: one int64 array."""


class PageReader:
    """Reads pages of one table into the page cache.

    One thread may `read`; `cancel` and `allow` are safe from any. Close it.
    """

    def __init__(self, module: NativeModule) -> None:
        """Raises TableError if the file cannot be read."""
        (layer,) = module.spec.layers
        self._hasher = RowHasher(layer.hash)
        self.context = self._hasher.context
        """Earlier ids that the rows of a token depend on."""

        self._file = open_file(module.path, layer.table)
        self._state = np.zeros(_N_FIELDS, np.int64)
        self._state[_FILE] = self._file.fileno()
        self._state[_START] = layer.table.offset_bytes
        self._state[_ROW_BYTES] = layer.table.row_bytes
        self._state[_PAGE_BYTES] = mmap.PAGESIZE

    def read(self, token_ids: I64, n_before: int) -> int:
        """Ask for the rows of all but the first `n_before` ids; return pages.

        Works without the GIL, and sleeps while the drive's queue is full. What the
        system refuses is left to the graph, and so is a file that became shorter.
        """
        row_ids = self._hasher.row_ids(token_ids, n_before)
        return int(_ask(row_ids.reshape(-1), self._state))

    def cancel(self) -> None:
        """End a `read` early, and the next one too until `allow`."""
        self._state[_CANCELLED] = 1

    def allow(self) -> None:
        """End what `cancel` began."""
        self._state[_CANCELLED] = 0

    def close(self) -> None:
        """Close the file. Calling it twice is fine."""
        self._file.close()


@kernel("i8(i8[::1], i8[::1], i8[:, ::1])")
def page_ranges(row_ids, state, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Fill `out` with the ranges of pages that rows lie in; return how many.

    row_ids: (n_rows,) int64, in any order, not changed. out: (n_rows, 2) int64, begin
    and end in bytes of the file, ascending; ranges neither overlap nor touch.
    """
    n_ranges = 0
    page_bytes = state[_PAGE_BYTES]
    for row_id in np.sort(row_ids):
        start = state[_START] + row_id * state[_ROW_BYTES]
        begin = start // page_bytes * page_bytes
        end = -(-(start + state[_ROW_BYTES]) // page_bytes) * page_bytes
        if n_ranges and begin <= out[n_ranges - 1, 1]:
            out[n_ranges - 1, 1] = max(end, out[n_ranges - 1, 1])
        else:
            out[n_ranges] = begin, end
            n_ranges += 1
    return n_ranges


@kernel("i8(i8[::1], i8[::1])")
def _ask(row_ids, state):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Ask for the pages of rows; return how many."""
    ranges = np.empty((row_ids.shape[0], 2), np.int64)
    n_bytes = 0
    for i in range(page_ranges(row_ids, state, ranges)):
        if state[_CANCELLED]:
            break
        begin, length = ranges[i, 0], ranges[i, 1] - ranges[i, 0]
        posix_fadvise(np.int32(state[_FILE]), begin, length, np.int32(WILL_NEED))
        n_bytes += length
    return n_bytes // state[_PAGE_BYTES]
