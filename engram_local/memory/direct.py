"""The table of one memory layer, read from the drive past the page cache (O_DIRECT).

For tables much larger than RAM: rows that are read once do not push other files out of
memory. What is asked for twice is read twice.
"""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from errno import EINVAL
from functools import cache
from io import BufferedReader
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engram_local.errors import DirectReadError, TableError
from engram_local.kernels import kernel
from engram_local.memory.block_reader import BlockReader
from engram_local.memory.rows import decode_rows
from engram_local.memory.table_file import check_size, open_file, row_starts
from engram_local.spec import TableSpec
from engram_local.units import MIB, format_count

N_READERS = 32
"""A drive that gives 76,000 blocks per second gave 4,096 rows at 0.62, 0.81, 0.89 and
0.92 of that with 8, 16, 32 and 64 (docs/benchmarks/direct_reads.py)."""

_BUFFER_BYTES = 16 * MIB
_BLOCK_BYTES = 4096


class DirectFile:
    """A file that is read past the page cache; the tables of a memory share it.

    Its threads read for one table at a time.
    """

    def __init__(
        self,
        path: Path,
        specs: Sequence[TableSpec],
        *,
        n_readers: int = N_READERS,
        buffer_bytes: int = _BUFFER_BYTES,
    ) -> None:
        """specs: of the tables in the file. buffer_bytes: a gather that needs more
        than this is read in pieces.
        """
        self.path = path
        self.lock = Lock()
        self.closed = False
        with ExitStack() as stack:
            self._file = stack.enter_context(_open_direct(path, specs[0]))
            block_bytes = _block_bytes(path, self._file, specs[0])
            row_bytes = max(spec.row_bytes for spec in specs)
            self.reader = BlockReader(
                self._file.fileno(),
                block_bytes=block_bytes,
                n_blocks=max(buffer_bytes // block_bytes, 2 + row_bytes // block_bytes),
                n_readers=n_readers,
            )
            stack.callback(self.reader.close)
            self._stack = stack.pop_all()

    def check(self, spec: TableSpec) -> None:
        """Raise TableError if the file is closed or does not hold a table any more."""
        if self.closed:
            raise TableError(f"the table of {self.path} is closed")
        check_size(self.path, os.fstat(self._file.fileno()).st_size, spec)

    def close(self) -> None:
        """Join the threads, then close the file; waits for a gather in another one."""
        with self.lock:
            self.closed = True
            self._stack.close()


class DirectTable:
    """Rows read anew at every gather; one gather at a time, and per file."""

    tier = "direct"

    def __init__(
        self, file: DirectFile, spec: TableSpec, *, owns_file: bool = False
    ) -> None:
        """owns_file: `close` closes it; else it is shared with other tables."""
        self.spec = spec
        self._path = file.path
        self._file = file
        self._owns_file = owns_file
        self._reader = file.reader
        self._place = _place()  # compiled before it is in anybody's way

    def gather(
        self, row_ids: NDArray[np.int64], out: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """See `Table.gather`; the file's size is checked once per call."""
        starts = row_starts(row_ids, self.spec, self.spec.offset_bytes)
        order = np.argsort(starts)  # rows that share a block follow each other
        with self._file.lock:
            self._file.check(self.spec)
            while order.size:
                rows = self._read(starts[order[: len(self._reader.blocks)]])
                out[order[: len(rows)]] = rows
                order = order[len(rows) :]
        return out

    def in_place(self) -> None:
        """Nowhere: rows are read anew every time."""

    def resident_bytes(self) -> int | None:
        """Nothing of the table stays in memory."""
        return None if self._file.closed else 0

    def resident_part(self, _begin: int, _end: int) -> float | None:
        """Nothing of it."""
        return None if self._file.closed else 0.0

    def close(self) -> None:
        """Close the file, if it is this table's own. Calling it twice is fine."""
        if self._owns_file:
            self._file.close()

    def _read(self, starts: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return as many of the first rows as the buffer can hold; starts ascend."""
        reader = self._reader
        places = np.empty(len(starts), np.int64)
        n_rows, n_blocks = self._place(
            starts, self.spec.row_bytes, reader.block_bytes, reader.blocks, places
        )
        self._check_read(reader.read(n_blocks), reader.blocks[:n_blocks])
        rows = np.empty((n_rows, self.spec.width), np.float32)
        return decode_rows(reader.buffer, places[:n_rows], self.spec.row_type, rows)

    def _check_read(
        self, results: NDArray[np.int64], blocks: NDArray[np.int64]
    ) -> None:
        """Raise unless every block was read as far as the table goes."""
        begins = blocks * self._reader.block_bytes
        end = self.spec.offset_bytes + self.spec.n_bytes
        wanted = np.minimum(end - begins, self._reader.block_bytes)
        if (results >= wanted).all():
            return
        i = int(np.argmax(results < wanted))
        where = f"{self._path} at byte {format_count(int(begins[i]))}"
        if results[i] < 0:
            reason = os.strerror(-int(results[i]))
            raise TableError(f"{where} cannot be read: {reason}")
        raise TableError(
            f"{where} gave {results[i]} of {wanted[i]} bytes",
            hint="the file was cut off or replaced while in use: restore it",
        )


def _open_direct(path: Path, spec: TableSpec) -> BufferedReader:
    def opener(name: str, flags: int) -> int:
        try:
            return os.open(name, flags | os.O_DIRECT)
        except OSError as error:
            if error.errno == EINVAL:
                raise _refusal(path) from error
            raise

    if not sys.platform.startswith("linux"):
        raise _refusal(path)
    return open_file(path, spec, opener=opener)


def _block_bytes(path: Path, file: BufferedReader, spec: TableSpec) -> int:
    """Return the least that can be read; raise TableError if nothing can.

    4 KiB is enough for all common drives. The file system's own block size is asked
    second: it is 1 MiB on some networks, of which a row needs little.
    """
    descriptor = file.fileno()
    for n_bytes in (_BLOCK_BYTES, os.fstatvfs(descriptor).f_bsize):
        with mmap.mmap(-1, n_bytes) as target:
            begin = spec.offset_bytes // n_bytes * n_bytes
            try:
                os.preadv(descriptor, [target], begin)
                return n_bytes
            except OSError as error:
                if error.errno != EINVAL:
                    reason = error.strerror
                    raise TableError(f"{path} cannot be read: {reason}") from error
    raise _refusal(path)


def _refusal(path: Path) -> DirectReadError:
    return DirectReadError(
        f"{path} cannot be read past the page cache: its file system or this system "
        "has no O_DIRECT",
        hint="leave the table to the page cache: --memory-tier mmap",
    )


@cache
def _place() -> Any:
    """Compile when first needed: other tiers start 60 ms sooner without it."""
    return kernel("UniTuple(i8, 2)(i8[::1], i8, i8, i8[::1], i8[::1])")(_place_rows)


def _place_rows(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    starts, row_bytes, block_bytes, blocks, places
):
    """Number the blocks that hold the rows; say where in the buffer each row begins.

    Writes ascending block numbers into `blocks` until it is full, and into `places`
    for each row whose blocks fit. Returns how many rows and blocks these are.
    """
    n_blocks, newest = 0, -1
    for row in range(starts.size):
        first = starts[row] // block_bytes
        last = (starts[row] + row_bytes - 1) // block_bytes
        unseen = max(first, newest + 1)
        if n_blocks + last + 1 - unseen > blocks.size:
            return row, n_blocks
        for block in range(unseen, last + 1):
            blocks[n_blocks] = block
            n_blocks += 1
        newest = last
        begin = n_blocks - 1 - (last - first)  # of the row's blocks in the buffer
        places[row] = begin * block_bytes + starts[row] % block_bytes
    return starts.size, n_blocks
