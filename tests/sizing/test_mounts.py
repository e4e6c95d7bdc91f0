"""mountinfo, as the kernel writes it and as nobody should."""

from __future__ import annotations

import sys
from pathlib import Path, PurePosixPath

import pytest

from engram_local.sizing.mounts import mount_of, mounts
from tests.sizing.fakes import mountinfo, write


def test_a_line_is_read(tmp_path: Path) -> None:
    mountinfo(tmp_path, r"259:2 /sub /with\040space ext4 /dev/nvme0n1p2 rw,memory")
    (mount,) = mounts(tmp_path)
    assert mount.device == "259:2"
    assert mount.root == PurePosixPath("/sub")
    assert mount.point == PurePosixPath("/with space")
    assert (mount.file_system, mount.source) == ("ext4", "/dev/nvme0n1p2")
    assert mount.options == {"rw", "memory"}


def test_lines_without_sense_are_left_out(tmp_path: Path) -> None:
    text = "\n\x00\n1 2 3\n - - -\n1 1 8:1 / relative rw - ext4 /dev/sda1 rw\n"
    write(tmp_path / "proc/self/mountinfo", text)
    assert mounts(tmp_path) == ()


def test_no_proc_is_no_mounts(tmp_path: Path) -> None:
    assert mounts(tmp_path) == ()


def test_the_innermost_mount_holds_a_path(tmp_path: Path) -> None:
    mountinfo(
        tmp_path,
        "8:1 / / ext4 /dev/sda1 rw",
        "8:2 / /data ext4 /dev/sda2 rw",
        "8:3 / /data2 ext4 /dev/sda3 rw",
    )
    found = mount_of(PurePosixPath("/data/models/a.gguf"), mounts(tmp_path))
    assert found is not None and found.device == "8:2"


def test_of_two_on_one_point_the_later_is_seen(tmp_path: Path) -> None:
    mountinfo(tmp_path, "8:1 / / ext4 /dev/sda1 rw", "8:2 / / xfs /dev/sda2 rw")
    found = mount_of(PurePosixPath("/x"), mounts(tmp_path))
    assert found is not None and found.file_system == "xfs"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux only")
def test_this_system_has_mounts() -> None:
    found = mount_of(PurePosixPath("/proc/self"), mounts())
    assert found is not None and found.file_system == "proc"
