"""Rows -> pages in the page cache: exactly theirs, and mapped where llama.cpp reads."""

from __future__ import annotations

import mmap
import os
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from engram_local.errors import TableError
from engram_local.memory.module import NativeModule
from engram_local.spec import HashSpec, RowType
from tests.memory.native_fakes import EOS, GEMMA, N_VOCAB, QWEN, make_native, pages_of
from tests.page_cache import comes_true, evict, mapped, resident_pages

if not sys.platform.startswith("linux"):
    pytest.skip("Linux only", allow_module_level=True)

from engram_local.memory.page_reader import PageReader, find_mapping

PAGE = mmap.PAGESIZE
SHAPES = [
    pytest.param(QWEN, RowType.F16, 32, id="64 bytes"),
    pytest.param(QWEN, RowType.Q8_0, 96, id="102 bytes"),
    pytest.param(GEMMA, RowType.Q8_0, 8960, id="9,520 bytes"),
]


def ids(n_tokens: int) -> list[int]:
    """Return random tokens, an EOS in seven, and one at the start and doubled."""
    generator = np.random.default_rng(n_tokens)
    token_ids = generator.integers(0, N_VOCAB, n_tokens)
    token_ids[generator.random(n_tokens) < 1 / 7] = EOS
    token_ids[[0, 5, 6]] = EOS
    return [int(token_id) for token_id in token_ids]


def read(module: NativeModule, token_ids: list[int], sizes: list[int]) -> int:
    """Read a sequence in pieces, as the thread does; return the pages asked for."""
    n_pages = start = 0
    with closing(PageReader(module)) as reader:
        for size in sizes:
            first = max(0, start - reader.context)
            piece = np.array(token_ids[first : start + size], np.int64)
            n_pages += reader.read(piece, start - first)
            start += size
    return n_pages


@pytest.mark.parametrize("sizes", [[60], [1, 2, 30, 26, 1]], ids=["whole", "pieces"])
@pytest.mark.parametrize(("spec", "row_type", "width"), SHAPES)
def test_exactly_the_pages_of_the_rows_are_read(
    spec: HashSpec, row_type: RowType, width: int, sizes: list[int], tmp_path: Path
) -> None:
    module = make_native(tmp_path / "t.bin", spec, row_type=row_type, width=width)
    token_ids, path = ids(sum(sizes)), module.path
    evict(path)
    wanted = pages_of(module, token_ids, PAGE)
    assert len(wanted) < path.stat().st_size / PAGE * 0.9  # not simply all
    came: set[int] = set()

    def attempt() -> bool:
        n_asked = read(module, token_ids, sizes)
        assert n_asked == len(wanted) if len(sizes) == 1 else n_asked >= len(wanted)
        came.update(resident_pages(path))
        assert came <= wanted
        return came == wanted

    assert comes_true(attempt)


def test_what_is_read_is_mapped_where_it_will_be_used(tmp_path: Path) -> None:
    module = make_native(tmp_path / "table.bin")
    token_ids = ids(40)
    evict(module.path)
    with mapped(module.path) as file_bytes:
        address = int(file_bytes.ctypes.data)
        assert find_mapping(module.path, module.spec.layers[0].table) == address
        read(module, token_ids, [40])
        if not _mapped_bytes(address):
            pytest.skip("this kernel cannot map pages ahead")
        wanted_bytes = PAGE * len(pages_of(module, token_ids, PAGE))

        def attempt() -> bool:
            read(module, token_ids, [40])
            assert _mapped_bytes(address) <= wanted_bytes
            return _mapped_bytes(address) == wanted_bytes

        assert comes_true(attempt)


def _mapped_bytes(address: int) -> int:
    text = Path("/proc/self/smaps").read_text("utf-8")
    entry = text.split(f"\n{address:x}-")[1]
    line = next(line for line in entry.splitlines() if line.startswith("Rss:"))
    return 1024 * int(line.split()[1])


def test_a_mapping_that_is_not_the_only_one_is_not_taken(tmp_path: Path) -> None:
    module = make_native(tmp_path / "table.bin")
    table = module.spec.layers[0].table
    assert find_mapping(module.path, table) is None
    with mapped(module.path) as _, mapped(module.path) as _:
        assert find_mapping(module.path, table) is None


def test_a_part_of_the_file_may_be_mapped_but_all_of_the_table(tmp_path: Path) -> None:
    module = make_native(tmp_path / "table.bin")
    table, size = module.spec.layers[0].table, module.path.stat().st_size
    with open(module.path, "rb") as file:
        for length, found in ((size - PAGE, True), (size - 2 * PAGE, False)):
            part = mmap.mmap(
                file.fileno(), length, access=mmap.ACCESS_READ, offset=PAGE
            )
            address = int(np.frombuffer(part, np.uint8).ctypes.data) - PAGE
            expected = address if found else None
            assert find_mapping(module.path, table) == expected
            del part


def test_after_a_cancel_nothing_is_read_until_allowed(tmp_path: Path) -> None:
    module = make_native(tmp_path / "table.bin")
    with closing(PageReader(module)) as reader:
        token_ids = np.array(ids(40), np.int64)
        reader.cancel()
        assert reader.read(token_ids, 0) == 0
        reader.allow()
        assert reader.read(token_ids, 0) > 0


def test_a_file_that_became_shorter_is_left_to_the_graph(tmp_path: Path) -> None:
    module = make_native(tmp_path / "table.bin")
    with mapped(module.path), closing(PageReader(module)) as reader:
        os.truncate(module.path, PAGE)
        n_pages = reader.read(np.array(ids(40), np.int64), 0)
        assert n_pages == len(pages_of(module, ids(40), PAGE))


def test_a_file_that_is_too_short_is_refused(tmp_path: Path) -> None:
    module = make_native(tmp_path / "table.bin")
    os.truncate(module.path, PAGE)
    with pytest.raises(TableError, match="its table ends at byte"):
        PageReader(module)
