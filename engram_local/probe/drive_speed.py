"""How fast a drive answers random and sequential reads past the page cache. Linux only.

The depth is the number of threads that each wait for one read, as `fio` counts with
`ioengine=psync` and the tier `direct` reads.
"""

from __future__ import annotations

import mmap
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from errno import EINVAL
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engram_local.bench.eviction import Region, cached_bytes
from engram_local.errors import BenchError, DirectReadError, FileError, FitError
from engram_local.events import Progress
from engram_local.figures import Figure, Source
from engram_local.hardware import DepthRate
from engram_local.kernels import kernel, pointer
from engram_local.memory.libc import fetch_add, now_ns, pread
from engram_local.system import partition_of
from engram_local.units import GIB, MIB, format_bytes

DEPTHS = (1, 4, 16, 64)
BLOCK_BYTES = 4096
FILE_BYTES = GIB
LEAST_BYTES = 256 * MIB
"""A smaller file may lie in the drive's own memory altogether."""

WRITE_S = 10.0
"""Then a file is large enough, whatever its size."""

_PIECE_BYTES = 16 * MIB
_IN_A_ROW = 0  # in place of a depth: sequential reads
_LARGE_BYTES, _LARGE_DEPTH = MIB, 4
_N_BLOCKS = 1 << 18  # drawn for a run; 0.4 s of a drive with 650,000 reads per second
_FREE_PART = 0.5  # of the free space, what a file may take
_RAM_FILE_SYSTEMS = ("tmpfs", "ramfs")
_OWN_CACHE = ("zfs",)
"""Accepts O_DIRECT, and before its version 2.3 reads through its own cache anyway."""

I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class DriveSpeed:
    """What a drive gave."""

    reads: tuple[DepthRate, ...]
    """Random blocks of 4 KiB; ascending by depth."""

    bytes_per_s: Figure
    """Sequential, 4 MiB in flight."""

    file_bytes: int


def measure_drive(
    folder: Path,
    *,
    file: Path | None = None,
    n_rounds: int = 3,
    run_s: float = 0.4,
    progress: Progress = lambda what, part: None,
) -> DriveSpeed:
    """Measure the drive that holds `file`, or `folder`: medians of a few rounds.

    Without a file, one is written that has no name, so that nothing is left of it
    however we end. Raises DirectReadError where the page cache cannot be passed by,
    FitError where there is too little space, FileError for a file that cannot be read.
    """
    check_file_system(file or folder)
    given = _given_file(file) if file is not None else _made_file(folder, progress)
    with given as descriptor, ThreadPoolExecutor(max(DEPTHS)) as pool:
        drive = _Drive(descriptor, pool, run_s)
        before_bytes = _cached(descriptor)
        runs: dict[int, list[_Run]] = {depth: [] for depth in (*DEPTHS, _IN_A_ROW)}
        turns = [depth for _ in range(n_rounds) for depth in runs]
        for number, depth in enumerate(turns):
            progress("reading the drive", number / len(turns))
            runs[depth].append(drive.run(depth))
        _check_passed_by(before_bytes, _cached(descriptor))
        return _summarize(runs, drive.file_bytes)


@dataclass(frozen=True, slots=True)
class _Run:
    """Reads of one depth, in one round."""

    reads_per_s: float
    latency_s: float


