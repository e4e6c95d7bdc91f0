"""Reading rows of a table, warm and cold: `python docs/benchmarks/row_readers.py`.

Needs `pip install engramdb-python==0.3.0`. Writes a table of random rows, 2 GiB
(`--size`), into a temporary folder in `--dir`, which must be on the drive that is to be
measured, and removes it at the end. All readers read the same file of Q8_0 rows, 128
wide, 136 bytes:

* engram-local: `gather` of every tier, which decodes the rows to float32,
* EngramDB: `Store.fetch`, and `IoUringPageReader` with 256 bytes from each row's start,
* numpy: fancy indexing of a mapping with MADV_RANDOM, also decoded to float32, and of
  one without,
* `os.pread` once per row.

Where nothing is said of decoding, a reader returns raw bytes. Before anything is timed,
the rows are compared.

Warm: one process, readers in turn, 1,024 calls on other rows each (16 calls of 4,096
rows), all of them read once before. The last rows of that table are one token of a
memory with 48 rows: its hash, its hash and rows, and both in one native call, which is
how a memory makes them in decode. Cold: for each number the file is
evicted, which mincore confirms, and a fresh process makes one call; before that it has
read one row only. The tier ram reads its table when it is opened, so it is never cold.
A ratio compares two readers of the same repetition.
"""

from __future__ import annotations

import argparse
import mmap
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numba
import numpy as np
import psutil
from common import Measured, print_table, ratios, spread, turns
from gguf.constants import GGMLQuantizationType
from gguf.quants import dequantize
from numpy.typing import NDArray

from engram_local.memory.hashing import RowHasher, hash_rows
from engram_local.memory.libc import resident_bytes
from engram_local.memory.rows import CODES, E4M3, E8M0, decode, locate_rows
from engram_local.memory.table import open_table
from engram_local.settings import TIERS
from engram_local.spec import Boundary, HashSpec, RowType, TableSpec, Window
from engram_local.units import GIB, MIB, format_bytes

WIDTH, ROW_BYTES, BLOCK_BYTES, PAGE_BYTES = 128, 136, 34, 256
CODE = CODES[RowType.Q8_0]
N_ROWS = (16, 48, 4096)
N_CALLS = {16: 1024, 48: 1024, 4096: 16}
N_HEADS, MULTIPLIERS = 16, (23703573157769, 20109073645365, 8052911324071, 63641362239)
N_BEFORE = len(MULTIPLIERS) - 1

FILE = "shard_000.bin"  # the name that EngramDB expects in its folder
REFERENCE, RAM = "engram-local mmap", "engram-local ram"

Ids = NDArray[np.int64]
Read = Callable[[Ids], Any]
"""Row ids -> rows: float32, or the bytes of the file."""

# --- readers ------------------------------------------------------------------


def open_ours(tier: str, path: Path) -> Read:
    """Return `gather` of one tier; it decodes into arrays that are kept."""
    table = open_table(path, table_spec(path), tier)
    out = {n_rows: np.empty((n_rows, WIDTH), np.float32) for n_rows in N_ROWS}
    return lambda row_ids: table.gather(row_ids, out[len(row_ids)])


def open_engramdb(path: Path) -> Read:
    """Return EngramDB's reader of raw rows."""
    import engramdb  # type: ignore  # only here: a reader may be alone in a process

    store = engramdb.Store(str(path.parent), 1, table_spec(path).n_rows, ROW_BYTES)
    return lambda row_ids: store.fetch(row_ids.tolist())


def open_ring(path: Path) -> Read:
    """Return EngramDB's reader of pages, whose size must be a power of two."""
    import engramdb

    reader, file = engramdb.IoUringPageReader(PAGE_BYTES), os.open(path, os.O_RDONLY)

    def read(row_ids: Ids) -> NDArray[np.uint8]:
        starts = (row_ids * ROW_BYTES).tolist()
        pages = b"".join(reader.read_pages([file] * len(starts), starts))
        return np.frombuffer(pages, np.uint8).reshape(-1, PAGE_BYTES)[:, :ROW_BYTES]

    return read


