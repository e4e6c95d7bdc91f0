"""What a cgroup leaves of the memory: both versions, nested, and broken files."""

from __future__ import annotations

from pathlib import Path

import pytest

from engram_local.sizing.cgroup import memory_limit
from engram_local.units import GIB
from tests.sizing.fakes import mountinfo, write

V2 = "0:30 / /sys/fs/cgroup cgroup2 cgroup2 rw"
V1 = "0:31 / /sys/fs/cgroup/memory cgroup cgroup rw,memory"


def v2(root: Path, group: str, **files: str) -> None:
    """Put this process into a group of version 2, with the files of that group."""
    write(root / "proc/self/cgroup", f"0::{group}\n")
    for name, text in files.items():
        path = f"sys/fs/cgroup{group}/{name.replace('_', '.', 1)}"
        write(root / path, text)


def test_a_limit_and_what_is_left_of_it(tmp_path: Path) -> None:
    mountinfo(tmp_path, V2)
    v2(tmp_path, "/a", memory_max=f"{8 * GIB}\n", memory_current=f"{3 * GIB}\n")
    limit = memory_limit(tmp_path)
    assert limit is not None
    assert (limit.limit_bytes, limit.free_bytes) == (8 * GIB, 5 * GIB)


def test_file_pages_are_free(tmp_path: Path) -> None:
    """A model that was loaded twice fills the group with pages that are active."""
    mountinfo(tmp_path, V2)
    stat = f"anon 5\nactive_file {GIB}\ninactive_file {GIB}\nunevictable 9\n"
    v2(tmp_path, "/a", memory_max=f"{8 * GIB}", memory_current=f"{3 * GIB}")
    write(tmp_path / "sys/fs/cgroup/a/memory.stat", stat)
    limit = memory_limit(tmp_path)
    assert limit is not None and limit.free_bytes == 7 * GIB


def test_the_tightest_group_on_the_way_counts(tmp_path: Path) -> None:
    mountinfo(tmp_path, V2)
    v2(tmp_path, "/a", memory_max=f"{4 * GIB}", memory_current=f"{1 * GIB}")
    v2(tmp_path, "/a/b", memory_max=f"{16 * GIB}", memory_current=f"{15 * GIB}")
    v2(tmp_path, "/a/b/c", memory_max="max", memory_current="0")
    limit = memory_limit(tmp_path)
    assert limit is not None
    assert limit.limit_bytes == 4 * GIB  # of a
    assert limit.free_bytes == 1 * GIB  # of b, which others fill


def test_version_1(tmp_path: Path) -> None:
    mountinfo(tmp_path, "0:29 / /sys/fs/cgroup/cpu cgroup cgroup rw,cpu", V1)
    write(tmp_path / "proc/self/cgroup", "9:cpu:/x\n4:blkio,memory:/y\n0::/\n")
    folder = tmp_path / "sys/fs/cgroup/memory/y"
    write(folder / "memory.limit_in_bytes", f"{6 * GIB}")
    write(folder / "memory.usage_in_bytes", f"{2 * GIB}")
    limit = memory_limit(tmp_path)
    assert limit is not None
    assert (limit.limit_bytes, limit.free_bytes) == (6 * GIB, 4 * GIB)


def test_a_container_sees_its_group_as_the_root(tmp_path: Path) -> None:
    mountinfo(tmp_path, "0:30 /docker/abc /sys/fs/cgroup cgroup2 cgroup2 rw")
    write(tmp_path / "proc/self/cgroup", "0::/docker/abc\n")
    write(tmp_path / "sys/fs/cgroup/memory.max", f"{2 * GIB}")
    limit = memory_limit(tmp_path)
    assert limit is not None
    assert (limit.limit_bytes, limit.free_bytes) == (2 * GIB, 2 * GIB)


@pytest.mark.parametrize("group", ["/../../etc", "/elsewhere/../..", "/" + "x/" * 300])
def test_a_group_outside_leads_nowhere(tmp_path: Path, group: str) -> None:
    """Of another namespace, or made up: only the mount itself is read."""
    mountinfo(tmp_path, V2)
    write(tmp_path / "proc/self/cgroup", f"0::{group}\n")
    write(tmp_path / "sys/fs/cgroup/memory.max", f"{2 * GIB}")
    write(tmp_path / "sys/etc/memory.max", "1")
    write(tmp_path / "etc/memory.max", "1")
    limit = memory_limit(tmp_path)
    assert limit is not None and limit.limit_bytes == 2 * GIB


@pytest.mark.parametrize("text", ["max", "", "-5", "many", "1e9", "\x00", "9" * 5000])
def test_garbage_is_no_limit(tmp_path: Path, text: str) -> None:
    mountinfo(tmp_path, V2)
    v2(tmp_path, "/a", memory_max=text)
    assert memory_limit(tmp_path) is None


@pytest.mark.parametrize("text", ["", "-1", "many"])
def test_garbage_is_no_use(tmp_path: Path, text: str) -> None:
    mountinfo(tmp_path, V2)
    v2(tmp_path, "/a", memory_max="4096", memory_current=text)
    write(tmp_path / "sys/fs/cgroup/a/memory.stat", "inactive_file x\n\x00")
    limit = memory_limit(tmp_path)
    assert limit is not None and limit.free_bytes == 4096


def test_more_used_than_allowed_leaves_nothing(tmp_path: Path) -> None:
    mountinfo(tmp_path, V2)
    v2(tmp_path, "/a", memory_max="4096", memory_current="8192")
    limit = memory_limit(tmp_path)
    assert limit is not None and limit.free_bytes == 0


@pytest.mark.parametrize("text", ["", "nonsense", "0::", "4:memory:relative\n"])
def test_no_group_is_no_limit(tmp_path: Path, text: str) -> None:
    mountinfo(tmp_path, V2, V1)
    write(tmp_path / "sys/fs/cgroup/memory.max", "4096")
    write(tmp_path / "proc/self/cgroup", text)
    assert memory_limit(tmp_path) is None


def test_no_proc_is_no_limit(tmp_path: Path) -> None:
    assert memory_limit(tmp_path) is None
