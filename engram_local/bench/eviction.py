"""A file, or a part of it, in the page cache: how much of it, all of it, none of it.

`python -m engram_local.bench.eviction PATH BEGIN END` evicts and prints what stayed. It
is a process of its own because one that maps the file keeps the pages it has touched.
"""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from engram_local.errors import BenchError
from engram_local.memory import page_cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A part of a file."""

    path: Path
    begin_bytes: int = 0
    end_bytes: int | None = None
    """None = up to its end."""

    def pages(self) -> tuple[int, int]:
        """Return begin and end of the whole pages in it; what it shares is not its."""
        size = self.path.stat().st_size
        end = size if self.end_bytes is None else min(self.end_bytes, size)
        if end < size:
            end -= end % mmap.PAGESIZE
        begin = -(-self.begin_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        return begin, max(begin, end)


@dataclass(frozen=True, slots=True, kw_only=True)
class Eviction:
    """How much of a region was in memory, before and after; None = nobody can tell."""

    region_bytes: int
    before_bytes: int | None
    after_bytes: int | None


def evict(region: Region) -> Eviction:
    """Drop a region from the page cache, in a process that does not map it.

    Pages that another process maps and has touched stay, and so does a file system
    that lives in memory: look at `after_bytes`. Raises BenchError.
    """
    begin, end = region.pages() if region.path.exists() else (0, 0)
    words = [str(region.path), str(begin), str(end)]
    command = [sys.executable, "-m", __name__, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.splitlines() or ["no reason given"])[-1]
        raise BenchError(f"{region.path} could not be evicted from memory: {reason}")
    return Eviction(**json.loads(done.stdout))


def read_through(region: Region) -> None:
    """Read a region from beginning to end, so that it is in the page cache."""
    for _ in page_cache.read_through(region.path, [region.pages()]):
        pass


def cached_bytes(region: Region) -> int | None:
    """Return how much of a region is in the page cache; None where nobody can tell."""
    begin, end = region.pages()
    if begin == end:
        return None
    with open(region.path, "rb") as file:
        return page_cache.cached_bytes(region.path, file.fileno(), begin, end)


def _evict_here(region: Region) -> Eviction:
    before_bytes = cached_bytes(region)
    begin, end = region.pages()
    with open(region.path, "rb") as file:
        os.fsync(file.fileno())  # a dirty page cannot be dropped
        if hasattr(os, "posix_fadvise") and begin < end:  # Linux; 0 = up to the end
            length = end - begin
            os.posix_fadvise(file.fileno(), begin, length, os.POSIX_FADV_DONTNEED)
    return Eviction(
        region_bytes=end - begin,
        before_bytes=before_bytes,
        after_bytes=cached_bytes(region),
    )


if __name__ == "__main__":
    _path, _begin, _end = sys.argv[1:]
    _region = Region(path=Path(_path), begin_bytes=int(_begin), end_bytes=int(_end))
    sys.stdout.write(json.dumps(asdict(_evict_here(_region))))
