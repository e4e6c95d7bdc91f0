"""The file behind a table: opened, its size checked, where its rows begin."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from io import BufferedReader
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engram_local.errors import TableError
from engram_local.memory.rows import locate_rows
from engram_local.spec import TableSpec
from engram_local.units import format_count

Opener = Callable[[str, int], int]
"""As Python's `open` takes it: path and flags -> file descriptor."""


def open_file(
    path: Path, spec: TableSpec, *, opener: Opener | None = None
) -> BufferedReader:
    """Open a table's file; raise TableError if that fails or it is too short."""
    try:
        with ExitStack() as stack:
            file = stack.enter_context(open(path, "rb", opener=opener))
            check_size(path, os.fstat(file.fileno()).st_size, spec)
            stack.pop_all()
            return file
    except OSError as error:
        raise TableError(f"{path} cannot be read: {error.strerror}") from error


def check_size(path: Path, file_bytes: int, spec: TableSpec) -> None:
    """Raise TableError if the table does not end within its file."""
    needed = spec.offset_bytes + spec.n_bytes
    if file_bytes < needed:
        raise TableError(
            f"{path} is {format_count(file_bytes)} bytes, its table ends at byte "
            f"{format_count(needed)}",
            hint="the file was cut off or replaced while in use: restore it",
        )


def row_starts(
    row_ids: NDArray[np.int64], spec: TableSpec, base_bytes: int
) -> NDArray[np.int64]:
    """Return where each row begins; every id is checked, once per batch."""
    starts = np.empty(len(row_ids), np.int64)
    wrong = locate_rows(row_ids, spec.n_rows, spec.row_bytes, base_bytes, starts)
    if wrong >= 0:
        raise TableError(
            f"row {row_ids[wrong]} was asked for, the table has rows 0 to "
            f"{spec.n_rows - 1}"
        )
    return starts
