"""How near `direct` comes to its drive: `python docs/benchmarks/direct_reads.py`.

Reads random blocks of a large file past the page cache, several at once, and gathers
4,096 random rows of it with as many readers, in turn. Prints medians per second and
their ratio to the drive's best. Needs Linux, and free space that it gives back.
"""

from __future__ import annotations

import argparse
import mmap
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import numpy as np

from engram_local.kernels import kernel, pointer
from engram_local.memory.direct import DirectFile, DirectTable
from engram_local.memory.libc import fetch_add, pread
from engram_local.spec import RowType, TableSpec
from engram_local.units import GIB, MIB, format_bytes

DEPTHS, READERS = (1, 4, 16, 32, 64), (4, 8, 16, 32, 64)
N_READS, N_READS_ONE_BY_ONE, N_ROWS = 16_384, 2_048, 4_096
BLOCK_BYTES = 4_096
# 512 bytes a row: none crosses into a second block, so that a row is a read and the
# two rates compare.
ROW_TYPE, WIDTH = RowType.F16, 256

Arm = Callable[[], float]
"""Runs once and returns reads or rows per second."""


@kernel("i8(i4, i8, i8, i8[::1])")
def read_blocks(file, counter, to, blocks):  # type: ignore[no-untyped-def]
    """Read blocks that no other thread has taken; return how many failed."""
    n_failed = 0
    i = fetch_add(counter, 1)
    while i < blocks.size:
        n_read = pread(file, pointer(to), BLOCK_BYTES, blocks[i] * BLOCK_BYTES)
        n_failed += n_read != BLOCK_BYTES
        i = fetch_add(counter, 1)
    return n_failed


def drive_arm(stack: ExitStack, path: Path, depth: int) -> Arm:
    """Return an arm that does nothing but read, `depth` blocks at a time."""
    file = os.open(path, os.O_RDONLY | os.O_DIRECT)
    stack.callback(os.close, file)
    pool = stack.enter_context(ThreadPoolExecutor(depth))
    targets = np.frombuffer(mmap.mmap(-1, depth * BLOCK_BYTES), np.uint8)
    generator = np.random.default_rng(depth)
    n_reads = N_READS if depth > 1 else N_READS_ONE_BY_ONE
    n_blocks = path.stat().st_size // BLOCK_BYTES

    def run() -> float:
        blocks = generator.integers(0, n_blocks, n_reads)
        counter = np.zeros(1, np.int64)
        start = time.perf_counter()
        futures = [
            pool.submit(read_blocks, file, counter.ctypes.data, target, blocks)
            for target in targets.ctypes.data + BLOCK_BYTES * np.arange(depth)
        ]
        wait(futures)
        elapsed_s = time.perf_counter() - start
        if any(future.result() for future in futures):
            raise SystemExit(f"{path} cannot be read")
        return n_reads / elapsed_s

    return run


def gather_arm(stack: ExitStack, path: Path, n_readers: int) -> Arm:
    """Return an arm that gathers rows as a memory does."""
    n_rows = path.stat().st_size // ROW_TYPE.row_bytes(WIDTH)
    spec = TableSpec(row_type=ROW_TYPE, width=WIDTH, n_rows=n_rows, offset_bytes=0)
    table = DirectTable(
        DirectFile(path, [spec], n_readers=n_readers), spec, owns_file=True
    )
    stack.callback(table.close)
    generator = np.random.default_rng(1000 + n_readers)
    out = np.empty((N_ROWS, WIDTH), np.float32)

    def run() -> float:
        row_ids = generator.integers(0, n_rows, N_ROWS)
        start = time.perf_counter()
        table.gather(row_ids, out)
        return N_ROWS / (time.perf_counter() - start)

    return run


@contextmanager
def random_file(folder: Path, n_bytes: int) -> Iterator[Path]:
    """A file of random bytes, gone afterwards, also after Ctrl-C."""
    free_bytes = shutil.disk_usage(folder).free
    if n_bytes + GIB > free_bytes:
        raise SystemExit(f"{folder} has {format_bytes(free_bytes)} left: --gib less")
    generator = np.random.default_rng(0)
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".table") as file:
        print(f"writing {format_bytes(n_bytes)} to {file.name}", file=sys.stderr)
        for _ in range(n_bytes // (16 * MIB)):
            file.write(generator.bytes(16 * MIB))
        file.flush()
        yield Path(file.name)


def evict(path: Path) -> None:
    """Drop what the page cache has of a file."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure(path: Path, n_repetitions: int) -> dict[str, list[float]]:
    """Return rates per arm; the order turns with every repetition."""
    with ExitStack() as stack:
        arms = {f"drive, {n} at once": drive_arm(stack, path, n) for n in DEPTHS}
        for n in READERS:
            arms[f"gather, {n} readers"] = gather_arm(stack, path, n)
        names = list(arms)
        rates: dict[str, list[float]] = {name: [] for name in names}
        for repetition in range(n_repetitions + 1):  # the first warms up
            turn = repetition % len(names)
            for name in (*names[turn:], *names[:turn]):
                rates[name].append(arms[name]())
    return {name: own[1:] for name, own in rates.items()}


def report(rates: dict[str, list[float]]) -> None:
    """Print a table; ratios are to the best of the drive's own medians."""
    best = max(median(own) for name, own in rates.items() if name.startswith("drive"))
    print("| what | per s (smallest-largest) | of the drive's best |\n|---|---|---|")
    for name, own in rates.items():
        middle = median(own)
        spread = f"{middle:,.0f} ({min(own):,.0f}-{max(own):,.0f})"
        print(f"| {name} | {spread} | {middle / best:.2f} |")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(), help="on which drive")
    parser.add_argument("--gib", type=int, default=4, help="size of the file")
    parser.add_argument("--file", type=Path, help="a large file that is there already")
    parser.add_argument("-r", "--repetitions", type=int, default=9)
    given = parser.parse_args()
    with ExitStack() as stack:
        made = random_file(given.folder, given.gib * GIB)
        path = given.file or stack.enter_context(made)
        evict(path)
        report(measure(path, given.repetitions))


if __name__ == "__main__":
    main()