def open_numpy(advice: int, path: Path) -> Read:
    """Return fancy indexing of a mapping."""
    rows = map_bytes(path, advice).reshape(-1, ROW_BYTES)
    return lambda row_ids: rows[row_ids]


def open_numpy_decoded(path: Path) -> Read:
    """Return fancy indexing of a mapping, and the float32 rows of what it gives."""
    read = open_numpy(mmap.MADV_RANDOM, path)

    def read_decoded(row_ids: Ids) -> NDArray[np.float32]:
        blocks = read(row_ids).reshape(len(row_ids), -1, BLOCK_BYTES)
        scales = blocks[..., :2].copy().view(np.float16).astype(np.float32)
        rows: NDArray[np.float32] = scales * blocks[..., 2:].view(np.int8)
        return rows.reshape(len(row_ids), WIDTH)

    return read_decoded


def open_pread(path: Path) -> Read:
    """Return a loop with one system call per row."""
    file = os.open(path, os.O_RDONLY)

    def read(row_ids: Ids) -> bytes:
        starts = (row_ids * ROW_BYTES).tolist()
        return b"".join([os.pread(file, ROW_BYTES, start) for start in starts])

    return read


READERS: dict[str, Callable[[Path], Read]] = {
    **{f"engram-local {t}": partial(open_ours, t) for t in TIERS if t != "auto"},
    "EngramDB Store.fetch": open_engramdb,
    "EngramDB io_uring": open_ring,
    "numpy, MADV_RANDOM": partial(open_numpy, mmap.MADV_RANDOM),
    "numpy, MADV_RANDOM, decoded": open_numpy_decoded,
    "numpy": partial(open_numpy, mmap.MADV_NORMAL),
    "os.pread": open_pread,
}

# --- the table ----------------------------------------------------------------


def table_spec(path: Path) -> TableSpec:
    """Return what is in the file."""
    n_rows = path.stat().st_size // ROW_BYTES
    return TableSpec(row_type=RowType.Q8_0, width=WIDTH, n_rows=n_rows, offset_bytes=0)


def check_room(folder: Path, n_bytes: int) -> None:
    """Stop where the table does not fit on the drive, or twice into RAM."""
    free, available = shutil.disk_usage(folder).free, psutil.virtual_memory().available
    for what, found, needed in (
        (f"on the drive of {folder}", free, n_bytes + GIB),
        ("of RAM", available, 2 * n_bytes + GIB),
    ):
        if found < needed:
            sys.exit(
                f"{format_bytes(found)} are free {what}, {format_bytes(needed)} are "
                "needed: choose another --size or --dir"
            )


