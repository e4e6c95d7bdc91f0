"""Files in the page cache and out of it, for real."""

from __future__ import annotations

import mmap
import sys
from pathlib import Path

import numpy as np
import pytest

from engram_local.bench.eviction import Region, cached_bytes, evict, read_through
from engram_local.errors import BenchError
from tests.page_cache import comes_true

N_BYTES = 256 * mmap.PAGESIZE


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of 256 pages; skips where nobody can tell what is in memory."""
    path = tmp_path / "table.bin"
    path.write_bytes(np.random.default_rng(0).bytes(N_BYTES))
    if not sys.platform.startswith("linux") or cached_bytes(Region(path=path)) is None:
        pytest.skip("this system does not tell what is in memory")
    return path


@pytest.fixture
def evictable(file: Path) -> Path:
    """The same on a drive; skips where files live in memory."""
    if evict(Region(path=file)).after_bytes:
        pytest.skip("the temporary folder is in memory")
    return file


def test_an_evicted_file_is_gone_from_memory_and_comes_back(evictable: Path) -> None:
    assert cached_bytes(Region(path=evictable)) == 0
    read_through(Region(path=evictable))
    eviction = evict(Region(path=evictable))
    assert eviction.region_bytes == N_BYTES
    # The system may drop pages whenever it likes, so perhaps not all of it.
    assert eviction.before_bytes is not None
    assert 0 < eviction.before_bytes <= N_BYTES
    assert eviction.after_bytes == cached_bytes(Region(path=evictable)) == 0


def test_looking_brings_nothing_into_memory(evictable: Path) -> None:
    region = Region(path=evictable)
    assert cached_bytes(region) == cached_bytes(region) == 0


def test_pages_that_somebody_maps_and_has_touched_stay(evictable: Path) -> None:
    with (
        open(evictable, "rb") as opened,
        mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
    ):
        # A mapping alone keeps nothing.
        assert evict(Region(path=evictable)).after_bytes == 0
        mapped.madvise(mmap.MADV_RANDOM)
        assert len(mapped[: mmap.PAGESIZE]) == mmap.PAGESIZE
        stayed = evict(Region(path=evictable)).after_bytes
        assert stayed is not None and stayed >= mmap.PAGESIZE
    assert evict(Region(path=evictable)).after_bytes == 0


def test_a_file_in_memory_stays_there() -> None:
    shared = Path("/dev/shm")
    if not shared.is_dir():
        pytest.skip("there is no file system in memory")
    path = shared / "engram-local-test.bin"
    try:
        path.write_bytes(bytes(N_BYTES))
        assert evict(Region(path=path)).after_bytes == N_BYTES
    finally:
        path.unlink(missing_ok=True)


def test_an_empty_file_has_no_pages(tmp_path: Path) -> None:
    path = tmp_path / "empty.bin"
    path.touch()
    assert cached_bytes(Region(path=path)) is None


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"could not be evicted.*No such file"):
        evict(Region(path=tmp_path / "none.bin"))


def test_a_region_is_evicted_alone_and_without_the_pages_that_it_shares(
    evictable: Path,
) -> None:
    read_through(Region(path=evictable))
    page = mmap.PAGESIZE
    region = Region(path=evictable, begin_bytes=page + 1, end_bytes=4 * page + 1)
    assert region.pages() == (2 * page, 4 * page)
    before = cached_bytes(Region(path=evictable))
    eviction = evict(region)
    assert (eviction.region_bytes, eviction.after_bytes) == (2 * page, 0)
    after = cached_bytes(Region(path=evictable))
    assert before is not None and after is not None
    assert before - after >= 2 * page or before < N_BYTES

    def comes_back() -> bool:
        read_through(region)
        return cached_bytes(region) == 2 * page

    assert comes_true(comes_back)


def test_the_last_page_of_a_file_is_in_a_region_that_ends_with_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "odd.bin"
    path.write_bytes(bytes(mmap.PAGESIZE + 5))
    whole = (0, mmap.PAGESIZE + 5)
    assert Region(path=path).pages() == whole
    assert Region(path=path, end_bytes=10**9).pages() == whole
