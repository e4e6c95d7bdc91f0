"""Parts of a file leave the page cache, also those that this process maps."""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engram_local.bench.eviction import Region, cached_bytes, read_through
from engram_local.errors import TableError
from engram_local.memory import page_cache
from engram_local.memory.page_cache import mappings, release
from engram_local.units import MIB
from tests.page_cache import comes_true, evict

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="Linux only"
)

PAGE = mmap.PAGESIZE


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file on a drive, none of it in memory."""
    path = tmp_path / "file"
    path.write_bytes(np.random.default_rng(0).bytes(4 * MIB))
    evict(path)
    return path


def cached(path: Path, begin: int, end: int) -> int | None:
    return cached_bytes(Region(path=path, begin_bytes=begin, end_bytes=end))


def stays(file: Path, *kept: tuple[int, int]) -> bool:
    """Return whether parts of a file are in memory."""
    return all(cached(file, begin, end) == end - begin for begin, end in kept)


@pytest.fixture
def mapped(file: Path) -> Iterator[mmap.mmap]:
    """All of the file in this process."""
    with (
        open(file, "rb") as opened,
        mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as whole,
    ):
        yield whole


def test_only_whole_pages_of_the_ranges_go(file: Path) -> None:
    def attempt() -> bool:
        read_through(Region(path=file))
        release(file, [(MIB - 1, 2 * MIB + 1), (3 * MIB + 1, 3 * MIB + PAGE)])
        assert cached(file, MIB, 2 * MIB) == 0
        return stays(file, (0, MIB), (2 * MIB, 4 * MIB))

    assert comes_true(attempt)


def test_what_is_mapped_goes_too_and_comes_back(file: Path, mapped: mmap.mmap) -> None:
    before = file.read_bytes()

    def attempt() -> bool:
        assert mapped[:] == before
        release(file, [(MIB, 3 * MIB)])
        assert cached(file, MIB, 3 * MIB) == 0
        others_stayed = stays(file, (0, MIB), (3 * MIB, 4 * MIB))
        assert mapped[:] == before
        return others_stayed and stays(file, (0, 4 * MIB))

    assert comes_true(attempt)


def test_another_files_mapping_is_left_alone(
    file: Path, mapped: mmap.mmap, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.write_bytes(bytes(4 * MIB))

    def attempt() -> bool:
        assert sum(mapped[::PAGE]) > 0  # touched
        release(other, [(0, 4 * MIB)])
        return stays(file, (0, 4 * MIB))

    assert comes_true(attempt)


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


@pytest.mark.parametrize("has_cachestat", [True, False])
def test_what_was_read_is_in_memory_and_nothing_else(
    file: Path, has_cachestat: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_cachestat:  # before Linux 6.5
        monkeypatch.setattr(page_cache, "cached_pages", lambda *_: None)

    def attempt() -> bool:
        evict(file)
        done = list(page_cache.read_through(file, [(PAGE, 3 * PAGE), (MIB, MIB + 5)]))
        assert sum(done) == 2 * PAGE + 5
        with open(file, "rb") as opened:
            parts = [
                page_cache.cached_bytes(file, opened.fileno(), *part)
                for part in ((PAGE, 3 * PAGE), (MIB + 1, MIB + 2), (9, 9))
            ]
            end = page_cache.cached_bytes(file, opened.fileno(), 3 * MIB, 4 * MIB)
        assert end == 0
        return parts == [2 * PAGE, PAGE, 0]

    assert comes_true(attempt)


def test_a_file_that_cannot_be_read_is_a_table_error(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="cannot be read"):
        list(page_cache.read_through(tmp_path / "none", [(0, 1)]))


@pytest.mark.parametrize("has_cachestat", [True, False])
def test_of_a_file_that_became_shorter_the_rest_counts(
    file: Path, has_cachestat: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_cachestat:
        monkeypatch.setattr(page_cache, "cached_pages", lambda *_: None)
    with open(file, "r+b") as opened:
        opened.truncate(2 * PAGE)
        opened.seek(0)
        opened.read()
        descriptor = opened.fileno()
        assert page_cache.cached_bytes(file, descriptor, PAGE, MIB) == PAGE
        assert page_cache.cached_bytes(file, descriptor, MIB, 2 * MIB) == 0
