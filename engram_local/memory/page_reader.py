"""Asks the system to read the pages of rows, without waiting for them. Linux only."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
from numba.extending import register_jitable
from numpy.typing import NDArray

from engram_local.kernels import kernel, pointer
from engram_local.memory.hashing import RowHasher
from engram_local.memory.libc import (
    POPULATE_READ,
    WILL_NEED,
    madvise,
    posix_fadvise,
)
from engram_local.memory.module import NativeModule
from engram_local.memory.page_cache import mappings
from engram_local.memory.table_file import open_file
from engram_local.spec import TableSpec

I64 = NDArray[np.int64]

_FILE, _ADDRESS, _START, _ROW_BYTES, _PAGE_BYTES, _CANCELLED, _N_FIELDS = range(7)
"""What the compiled functions know of a table: one int64 array."""

_RANGES_LATER = 512
"""How many ranges are asked for before the first is mapped: it should be there by then,
and a drive has at most half as many of our reads in its queue (256 on Linux)."""


class PageReader:
    """Reads pages of one table into the page cache, and into llama.cpp's mapping.

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
        self._state[_ADDRESS] = find_mapping(module.path, layer.table) or 0
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


def find_mapping(path: Path, spec: TableSpec) -> int | None:
    """Return where a file's first byte would lie in the mapping that has its table.

    None where this process has no such mapping, or several: who made which is unknown.
    """
    end_bytes = spec.offset_bytes + spec.n_bytes
    found = {
        address - offset
        for address, offset, n_bytes in mappings(path)
        if offset <= spec.offset_bytes and end_bytes <= offset + n_bytes
    }
    return found.pop() if len(found) == 1 else None


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


@register_jitable
def _will_need(ends, state):  # type: ignore[no-untyped-def]  # pragma: no cover
    n_bytes = ends[1] - ends[0]
    posix_fadvise(np.int32(state[_FILE]), ends[0], n_bytes, np.int32(WILL_NEED))
    return n_bytes


@register_jitable
def _map(ends, state):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    address = pointer(state[_ADDRESS] + ends[0])
    madvise(address, np.uint64(ends[1] - ends[0]), np.int32(POPULATE_READ))


@kernel("i8(i8[::1], i8[::1])")
def _ask(row_ids, state):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Ask for the pages of rows; return how many.

    Mapping a page where llama.cpp will read it takes 2 us here, and spares the graph a
    page fault, which takes 2 to 4.
    """
    ranges = np.empty((row_ids.shape[0], 2), np.int64)
    n_ranges = page_ranges(row_ids, state, ranges)
    n_bytes = 0
    for i in range(n_ranges + _RANGES_LATER):
        if state[_CANCELLED]:
            break
        if i < n_ranges:
            n_bytes += _will_need(ranges[i], state)
        if i >= _RANGES_LATER and state[_ADDRESS]:
            _map(ranges[i - _RANGES_LATER], state)
    return n_bytes // state[_PAGE_BYTES]
