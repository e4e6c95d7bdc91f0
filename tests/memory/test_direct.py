"""Rows read past the page cache: equal to the others, and nothing is left behind."""

from __future__ import annotations

import errno
import mmap
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import engram_local
from engram_local.bench.eviction import Region, cached_bytes
from engram_local.errors import TableError
from engram_local.memory import block_reader, direct
from engram_local.memory.block_reader import BlockReader
from engram_local.memory.direct import DirectFile, DirectTable
from engram_local.memory.rows import encode_rows
from engram_local.memory.table import Table, open_table, open_tables
from engram_local.spec import MEMORY_TYPES, RowType, TableSpec
from tests.conftest import skip_without_direct_reads
from tests.fakes import normal
from tests.page_cache import comes_true, evict

F32 = NDArray[np.float32]
BLOCK = 4096
OFFSET = 5000  # past the first block, on no boundary
N_ROWS = 500


@pytest.fixture
def path(tmp_path: Path) -> Path:
    skip_without_direct_reads(tmp_path)
    return tmp_path / "table.bin"


@pytest.fixture(autouse=True)
def no_threads_left() -> Iterator[None]:
    before = read_threads()
    yield
    assert read_threads() == before


def read_threads() -> list[str]:
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith("engram-read")]


def write_table(
    path: Path,
    row_type: RowType = RowType.F32,
    *,
    width: int = 96,
    offset: int = OFFSET,
    tail: bytes = b"",
) -> TableSpec:
    """Write a file with a table in it and return where it is."""
    raw = encode_rows(normal(np.random.default_rng(0), N_ROWS, width), row_type)
    path.write_bytes(b"\xee" * offset + raw.tobytes() + tail)
    return TableSpec(row_type=row_type, width=width, n_rows=N_ROWS, offset_bytes=offset)


def direct_table(path: Path, spec: TableSpec, **options: int) -> DirectTable:
    """Open one table with its own file."""
    return DirectTable(DirectFile(path, [spec], **options), spec, owns_file=True)


def gather(table: Table, row_ids: NDArray[np.int64]) -> F32:
    out = np.full((len(row_ids), table.spec.width), np.nan, np.float32)
    return table.gather(row_ids, out)


def from_ram(path: Path, spec: TableSpec, row_ids: NDArray[np.int64]) -> F32:
    table = open_table(path, spec, "ram")
    rows = gather(table, row_ids)
    table.close()
    return rows


def many_row_ids() -> NDArray[np.int64]:
    """Return every row at least once, many twice, in no order."""
    drawn = np.random.default_rng(1).integers(0, N_ROWS, 2 * N_ROWS)
    return np.concatenate([drawn, np.arange(N_ROWS)[::-1]])


@pytest.mark.parametrize("tail", [b"", b"behind the table" * 1000], ids=["end", "tail"])
@pytest.mark.parametrize("row_type", MEMORY_TYPES)
def test_all_rows_equal_those_in_ram(
    path: Path, row_type: RowType, tail: bytes
) -> None:
    spec = write_table(path, row_type, tail=tail)
    assert BLOCK % spec.row_bytes != 0  # so that some rows lie across two blocks
    table = open_table(path, spec, "direct")
    rows = gather(table, many_row_ids())
    assert rows.tobytes() == from_ram(path, spec, many_row_ids()).tobytes()
    table.close()


@pytest.mark.parametrize("n_readers", [1, 2, 7])
@pytest.mark.parametrize("buffer_bytes", [0, 3 * BLOCK, 50 * BLOCK])
@pytest.mark.parametrize("width", [96, 1024, 3072], ids=["small", "block", "3 blocks"])
def test_a_gather_larger_than_the_buffer_is_read_in_pieces(
    path: Path, width: int, buffer_bytes: int, n_readers: int
) -> None:
    spec = write_table(path, width=width)
    table = direct_table(path, spec, n_readers=n_readers, buffer_bytes=buffer_bytes)
    rows = gather(table, many_row_ids())
    assert rows.tobytes() == from_ram(path, spec, many_row_ids()).tobytes()
    table.close()


