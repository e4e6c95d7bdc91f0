"""Tables in every tier: equal rows, and a sentence for everything that is wrong."""

from __future__ import annotations

import errno
import mmap
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from io import BufferedReader, FileIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engram_local.errors import TableError
from engram_local.memory import page_cache
from engram_local.memory.rows import encode_rows
from engram_local.memory.table import Table, open_table
from engram_local.spec import MEMORY_TYPES, RowType, TableSpec
from tests.fakes import normal

F32 = NDArray[np.float32]
N_ROWS, WIDTH = 100, 64
OFFSET = 5000  # past the first page, on no boundary


def write_table(
    path: Path, row_type: RowType = RowType.F32, *, tail: bytes = b""
) -> TableSpec:
    """Write a file with a table in it and return where it is."""
    raw = encode_rows(normal(np.random.default_rng(0), N_ROWS, WIDTH), row_type)
    path.write_bytes(b"\xee" * OFFSET + raw.tobytes() + tail)
    return TableSpec(row_type=row_type, width=WIDTH, n_rows=N_ROWS, offset_bytes=OFFSET)


def gather(table: Table, row_ids: list[int]) -> F32:
    out = np.empty((len(row_ids), table.spec.width), np.float32)
    return table.gather(np.array(row_ids, np.int64), out)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "table.bin"


@pytest.mark.parametrize("row_type", MEMORY_TYPES)
def test_all_tiers_give_equal_rows(path: Path, tier: str, row_type: RowType) -> None:
    spec = write_table(path, row_type, tail=b"behind it")
    row_ids = [0, 99, 1, 50, 50, *range(100)]
    ram, table = open_table(path, spec, "ram"), open_table(path, spec, tier)
    assert (ram.tier, table.tier) == ("ram", tier)
    rows = gather(ram, row_ids)
    assert rows.tobytes() == gather(table, row_ids).tobytes()
    ram.close()
    table.close()


def test_rows_are_those_that_were_written(path: Path, tier: str) -> None:
    spec = write_table(path)
    table = open_table(path, spec, tier)
    expected = normal(np.random.default_rng(0), N_ROWS, WIDTH)
    np.testing.assert_array_equal(gather(table, [99, 0, 42]), expected[[99, 0, 42]])
    table.close()


@pytest.mark.parametrize("row_id", [-1, N_ROWS, 2**62, -(2**63)])
def test_row_id_outside_the_table_is_an_error(
    path: Path, tier: str, row_id: int
) -> None:
    table = open_table(path, write_table(path), tier)
    with pytest.raises(TableError, match="rows 0 to 99") as caught:
        gather(table, [5, row_id, 7])
    assert str(row_id) in caught.value.message
    assert caught.value.exit_code == 1
    assert gather(table, [99]).shape == (1, WIDTH)
    table.close()


def test_an_empty_batch_gives_no_rows(path: Path, tier: str) -> None:
    table = open_table(path, write_table(path), tier)
    assert gather(table, []).shape == (0, WIDTH)
    table.close()


def test_a_closed_table_is_an_error_and_closing_twice_is_not(
    path: Path, tier: str
) -> None:
    table = open_table(path, write_table(path), tier)
    table.close()
    table.close()
    with pytest.raises(TableError, match="is closed"):
        gather(table, [0])
    assert table.resident_bytes() is None


def test_a_file_that_is_too_short_is_refused(path: Path, tier: str) -> None:
    spec = write_table(path)
    size = path.stat().st_size
    os.truncate(path, size - 1)
    with pytest.raises(TableError) as caught:
        open_table(path, spec, tier)
    assert f"{size - 1:,} bytes" in caught.value.message
    assert f"byte {size:,}" in caught.value.message
    assert caught.value.hint is not None


def test_an_empty_file_is_refused(path: Path, tier: str) -> None:
    spec = write_table(path)
    os.truncate(path, 0)
    with pytest.raises(TableError, match="is 0 bytes"):
        open_table(path, spec, tier)


def test_a_missing_file_is_refused(path: Path, tier: str) -> None:
    spec = write_table(path)
    path.unlink()
    with pytest.raises(TableError, match="No such file"):
        open_table(path, spec, tier)


