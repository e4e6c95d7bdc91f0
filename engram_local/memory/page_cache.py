"""The page cache: how much of a file is in it, read a part into it, or free it."""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np

from engram_local.errors import TableError
from engram_local.memory.libc import cached_pages, drop_mapped, resident_bytes
from engram_local.units import MIB

Ranges = list[tuple[int, int]]
"""Begin and end of parts of a file, in bytes."""

_READ_BYTES = 16 * MIB


def cached_bytes(path: Path, descriptor: int, begin: int, end: int) -> int | None:
    """Return how much of a part of a file is in memory; None where nobody can tell.

    In whole pages, so it may count a little of what lies around; touches no page.
    descriptor: of the file, open for reading.
    """
    if begin >= end:
        return 0
    n_pages = cached_pages(descriptor, begin, end - begin)
    if n_pages is not None:
        return n_pages * mmap.PAGESIZE
    return _mapped_bytes(descriptor, begin, end) if _is_ours(path, descriptor) else None


def _is_ours(path: Path, descriptor: int) -> bool:
    """Return whether mincore tells the truth; to others it says that all is there."""
    if os.fstat(descriptor).st_uid == os.geteuid():
        return True
    return os.access(path, os.W_OK, effective_ids=True)


def _mapped_bytes(descriptor: int, begin: int, end: int) -> int | None:
    start = begin // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
    end = min(end, os.fstat(descriptor).st_size)  # it may have become shorter
    if begin >= end:
        return 0
    with mmap.mmap(
        descriptor, end - start, access=mmap.ACCESS_READ, offset=start
    ) as mapped:
        return resident_bytes(np.frombuffer(mapped, np.uint8)[begin - start :])


def read_through(path: Path, ranges: Ranges) -> Iterator[int]:
    """Read parts of a file, so that they are in memory; yield bytes read after each
    16 MiB. Raises TableError if they cannot be read.
    """
    buffer = memoryview(bytearray(_READ_BYTES))
    try:
        with open(path, "rb", buffering=0) as file:
            for begin, end in ranges:
                file.seek(begin)
                while begin < end and (n := file.readinto(buffer[: end - begin])):
                    begin += n
                    yield n
    except OSError as error:
        raise TableError(f"{path} cannot be read: {error.strerror}") from error


def release(path: Path, ranges: Ranges) -> None:
    """Let the page cache forget parts of a file, so that others can use its room.

    Only whole pages go, and none that the system keeps as one with a neighbour. What
    this process maps of them is read from the file again when it is touched, so that
    too much costs time and never a result. Does nothing where the system cannot, and
    pages that another process maps stay.
    """
    if not sys.platform.startswith("linux"):
        return
    pages = list(_whole_pages(ranges))
    for address, offset, n_bytes in mappings(path):
        for begin, end in pages:
            first, last = max(begin, offset), min(end, offset + n_bytes)
            if first < last:
                drop_mapped(address + first - offset, last - first)
    with suppress(OSError), open(path, "rb") as file:
        for begin, end in pages:
            os.posix_fadvise(file.fileno(), begin, end - begin, os.POSIX_FADV_DONTNEED)


def _whole_pages(ranges: Ranges) -> Iterator[tuple[int, int]]:
    for begin, end in ranges:
        first = -(-begin // mmap.PAGESIZE) * mmap.PAGESIZE
        last = end // mmap.PAGESIZE * mmap.PAGESIZE
        if first < last:  # a length of 0 would mean up to the end
            yield first, last


def mappings(path: Path) -> Iterator[tuple[int, int, int]]:
    """Yield address, offset in the file and length of what this process maps of it."""
    # The system writes names as they are, in any encoding, but for the end of a line.
    name = os.fsencode(path.resolve()).replace(b"\n", rb"\012")
    try:
        maps = Path("/proc/self/maps").read_bytes()
    except OSError:  # a hardened container hides it
        return
    for line in maps.split(b"\n"):
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5] == name:
            first, last = (int(number, 16) for number in fields[0].split(b"-"))
            yield first, int(fields[2], 16), last - first
