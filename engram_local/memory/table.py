"""The table of one memory layer: in RAM, mapped from its file, or read from the drive.

All tiers hand out the same rows behind one `gather`; a test compares the bytes.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Protocol

import numpy as np
import psutil
from numpy.typing import NDArray

from engram_local.errors import FitError, FormatError, TableError
from engram_local.memory.direct import DirectFile, DirectTable
from engram_local.memory.page_cache import cached_bytes
from engram_local.memory.rows import decode_rows
from engram_local.memory.table_file import check_size, open_file, row_starts
from engram_local.spec import TableSpec
from engram_local.units import MIB, format_bytes

F32 = NDArray[np.float32]
Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all."""

_READ_BYTES = 16 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class InPlace:
    """Rows that compiled code may read by their address."""

    address: int
    """Of row 0."""

    descriptor: int
    """Of the file behind the rows, -1 = none."""

    file_bytes: int
    """What the file must have for a read to be safe; look each time."""


class Table(Protocol):
    """Rows by row id. Safe to gather from several threads until it is closed."""

    tier: str
    spec: TableSpec

    def gather(
        self, row_ids: NDArray[np.int64], out: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Decode rows into `out` and return it.

        row_ids: (n_rows,) int64; out: (n_rows, width) float32. Raises TableError for
        an id outside the table, a closed table, or a file that became shorter.
        """

    def in_place(self) -> InPlace | None:
        """Return where the rows lie in memory, until `close`; None if nowhere."""

    def resident_bytes(self) -> int | None:
        """Return how much of the table is in memory now; None if unknown."""

    def resident_part(self, begin: int, end: int) -> float | None:
        """Return how much of some bytes of the table is in memory, 0 to 1."""

    def close(self) -> None:
        """Give the memory back. Calling it twice is fine."""


def open_table(
    path: Path, spec: TableSpec, tier: str, *, progress: Progress | None = None
) -> Table:
    """Open the rows of one layer in `tier`: "ram", "mmap" or "direct".

    Raises TableError if the file cannot be read or is shorter than `spec` needs.
    """
    if tier == "ram":
        return RamTable(path, spec, progress=progress)
    if tier == "direct":
        return DirectTable(DirectFile(path, [spec]), spec, owns_file=True)
    return MmapTable(path, spec)


def open_tables(
    stack: ExitStack,
    path: Path,
    specs: Sequence[TableSpec],
    tier: str,
    progress: Progress | None,
) -> list[Table]:
    """Open the tables of all layers; closing `stack` closes them."""
    tables: list[Table] = []
    if tier == "direct":  # 8 layers need no 8 x 32 threads
        file = DirectFile(path, specs)
        stack.callback(file.close)
        return [DirectTable(file, spec) for spec in specs]
    for spec in specs:
        tables.append(open_table(path, spec, tier, progress=progress))
        stack.callback(tables[-1].close)
    return tables


def resident_bytes_of(tables: Sequence[Table]) -> int | None:
    """Return the bytes of tables that are in memory now; None if one is unknown."""
    parts = [table.resident_bytes() for table in tables]
    return None if None in parts else sum(part or 0 for part in parts)


def gather_finite(table: Table, row_ids: NDArray[np.int64], layer_id: int) -> F32:
    """Return rows, (n_rows, width) float32, all of them finite.

    Raises TableError as `gather` does, FormatError for a row that holds no number.
    """
    rows = np.empty((len(row_ids), table.spec.width), np.float32)
    table.gather(row_ids, rows)
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        raise not_finite(int(row_ids[np.argmin(finite)]), layer_id)
    return rows


def not_finite(row_id: int, layer_id: int) -> FormatError:
    """Return the error of a row that holds no number."""
    return FormatError(
        f"row {row_id} of memory layer {layer_id} holds NaN or infinite values",
        hint="the file is damaged: restore it, or run with --no-memory",
    )


class MmapTable:
    """Rows read through a private file mapping: resident only where they were used."""

    tier = "mmap"

    def __init__(self, path: Path, spec: TableSpec) -> None:
        self.spec = spec
        self._path = path
        self._file = open_file(path, spec)
        try:
            self._map = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:  # not every file system can map
            self._file.close()
            raise TableError(
                f"{path} cannot be mapped: {error.strerror}",
                hint="read the table into memory with the tier ram",
            ) from error
        if hasattr(mmap, "MADV_RANDOM"):  # not on Windows
            # Without it a fault reads ahead: 128 KiB and more for one small row.
            self._map.madvise(mmap.MADV_RANDOM, *_page_range(spec))
        self._bytes: NDArray[np.uint8] | None = np.frombuffer(self._map, np.uint8)

    def gather(
        self, row_ids: NDArray[np.int64], out: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """See `Table.gather`; the file's size is checked once per call."""
        if self._bytes is None:
            raise TableError(f"the table of {self._path} is closed")
        # Reading a mapped page past a new end of file would raise SIGBUS; what slips
        # through between this check and the read ends in memory/libc.py.
        size = os.lseek(self._file.fileno(), 0, os.SEEK_END)  # 2 us less than fstat
        check_size(self._path, size, self.spec)
        starts = row_starts(row_ids, self.spec, self.spec.offset_bytes)
        return decode_rows(self._bytes, starts, self.spec.row_type, out)

    def in_place(self) -> InPlace | None:
        """In the mapping, as long as the file keeps its size."""
        if self._bytes is None:
            return None
        return InPlace(
            address=self._bytes.ctypes.data + self.spec.offset_bytes,
            descriptor=self._file.fileno(),
            file_bytes=self.spec.offset_bytes + self.spec.n_bytes,
        )

    def resident_bytes(self) -> int | None:
        """In whole pages, so it may count a little of the file around the table."""
        return self._resident(0, self.spec.n_bytes)

    def resident_part(self, begin: int, end: int) -> float | None:
        """Of the pages that those bytes touch."""
        resident = self._resident(begin, end)
        first, last = self.spec.offset_bytes + begin, self.spec.offset_bytes + end
        n_pages = -(-last // mmap.PAGESIZE) - first // mmap.PAGESIZE
        return None if resident is None else resident / (n_pages * mmap.PAGESIZE)

    def _resident(self, begin: int, end: int) -> int | None:
        if self._bytes is None:
            return None
        start = self.spec.offset_bytes
        return cached_bytes(self._path, self._file.fileno(), start + begin, start + end)

    def close(self) -> None:
        """Drop the view, then the mapping: the other order raises BufferError."""
        if self._bytes is None:
            return
        self._bytes = None
        self._map.close()
        self._file.close()


class RamTable:
    """Rows read once into anonymous memory."""

    tier = "ram"

    def __init__(
        self, path: Path, spec: TableSpec, *, progress: Progress | None = None
    ) -> None:
        self.spec = spec
        self._path = path
        self._bytes: NDArray[np.uint8] | None = _read(path, spec, progress)

    def gather(
        self, row_ids: NDArray[np.int64], out: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """See `Table.gather`."""
        if self._bytes is None:
            raise TableError(f"the table of {self._path} is closed")
        starts = row_starts(row_ids, self.spec, 0)
        return decode_rows(self._bytes, starts, self.spec.row_type, out)

    def in_place(self) -> InPlace | None:
        """In the copy."""
        if self._bytes is None:
            return None
        return InPlace(address=self._bytes.ctypes.data, descriptor=-1, file_bytes=0)

    def resident_bytes(self) -> int | None:
        """All of it."""
        return None if self._bytes is None else self._bytes.nbytes

    def resident_part(self, _begin: int, _end: int) -> float | None:
        """All of it."""
        return None if self._bytes is None else 1.0

    def close(self) -> None:
        """Give the memory back."""
        self._bytes = None


def _read(path: Path, spec: TableSpec, progress: Progress | None) -> NDArray[np.uint8]:
    available_bytes = psutil.virtual_memory().available
    if spec.n_bytes > available_bytes:
        raise FitError(
            f"the table of {path} is {format_bytes(spec.n_bytes)}, "
            f"{format_bytes(available_bytes)} of RAM are available",
            hint="leave it in its file: --memory-tier mmap",
        )
    table = np.empty(spec.n_bytes, np.uint8)
    view = memoryview(table.data)
    with open_file(path, spec) as file:
        file.seek(spec.offset_bytes)
        for start in range(0, spec.n_bytes, _READ_BYTES):
            piece = view[start : start + _READ_BYTES]
            if _read_into(file, piece, path) != len(piece):
                raise TableError(f"{path} became shorter while it was read")
            if progress is not None:
                progress(start + len(piece), spec.n_bytes)
    return table


def _read_into(file: BufferedReader, piece: memoryview, path: Path) -> int:
    try:
        return file.readinto(piece)
    except OSError as error:  # a failing drive
        raise TableError(f"{path} cannot be read: {error.strerror}") from error


def _page_range(spec: TableSpec) -> tuple[int, int]:
    start = spec.offset_bytes // mmap.PAGESIZE * mmap.PAGESIZE
    return start, spec.offset_bytes + spec.n_bytes - start
