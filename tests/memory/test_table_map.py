"""What of a table is in memory, cell by cell; all of it there, none of it there."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from engram_local.errors import UsageError
from engram_local.events import TableMap
from engram_local.memory.module import MemoryModule
from engram_local.memory.native import NativeMemory
from engram_local.memory.reference_memory import ReferenceMemory
from engram_local.memory.table_map import evict, map_tables, warm
from engram_local.spec import RowType
from tests import page_cache
from tests.fakes import Memory, make_memory
from tests.memory.native_fakes import make_native
from tests.page_cache import comes_true

Write = Callable[[Memory], MemoryModule]
N_CELLS = 7

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux only")


@pytest.fixture
def module(tmp_path: Path, written: Write) -> MemoryModule:
    return written(make_memory(tmp_path / "memory.gguf", n_spare_rows=9000))


def cells(found: TableMap) -> list[float | None]:
    return [cell for strip in found.strips for cell in strip.resident]


def test_strips_are_those_of_the_layers(module: MemoryModule) -> None:
    with closing(ReferenceMemory(module, "mmap")) as memory:
        strips = map_tables(memory, N_CELLS).strips
    for strip, layer in zip(strips, module.spec.layers, strict=True):
        assert strip.layer_id == layer.layer_id
        assert strip.n_rows == layer.table.n_rows
        assert strip.table_bytes == layer.table.n_bytes
        assert len(strip.resident) == N_CELLS


@linux
def test_a_cell_shows_what_of_it_is_in_memory(module: MemoryModule) -> None:
    """Rows of the second layer's last cell are read, and nothing else."""
    table = module.spec.layers[1].table

    def attempt() -> bool:
        page_cache.evict(module.path)
        with closing(ReferenceMemory(module, "mmap")) as memory:
            before = cells(map_tables(memory, N_CELLS))
            rows = np.arange(table.n_rows - 100, table.n_rows)
            memory.tables[1].gather(rows, np.empty((100, table.width), np.float32))
            after = cells(map_tables(memory, N_CELLS))
        assert before == [0.0] * 2 * N_CELLS
        last = after.pop()
        assert after == [0.0] * (2 * N_CELLS - 1)
        n_pages = table.n_bytes / N_CELLS / 4096
        return last is not None and 3 / n_pages < last < 6 / n_pages

    assert comes_true(attempt)


@linux
def test_a_table_is_warmed_and_evicted(module: MemoryModule) -> None:
    def attempt() -> bool:
        page_cache.evict(module.path)
        with closing(ReferenceMemory(module, "mmap")) as memory:
            parts = list(warm(memory))
            assert parts == sorted(parts) and parts[-1] == 1.0
            warmed = cells(map_tables(memory, N_CELLS))
            evict(memory)
            # Pages at the borders hold something else, too, and stay.
            left = cells(map_tables(memory, N_CELLS))
        assert all(cell is not None and cell < 0.2 for cell in left)
        return warmed == [1.0] * 2 * N_CELLS

    assert comes_true(attempt)


def test_other_tiers_have_nothing_to_warm(module: MemoryModule, tier: str) -> None:
    if tier == "mmap":
        return  # see above
    with closing(ReferenceMemory(module, tier)) as memory:
        wanted = 1.0 if tier == "ram" else 0.0
        assert cells(map_tables(memory, 3)) == [wanted] * 6
        for use in (lambda: list(warm(memory)), lambda: evict(memory)):
            with pytest.raises(UsageError, match="page cache"):
                use()


def test_a_table_with_fewer_bytes_than_cells_has_all_cells(
    tmp_path: Path, written: Write
) -> None:
    small = make_memory(tmp_path / "memory.gguf", row_type=RowType.Q8_0)
    n_cells = 2 * small.module.spec.layers[0].table.n_bytes
    with closing(ReferenceMemory(written(small), "ram")) as memory:
        assert cells(map_tables(memory, n_cells)) == [1.0] * 2 * n_cells


def test_a_models_own_table_is_in_its_file_or_in_ram(tmp_path: Path) -> None:
    module = make_native(tmp_path / "model.gguf")
    with closing(NativeMemory(module, "ram")) as memory:
        assert cells(map_tables(memory, 3)) == [1.0] * 3
    with closing(NativeMemory(module, "mmap")) as memory:
        assert list(warm(memory))[-1] == 1.0
        (strip,) = map_tables(memory, 3).strips
        assert strip.resident in ((1.0,) * 3, (None,) * 3)  # None: not on Linux
        evict(memory)
