"""Files and the page cache: out of it, what is in it, and patience with it."""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from engram_local.memory.libc import resident_bytes

PATIENCE_S = 30.0


@contextmanager
def mapped(path: Path) -> Iterator[np.ndarray]:
    """Map a file as llama.cpp does; nothing of it is touched."""
    with open(path, "rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        mapping.madvise(mmap.MADV_RANDOM)  # else a fault reads what lies around it
    yield np.frombuffer(mapping, np.uint8)


def evict(path: Path) -> None:
    """Drop a file that nobody has touched in a mapping; skip where it stays."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if resident_pages(path):
        pytest.skip(f"files in {path.parent} cannot be evicted from memory")


def resident_pages(path: Path) -> set[int]:
    """Return the numbers of the pages that are in memory."""
    with mapped(path) as file_bytes:
        starts = range(0, len(file_bytes), mmap.PAGESIZE)
        return {
            start // mmap.PAGESIZE
            for start in starts
            if resident_bytes(file_bytes[start : start + mmap.PAGESIZE])
        }


def comes_true(attempt: Callable[[], bool]) -> bool:
    """Try until it succeeds, for half a minute.

    A busy system drops pages, and hints that should bring them, whenever it likes: what
    has to be there once may need several attempts. What must never be there is
    asserted in each of them.
    """
    deadline = time.monotonic() + PATIENCE_S
    while not (done := attempt()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return done