def test_a_file_cut_between_gathers_is_an_error(path: Path, tier: str) -> None:
    if tier == "ram":
        pytest.skip("needs its file no more, see below")
    table = open_table(path, write_table(path), tier)
    before = gather(table, [0])
    os.truncate(path, OFFSET + 10)
    with pytest.raises(TableError, match=f"is {OFFSET + 10:,} bytes") as caught:
        gather(table, [0])
    assert "cut off" in (caught.value.hint or "")
    assert before.shape == (1, WIDTH)
    table.close()


def test_a_table_in_ram_needs_its_file_no_more(path: Path) -> None:
    table = open_table(path, write_table(path), "ram")
    before = gather(table, [3])
    path.unlink()
    np.testing.assert_array_equal(gather(table, [3]), before)
    table.close()


def test_a_system_that_cannot_map_the_file_is_a_table_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = write_table(path)

    def refuse(*_args: Any, **_options: Any) -> None:
        raise OSError(errno.ENODEV, "No such device")

    monkeypatch.setattr(mmap, "mmap", refuse)
    with pytest.raises(TableError, match="No such device"):
        open_table(path, spec, "mmap")


def test_reading_into_ram_reports_all_bytes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engram_local.memory.table._READ_BYTES", 10_000)
    spec = write_table(path, tail=b"x" * 100)
    calls: list[tuple[int, int]] = []
    table = open_table(path, spec, "ram", progress=lambda *call: calls.append(call))
    assert calls == [(10_000, 25_600), (20_000, 25_600), (25_600, 25_600)]
    expected = normal(np.random.default_rng(0), N_ROWS, WIDTH)
    np.testing.assert_array_equal(gather(table, list(range(N_ROWS))), expected)
    table.close()


def test_a_table_in_ram_is_resident(path: Path) -> None:
    table = open_table(path, write_table(path), "ram")
    assert table.resident_bytes() == N_ROWS * WIDTH * 4
    table.close()


@pytest.mark.skipif(not hasattr(mmap, "MADV_RANDOM"), reason="no madvise here")
def test_a_mapped_table_counts_the_pages_in_memory(path: Path) -> None:
    spec = write_table(path)
    table = open_table(path, spec, "mmap")
    gather(table, list(range(N_ROWS)))
    resident = table.resident_bytes()
    assert resident is not None
    assert spec.n_bytes <= resident <= spec.n_bytes + 2 * mmap.PAGESIZE
    table.close()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux only")
@pytest.mark.parametrize("has_cachestat", [True, False])
def test_residency_is_unknown_to_those_whom_the_system_would_not_tell(
    path: Path,
    has_cachestat: bool,
    as_nobody: Callable[[], AbstractContextManager[None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not has_cachestat:  # before Linux 6.5
        monkeypatch.setattr(page_cache, "cached_pages", lambda *_: None)
    table = open_table(Path(path.name), write_table(path), "mmap")
    gather(table, list(range(N_ROWS)))
    assert table.resident_part(0, 100) == 1.0
    if os.geteuid() == 0:
        path.chmod(0o444)
        with as_nobody():
            assert table.resident_bytes() is None
            assert table.resident_part(0, 100) is None
    table.close()


@pytest.mark.parametrize("begin", [0, 4096, 9000])
def test_a_part_of_a_table_is_resident_as_its_tier_says(
    path: Path, tier: str, begin: int
) -> None:
    table = open_table(path, write_table(path), tier)
    gather(table, list(range(N_ROWS)))
    wanted = 0.0 if tier == "direct" else 1.0
    assert table.resident_part(begin, begin + 5000) == wanted
    table.close()
    assert table.resident_part(begin, begin + 5000) is None


def test_a_drive_that_fails_while_reading_is_a_table_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FailingFile(BufferedReader):
        def readinto(self, _piece: Any) -> int:
            raise OSError(errno.EIO, "Input/output error")

    spec = write_table(path)
    monkeypatch.setattr(
        "engram_local.memory.table_file.open",
        lambda path, _mode, opener: FailingFile(FileIO(path)),
        raising=False,
    )
    with pytest.raises(TableError, match="Input/output error"):
        open_table(path, spec, "ram")
