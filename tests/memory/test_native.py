"""A model's own table beside llama.cpp: who is told what, and what is counted."""

from __future__ import annotations

import mmap
import sys
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import pytest

from engram_local.memory.native import NativeMemory
from engram_local.memory.read_ahead import ReadAhead, open_read_ahead
from tests.memory.native_fakes import make_native, pages_of
from tests.memory.test_read_ahead import LONG, FakeReader
from tests.page_cache import comes_true, evict

IDS = [7, 8, 9, 7, 8, 9, 200, 201]


def test_what_is_submitted_is_read_and_counted(tmp_path: Path) -> None:
    module, reader = make_native(tmp_path / "table.bin"), FakeReader()
    ahead = ReadAhead(reader, distance_tokens=300)
    with closing(ahead), closing(NativeMemory(module, "mmap", ahead=ahead)) as memory:
        memory.submit(LONG[:1000])
        reader.wait_for(299)
        memory.check(500)
        reader.wait_for(799)
        assert memory.trim(0)
        memory.submit([5000, 5001])
        reader.wait_for(5001)
        memory.reset()
        memory.submit([6000, 6001])
        reader.wait_for(6001)
        ahead.close()
        counted = memory.take_counters()
        assert counted.rows_read == 1004 * module.spec.rows_per_token
        assert counted.pages_ahead == len(reader.read_ids)
        assert memory.take_counters().pages_ahead == 0


def test_without_reading_ahead_only_rows_are_counted(tmp_path: Path) -> None:
    module = make_native(tmp_path / "table.bin")
    with closing(NativeMemory(module, "mmap")) as memory:
        memory.submit(IDS)
        memory.check(len(IDS))
        counted = memory.take_counters()
    assert counted.rows_read == len(IDS) * module.spec.rows_per_token
    assert counted.pages_ahead is None


def test_a_table_in_ram_is_there_completely(tmp_path: Path) -> None:
    module = make_native(tmp_path / "table.bin")
    with closing(NativeMemory(module, "ram")) as memory:
        assert memory.resident_bytes == module.spec.table_bytes


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux only")
def test_resident_bytes_grow_by_what_was_read_ahead(tmp_path: Path) -> None:
    module = make_native(tmp_path / "table.bin")
    evict(module.path)
    with ExitStack() as stack:
        ahead = open_read_ahead(stack, module, max_batch=8)
        memory = stack.enter_context(closing(NativeMemory(module, "mmap", ahead=ahead)))
        assert memory.resident_bytes == 0
        wanted_bytes = mmap.PAGESIZE * len(pages_of(module, IDS, mmap.PAGESIZE))

        def attempt() -> bool:
            memory.trim(0)
            memory.submit(IDS)
            assert (memory.resident_bytes or 0) <= wanted_bytes
            return memory.resident_bytes == wanted_bytes

        assert comes_true(attempt)


def test_the_row_of_a_token_id_is_its_own() -> None:
    """Of the slow reference, so that the tests above rest on something."""
    from engram_local.memory import reference
    from tests.memory.native_fakes import GEMMA

    assert reference.row_ids([3, 0, 299], GEMMA) == [[3], [0], [299]]
    assert np.array(reference.row_ids(IDS, GEMMA)).shape == (len(IDS), 1)