class _Drive:
    """An open file, and threads to read it with."""

    def __init__(self, descriptor: int, pool: ThreadPoolExecutor, run_s: float) -> None:
        self.file_bytes = os.fstat(descriptor).st_size
        self._descriptor = descriptor
        self._pool = pool
        self._run_s = run_s
        # O_DIRECT wants its target on a boundary of the drive; a page's is enough.
        n_bytes = max(max(DEPTHS) * BLOCK_BYTES, _LARGE_DEPTH * _LARGE_BYTES)
        self._targets = np.frombuffer(mmap.mmap(-1, n_bytes), np.uint8)
        self._generator = np.random.default_rng()
        self._reader = _reader()  # compiled before a clock runs

    def run(self, depth: int) -> _Run:
        """Read random blocks at a depth, or large ones in a row."""
        if depth != _IN_A_ROW:
            n_blocks = self.file_bytes // BLOCK_BYTES
            blocks = self._generator.integers(0, n_blocks, _N_BLOCKS)
            return self._read(blocks, BLOCK_BYTES, depth)
        n_large = self.file_bytes // _LARGE_BYTES
        start = int(self._generator.integers(n_large))
        blocks = (start + np.arange(n_large)) % n_large
        return self._read(blocks, _LARGE_BYTES, _LARGE_DEPTH)

    def _read(self, blocks: I64, block_bytes: int, depth: int) -> _Run:
        """Read blocks with so many threads until the time is up."""
        counter, taken_ns = np.zeros(1, np.int64), np.zeros(len(blocks), np.int64)
        begin_ns = time.monotonic_ns()
        end_ns = begin_ns + int(self._run_s * 1e9)
        futures = [
            self._pool.submit(
                self._reader,
                self._descriptor,
                counter.ctypes.data,
                self._targets.ctypes.data + number * block_bytes,
                block_bytes,
                end_ns,
                blocks,
                taken_ns,
            )
            for number in range(depth)
        ]
        n_failed = sum(future.result() for future in futures)
        elapsed_s = (time.monotonic_ns() - begin_ns) / 1e9
        if n_failed:
            raise BenchError(f"the drive failed to read {n_failed} blocks")
        done_ns = taken_ns[taken_ns > 0]
        return _Run(len(done_ns) / elapsed_s, float(np.median(done_ns)) / 1e9)


@cache
def _reader() -> Any:
    """Compile when first needed: `pread` is not there on all systems."""
    return kernel("i8(i4, i8, i8, i8, i8, i8[::1], i8[::1])")(_read_blocks)


def _read_blocks(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    file, counter, to, block_bytes, end_ns, blocks, taken_ns
):
    """Read blocks that no other thread has taken, until `end_ns`; note what each took.

    Returns how many could not be read.
    """
    n_failed = 0
    clock = np.empty(2, np.int64)
    begin_ns = now_ns(clock)
    i = fetch_add(counter, 1)
    while i < blocks.size:
        n_read = pread(file, pointer(to), block_bytes, blocks[i] * block_bytes)
        finished_ns = now_ns(clock)
        taken_ns[i] = finished_ns - begin_ns
        n_failed += n_read != block_bytes
        if finished_ns >= end_ns:
            break
        begin_ns = finished_ns
        i = fetch_add(counter, 1)
    return n_failed


def _summarize(runs: dict[int, list[_Run]], file_bytes: int) -> DriveSpeed:
    def rate(depth: int, n_bytes: int = 1) -> Figure:
        reads_per_s = median(run.reads_per_s for run in runs[depth])
        return Figure(reads_per_s * n_bytes, Source.MEASURED)

    reads = tuple(
        DepthRate(
            depth=depth,
            reads_per_s=rate(depth),
            latency_s=median(run.latency_s for run in runs[depth]),
        )
        for depth in DEPTHS
    )
    return DriveSpeed(
        reads=reads, bytes_per_s=rate(_IN_A_ROW, _LARGE_BYTES), file_bytes=file_bytes
    )


def drive_of(path: Path) -> tuple[str, str]:
    """Return the device that holds a file or folder, and its file system.

    Both are "unknown" where the system does not tell.
    """
    partition = partition_of(path.resolve())
    if partition is None:
        return "unknown", "unknown"
    return partition.device, partition.fstype