def write_table(path: Path, n_bytes: int) -> None:
    """Write random rows; one bit of every scale is cleared, so that all are finite."""
    generator = np.random.default_rng(0)
    n_left = n_bytes // ROW_BYTES
    with open(path, "wb") as file:
        while n_left:
            n_rows = min(n_left, 64 * MIB // ROW_BYTES)
            rows = bytearray(generator.bytes(n_rows * ROW_BYTES))
            np.frombuffer(rows, np.uint8).reshape(-1, BLOCK_BYTES)[:, 1] &= 0xBF
            file.write(rows)
            n_left -= n_rows
        file.flush()
        os.fsync(file.fileno())  # what is not written yet cannot be evicted


def evict(path: Path) -> None:
    """Drop the file from memory; it must not be mapped anywhere."""
    with open(path, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    kept = resident_bytes(map_bytes(path))
    if kept is None or kept > path.stat().st_size // 100:
        sys.exit(f"{path} cannot be evicted ({kept} bytes stay): choose another --dir")


def map_bytes(path: Path, advice: int = mmap.MADV_NORMAL) -> NDArray[np.uint8]:
    """Return a mapping of the whole file that lives as long as the array."""
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    mapped.madvise(advice)
    return np.frombuffer(mapped, np.uint8)


def draw(path: Path, n_rows: int, seed: Sequence[int]) -> Ids:
    """Return random row ids, far from row 0; a page at the last row would end behind
    the file.
    """
    n_all = table_spec(path).n_rows
    return np.random.default_rng(seed).integers(n_all // 8, n_all - 1, n_rows)


# --- measuring ----------------------------------------------------------------


def call_us(call: Read, ids: Ids) -> float:
    """Return the microseconds of one call."""
    start = time.perf_counter()
    call(ids)
    return 1e6 * (time.perf_counter() - start)


def measure_cold(path: Path, n_rows: int, n_repetitions: int) -> tuple[Measured, ...]:
    """Return microseconds per reader, and bytes from the drive per byte wanted."""
    names = [name for name in READERS if name != RAM]
    times: dict[str, list[float]] = {name: [] for name in names}
    amplification: dict[str, list[float]] = {name: [] for name in names}
    for name in turns(names, n_repetitions):
        row_ids = draw(path, n_rows, [n_rows, len(times[name])])
        evict(path)
        time_us, n_bytes = in_fresh_process(read_cold, name, path, row_ids)
        times[name].append(time_us)
        amplification[name].append(n_bytes / (n_rows * ROW_BYTES))
    return times, amplification


def in_fresh_process(function: Callable[..., Any], *args: object) -> Any:
    """Return what a function returns in a process that has done nothing yet."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(function, *args).result()


def read_cold(name: str, path: Path, row_ids: Ids) -> tuple[float, int]:
    """Return the microseconds of one call and the bytes it read from the drive."""
    read = READERS[name](path)
    read(np.zeros_like(row_ids))  # what only a first call costs
    counters = psutil.Process().io_counters
    before = counters().read_bytes
    time_us = call_us(read, row_ids)
    return time_us, counters().read_bytes - before


def measure_warm(path: Path, n_repetitions: int) -> dict[str, Measured]:
    """Compare all readers, then return their microseconds per number of rows."""
    readers = {name: open_reader(path) for name, open_reader in READERS.items()}
    measured: dict[str, Measured] = {}
    for n_rows in N_ROWS:
        inputs = [draw(path, n_rows, [n_rows, n]) for n in range(N_CALLS[n_rows])]
        compare(readers, inputs[0])
        measured[f"{n_rows:,}"] = time_in_turn(readers, inputs, n_repetitions)
    windows = np.random.default_rng(0).integers(0, 2**15, (N_CALLS[48], N_BEFORE + 1))
    arms = token_arms(path, readers)
    measured["1 token"] = time_in_turn(arms, list(windows), n_repetitions)
    return measured


def compare(readers: Mapping[str, Read], row_ids: Ids) -> None:
    """Stop unless all readers return the same rows."""
    rows = {name: decoded(read(row_ids)) for name, read in readers.items()}
    wrong = [name for name in rows if not np.array_equal(rows[name], rows["os.pread"])]
    if wrong:
        sys.exit(f"other rows than those of os.pread: {', '.join(wrong)}")


def decoded(rows: Any) -> NDArray[np.float32]:
    """Return float32 rows."""
    if isinstance(rows, np.ndarray) and rows.dtype == np.float32:
        return rows
    raw = np.frombuffer(np.ascontiguousarray(rows), np.uint8).reshape(-1, ROW_BYTES)
    return dequantize(raw, GGMLQuantizationType.Q8_0)


def token_arms(path: Path, readers: Mapping[str, Read]) -> dict[str, Read]:
    """Return the hash of one token, and our readers behind it."""
    n_slots = N_BEFORE * N_HEADS
    size = table_spec(path).n_rows // n_slots
    spec = HashSpec(
        multipliers=MULTIPLIERS,
        sizes=(size,) * n_slots,
        offsets=tuple(range(0, n_slots * size, size)),
        n_heads=N_HEADS,
        window=Window.NEWEST_FIRST,
        boundary=Boundary.PAD,
        fill_id=0,
    )
    hasher = RowHasher(spec)
    arms: dict[str, Read] = {"hash": lambda ids: hasher.row_ids(ids, N_BEFORE)}
    for name, read in readers.items():
        if name.startswith("engram-local"):
            arms[name] = partial(hash_and_read, hasher, read)
    arms["engram-local mmap, one native call"] = one_call(path, hasher)
    return arms


def one_call(path: Path, hasher: RowHasher) -> Read:
    """Return hash and rows in one call, as the memory makes it in decode."""
    spec, hashing = table_spec(path), hasher.spec
    assert spec.offset_bytes == 0
    with open(path, "rb") as file:
        table = np.frombuffer(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ), "u1")
    row_ids = np.empty((1, hashing.n_slots), np.int64)
    starts = np.empty(hashing.n_slots, np.int64)
    out = np.empty((hashing.n_slots, spec.width), np.float32)

    def read(canonical_ids: Ids) -> Any:
        arrays = (hasher.multipliers, hasher.shifts, hasher.sizes, hasher.offsets)
        hash_and_decode(canonical_ids, *arrays, row_ids, starts, table, E4M3, E8M0, out)
        return out

    @numba.njit(nogil=True)
    def hash_and_decode(  # type: ignore[no-untyped-def]
        ids,
        multipliers,
        shifts,
        sizes,
        offsets,
        row_ids,
        starts,
        table,
        e4m3,
        e8m0,
        out,
    ):
        n = ids.shape[0] - 1
        hash_rows(ids, n, multipliers, shifts, sizes, offsets, 0, False, row_ids)
        locate_rows(row_ids[0], 2**62, ROW_BYTES, 0, starts)
        decode(table, starts, ROW_BYTES, CODE, e4m3, e8m0, out)

    return read


def hash_and_read(hasher: RowHasher, read: Read, canonical_ids: Ids) -> Any:
    """Return the rows of the last of some canonical ids."""
    return read(hasher.row_ids(canonical_ids, N_BEFORE)[0])


def time_in_turn(
    arms: Mapping[str, Read], inputs: Sequence[Ids], n_repetitions: int
) -> Measured:
    """Return the median microseconds of a call; a repetition before is not counted."""
    times: dict[str, list[float]] = {name: [] for name in arms}
    for name in turns(list(arms), n_repetitions + 1):
        times[name].append(median(call_us(arms[name], ids) for ids in inputs))
    return {name: runs[1:] for name, runs in times.items()}


# --- results ------------------------------------------------------------------


def print_cold(path: Path, n_repetitions: int) -> None:
    """Measure and print."""
    rows = []
    for n_rows in N_ROWS:
        times, amplification = measure_cold(path, n_rows, n_repetitions)
        rows += [
            [*line, spread(amplification[line[1]], 1)]
            for line in lines(f"{n_rows:,}", times)
        ]
    print_table(["rows", "cold", "us", "time to mmap's", "bytes read / wanted"], rows)


def print_warm(path: Path, n_repetitions: int) -> None:
    """Measure and print."""
    measured = in_fresh_process(measure_warm, path, n_repetitions)
    rows = [line for what, times in measured.items() for line in lines(what, times)]
    print_table(["rows", "warm", "us", "time to mmap's"], rows)


def lines(what: str, times: Measured) -> list[list[str]]:
    """Return the common columns."""
    return [
        [what, name, spread(times[name], 1), spread(ratios(times, name, REFERENCE), 2)]
        for name in times
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-r", "--repetitions", type=int, default=7)
    parser.add_argument("--dir", type=Path, default=Path(), help="where the table lies")
    parser.add_argument("--size", type=float, default=2, help="GiB of the table")
    args = parser.parse_args()
    n_bytes = int(args.size * GIB)
    check_room(args.dir, n_bytes)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the folder goes then, too
    with tempfile.TemporaryDirectory(dir=args.dir) as folder:
        path = Path(folder) / FILE
        write_table(path, n_bytes)
        evict(path)  # where that is impossible, better now than after half of the work
        print_warm(path, args.repetitions)
        print()
        print_cold(path, args.repetitions)


if __name__ == "__main__":
    main()