def blocks_read(
    table: DirectTable, row_ids: list[int], monkeypatch: pytest.MonkeyPatch
) -> list[list[int]]:
    """Gather and return which blocks each piece asked for."""
    pieces = []
    read = table._reader.read

    def note(n_blocks: int) -> NDArray[np.int64]:
        pieces.append(table._reader.blocks[:n_blocks].tolist())
        return read(n_blocks)

    monkeypatch.setattr(table._reader, "read", note)
    gather(table, np.array(row_ids, np.int64))
    return pieces


def test_a_block_is_read_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = write_table(path)  # rows of 384 bytes, the first at byte 5000
    table = direct_table(path, spec)
    # 0 is in block 1, 8 lies across its end, 17 is in block 2, 48 in block 5.
    row_ids = [48, 8, 0, 17, 0, 8, 48]
    assert blocks_read(table, row_ids, monkeypatch) == [[1, 2, 5]]
    table.close()


def test_a_row_that_ends_with_its_block_needs_no_other(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = write_table(path, width=BLOCK // 4, offset=BLOCK)
    table = direct_table(path, spec)
    assert blocks_read(table, [N_ROWS - 1, 0], monkeypatch) == [[1, N_ROWS]]
    table.close()


def test_no_rows_read_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = direct_table(path, write_table(path))
    assert blocks_read(table, [], monkeypatch) == []
    table.close()


def test_threads_may_gather_at_the_same_time(path: Path) -> None:
    spec = write_table(path)
    table = direct_table(path, spec, n_readers=4, buffer_bytes=20 * BLOCK)
    draws = np.random.default_rng(2).integers(0, N_ROWS, (40, 300))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda row_ids: gather(table, row_ids), draws))
    for row_ids, rows in zip(draws, found, strict=True):
        assert rows.tobytes() == from_ram(path, spec, row_ids).tobytes()
    table.close()


def test_readers_are_named_and_gone_after_close(path: Path) -> None:
    table = direct_table(path, write_table(path), n_readers=4)
    assert read_threads() == ["engram-read-1", "engram-read-2", "engram-read-3"]
    gather(table, many_row_ids())
    assert len(read_threads()) == 3
    table.close()
    assert read_threads() == []


def test_a_system_without_threads_leaves_none_behind(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def refuse_the_third(thread: threading.Thread) -> None:
        if thread.name == "engram-read-3":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse_the_third)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        direct_table(path, write_table(path))
    assert read_threads() == []