def check_file_system(path: Path) -> None:
    """Raise DirectReadError where every read would come from memory."""
    _, kind = drive_of(path)
    if not sys.platform.startswith("linux"):
        raise _refusal("this system has no O_DIRECT")
    if kind in _RAM_FILE_SYSTEMS:
        raise _refusal(f"{path} lies in RAM ({kind})")
    if kind in _OWN_CACHE:
        raise _refusal(f"{path} lies on {kind}, which has a cache of its own")


def _refusal(reason: str) -> DirectReadError:
    return DirectReadError(
        f"{reason}: a drive is measured past the page cache",
        hint="name a folder on a drive with --dir",
    )


def _check_passed_by(before_bytes: int | None, after_bytes: int | None) -> None:
    """Raise DirectReadError if reading has filled the page cache."""
    if before_bytes is None or after_bytes is None:
        return
    if after_bytes - before_bytes > _PIECE_BYTES:
        raise _refusal("the file system reads through the page cache")


def _cached(descriptor: int) -> int | None:
    return cached_bytes(Region(path=Path(f"/proc/self/fd/{descriptor}")))


@contextmanager
def _given_file(path: Path) -> Iterator[int]:
    descriptor = _open_direct(path)
    try:
        found = os.fstat(descriptor)
        if found.st_size < LEAST_BYTES:
            raise FileError(
                f"{path} has {format_bytes(found.st_size)}, at least "
                f"{format_bytes(LEAST_BYTES)} are needed to measure a drive",
                hint="name a larger file, or a folder with --dir",
            )
        if found.st_blocks * 512 < 0.9 * found.st_size:
            raise FileError(
                f"{path} has holes, which no drive reads",
                hint="name another file, or a folder with --dir",
            )
        yield descriptor
    finally:
        os.close(descriptor)


def _open_direct(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECT)
    except OSError as error:
        if error.errno == EINVAL:
            raise _refusal(f"the file system of {path} has no O_DIRECT") from error
        raise FileError(f"{path} cannot be read: {error.strerror}") from error


@contextmanager
def _made_file(folder: Path, progress: Progress) -> Iterator[int]:
    """Give a file of random bytes without a name, opened past the page cache."""
    with ExitStack() as stack:
        try:
            file = stack.enter_context(tempfile.TemporaryFile(dir=folder, buffering=0))
            descriptor = file.fileno()
            _fill(descriptor, _room(folder), progress)
        except OSError as error:
            raise FileError(
                f"{folder} cannot hold a file to measure with: {error.strerror}",
                hint="name another folder with --dir, or a large file with --file",
            ) from error
        _set_direct(descriptor, folder)
        yield descriptor


def _room(folder: Path) -> int:
    free_bytes = shutil.disk_usage(folder).free
    n_bytes = min(FILE_BYTES, int(free_bytes * _FREE_PART))
    if n_bytes < LEAST_BYTES:
        raise FitError(
            f"{folder} has {format_bytes(free_bytes)} left, "
            f"{format_bytes(int(LEAST_BYTES / _FREE_PART))} are needed for a file to "
            "measure with",
            hint="name another folder with --dir, or a large file with --file",
        )
    return n_bytes // _PIECE_BYTES * _PIECE_BYTES


def _fill(descriptor: int, n_bytes: int, progress: Progress) -> None:
    """Write random bytes, which no drive can compress, until there are enough."""
    generator, begin_s = np.random.default_rng(), time.monotonic()
    for done_bytes in range(0, n_bytes, _PIECE_BYTES):
        progress("writing a file", done_bytes / n_bytes)
        is_enough = done_bytes >= LEAST_BYTES
        if is_enough and time.monotonic() - begin_s > WRITE_S:
            break
        piece = memoryview(generator.bytes(_PIECE_BYTES))
        while piece:
            piece = piece[os.write(descriptor, piece) :]
        os.fdatasync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def _set_direct(descriptor: int, folder: Path) -> None:
    import fcntl  # not on Windows

    try:
        flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_DIRECT)
    except OSError as error:
        raise _refusal(f"the file system of {folder} has no O_DIRECT") from error
