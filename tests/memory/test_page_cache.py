"""Parts of a file leave the page cache, also those that this process maps."""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engram_local.bench.eviction import Region, cached_bytes, evict, read_through
from engram_local.memory.page_cache import mappings, release
from engram_local.units import MIB

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="Linux only"
)

PAGE = mmap.PAGESIZE


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file on a drive, with all of its pages in memory."""
    path = tmp_path / "file"
    path.write_bytes(np.random.default_rng(0).bytes(4 * MIB))
    if evict(Region(path=path)).after_bytes != 0:
        pytest.skip("this file system keeps its files in memory")
    read_through(Region(path=path))
    assert cached_bytes(Region(path=path)) == 4 * MIB
    return path


def cached(path: Path, begin: int, end: int) -> int | None:
    return cached_bytes(Region(path=path, begin_bytes=begin, end_bytes=end))


@pytest.fixture
def mapped(file: Path) -> Iterator[mmap.mmap]:
    """All of the file in this process, touched."""
    with (
        open(file, "rb") as opened,
        mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as whole,
    ):
        assert sum(whole[::PAGE]) > 0
        yield whole


def test_only_whole_pages_of_the_ranges_go(file: Path) -> None:
    release(file, [(MIB - 1, 2 * MIB + 1), (3 * MIB + 1, 3 * MIB + PAGE)])
    assert cached(file, MIB, 2 * MIB) == 0
    assert cached(file, 0, MIB) == MIB
    assert cached(file, 2 * MIB, 4 * MIB) == 2 * MIB


def test_what_is_mapped_goes_too_and_comes_back(file: Path, mapped: mmap.mmap) -> None:
    before = mapped[:]
    release(file, [(MIB, 3 * MIB)])
    assert cached(file, MIB, 3 * MIB) == 0
    assert cached(file, 0, MIB) == MIB
    assert mapped[:] == before
    assert cached(file, MIB, 3 * MIB) == 2 * MIB


def test_another_files_mapping_is_left_alone(
    file: Path, mapped: mmap.mmap, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.write_bytes(bytes(4 * MIB))
    release(other, [(0, 4 * MIB)])
    assert cached(file, 0, 4 * MIB) == 4 * MIB


def test_a_file_that_is_gone_needs_nothing(tmp_path: Path) -> None:
    release(tmp_path / "gone", [(0, MIB)])


@pytest.mark.parametrize(
    "name", ["two  spaces ", "a\nline", "a\u2028separator", os.fsdecode(b"\xff")]
)
def test_a_mapping_is_found_whatever_its_file_is_called(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    path.write_bytes(bytes(2 * PAGE))
    link = tmp_path / "link"
    link.symlink_to(path)
    with (
        open(path, "rb") as opened,
        mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ),
    ):
        for called in (path, link):
            ((_, offset, n_bytes),) = mappings(called)
            assert (offset, n_bytes) == (0, 2 * PAGE)
