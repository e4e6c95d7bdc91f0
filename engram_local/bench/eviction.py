"""A file in the page cache: how much of it, all of it, none of it.

`python -m engram_local.bench.eviction PATH` evicts a file and prints what stayed. It
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

import numpy as np

from engram_local.errors import BenchError
from engram_local.memory.libc import resident_bytes
from engram_local.units import MIB

_READ_BYTES = 16 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Eviction:
    """How much of a file was in memory, before and after; None = nobody can tell."""

    file_bytes: int
    before_bytes: int | None
    after_bytes: int | None


def evict(path: Path) -> Eviction:
    """Drop a file from the page cache, in a process that does not map it.

    Pages that another process maps and has touched stay, and so does a file system
    that lives in memory: look at `after_bytes`. Raises BenchError.
    """
    command = [sys.executable, "-m", __name__, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.splitlines() or ["no reason given"])[-1]
        raise BenchError(f"{path} could not be evicted from memory: {reason}")
    return Eviction(**json.loads(done.stdout))


def read_through(path: Path) -> None:
    """Read a file from beginning to end, so that it is in the page cache."""
    with open(path, "rb", buffering=0) as file:
        while file.read(_READ_BYTES):
            pass


def cached_bytes(path: Path) -> int | None:
    """Return how much of a file is in the page cache; None where nobody can tell.

    Maps the file for that, and touches no page of it.
    """
    # mincore answers "all of it" for a file that the user may not write.
    if not os.access(path, os.W_OK) or not path.stat().st_size:
        return None
    with (
        open(path, "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
    ):
        return resident_bytes(np.frombuffer(mapped, np.uint8))


def _evict_here(path: Path) -> Eviction:
    before_bytes = cached_bytes(path)
    with open(path, "rb") as file:
        os.fsync(file.fileno())  # a dirty page cannot be dropped
        if hasattr(os, "posix_fadvise"):  # Linux
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return Eviction(
        file_bytes=path.stat().st_size,
        before_bytes=before_bytes,
        after_bytes=cached_bytes(path),
    )


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(_evict_here(Path(sys.argv[1])))))
