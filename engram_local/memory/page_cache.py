"""Pages of files that nobody needs in memory any more."""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from engram_local.memory.libc import drop_mapped

Ranges = list[tuple[int, int]]
"""Begin and end of parts of a file, in bytes."""


def release(path: Path, ranges: Ranges) -> None:
    """Let the page cache forget parts of a file, so that others can use its room.

    Only whole pages go, and none that the system keeps as one with a neighbour.
    What this process maps of them is read from the file again
    when it is touched, so that too much costs time and never a result. Does nothing
    where the system cannot, and pages that another process maps stay.
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