def test_a_table_that_nobody_closed_does_not_keep_the_process_alive(
    path: Path,
) -> None:
    write_table(path)
    script = f"""
import sys
from pathlib import Path
import numpy as np
from engram_local.memory.table import open_table
from engram_local.spec import RowType, TableSpec

spec = TableSpec(row_type=RowType.F32, width=96, n_rows=500, offset_bytes={OFFSET})
table = open_table(Path(sys.argv[1]), spec, "direct")
print(table.gather(np.arange(9), np.empty((9, 96), np.float32)).shape)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        env={**os.environ, "PYTHONPATH": str(Path(engram_local.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "(9, 96)\n", "")


def test_readers_that_nobody_closed_keep_what_they_use(path: Path) -> None:
    write_table(path)
    with open(path, "rb") as file:
        reader = BlockReader(file.fileno(), block_bytes=BLOCK, n_blocks=4, n_readers=3)
        arrays = (reader._state, reader.blocks, reader._results, reader.buffer)
        used, threads = [weakref.ref(array) for array in arrays], reader._threads
        del reader, arrays
        assert all(reference() is not None for reference in used)
        block_reader._loops().stop(used[0](), len(threads))
        for thread in threads:
            thread.join()
        assert all(reference() is None for reference in used)


def test_nothing_is_resident(path: Path) -> None:
    table = direct_table(path, write_table(path))
    gather(table, many_row_ids())
    assert table.resident_bytes() == 0
    table.close()


def test_the_page_cache_stays_as_it_was(path: Path) -> None:
    spec = write_table(path)
    evict(path)

    def cached_after(tier: str) -> int:
        table = open_table(path, spec, tier)
        gather(table, many_row_ids())
        table.close()
        return cached_bytes(Region(path=path)) or 0

    assert cached_after("direct") == 0
    assert comes_true(lambda: cached_after("mmap") >= spec.n_bytes)


def test_a_file_cut_while_it_is_read_is_an_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = direct_table(path, write_table(path), n_readers=4)
    # As if the file were cut right after the check.
    monkeypatch.setattr(direct, "check_size", lambda *_: None)
    os.truncate(path, 2 * BLOCK + 512)
    with pytest.raises(TableError, match=r"byte 8,192 gave 512 of 4096") as caught:
        gather(table, many_row_ids())
    assert "cut off" in (caught.value.hint or "")
    assert np.isfinite(gather(table, np.array([0]))).all()  # what is left
    table.close()


def test_a_drive_that_fails_is_an_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = direct_table(path, write_table(path), n_readers=4)
    monkeypatch.setattr(direct, "check_size", lambda *_: None)
    descriptor = table._file._file.fileno()
    kept, folder = os.dup(descriptor), os.open(path.parent, os.O_RDONLY)
    os.dup2(folder, descriptor)  # a folder cannot be read
    with pytest.raises(TableError, match=r"byte 4,096 cannot be read: Is a directory"):
        gather(table, many_row_ids())
    os.dup2(kept, descriptor)
    assert np.isfinite(gather(table, many_row_ids())).all()
    table.close()
    os.close(kept)
    os.close(folder)


def refuse(number: int) -> Any:
    def function(*_arguments: Any) -> None:
        raise OSError(number, os.strerror(number))

    return function


@pytest.mark.parametrize("name", ["open", "preadv"])
def test_a_file_system_without_direct_reads_is_an_error(
    path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    spec = write_table(path)
    monkeypatch.setattr(os, name, refuse(errno.EINVAL))
    with pytest.raises(TableError, match="O_DIRECT") as caught:
        open_table(path, spec, "direct")
    assert "--memory-tier mmap" in (caught.value.hint or "")
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("name", ["open", "preadv"])
def test_a_file_that_cannot_be_read_is_another_error(
    path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    spec = write_table(path)
    monkeypatch.setattr(os, name, refuse(errno.EIO))
    with pytest.raises(TableError, match="cannot be read: Input/output error"):
        open_table(path, spec, "direct")


def test_a_system_other_than_linux_is_an_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = write_table(path)
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.delattr(os, "O_DIRECT")
    with pytest.raises(TableError, match="O_DIRECT"):
        open_table(path, spec, "direct")


def test_a_drive_that_needs_larger_blocks_gets_them(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, preadv = write_table(path), os.preadv

    def in_16_kib(file: int, targets: list[mmap.mmap], begin: int) -> int:
        if len(targets[0]) % 16384 or begin % 16384:
            raise OSError(errno.EINVAL, "Invalid argument")
        return preadv(file, targets, begin)

    status = list(os.statvfs(path))
    status[0] = 16384
    monkeypatch.setattr(os, "preadv", in_16_kib)
    monkeypatch.setattr(os, "fstatvfs", lambda _file: os.statvfs_result(status))
    table = direct_table(path, spec)
    assert table._reader.block_bytes == 16384
    rows = gather(table, many_row_ids())
    assert rows.tobytes() == from_ram(path, spec, many_row_ids()).tobytes()
    table.close()


def test_tables_of_one_file_share_its_threads(path: Path) -> None:
    spec = write_table(path)
    row_ids = many_row_ids()
    with ExitStack() as stack:
        tables = open_tables(stack, path, [spec, spec, spec], "direct", None)
        assert len(read_threads()) == direct.N_READERS - 1
        with ThreadPoolExecutor(3) as pool:
            found = list(pool.map(lambda table: gather(table, row_ids), tables))
    assert read_threads() == []
    for rows in found:
        np.testing.assert_array_equal(rows, from_ram(path, spec, row_ids))
