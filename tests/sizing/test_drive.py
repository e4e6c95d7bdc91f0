"""Which drive holds a path: partitions, LVM, RAID, virtual ones, none at all."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from engram_local.sizing.drive import look_at_drive
from tests.sizing.fakes import disk, mapped, mountinfo, partition, write

MODELS = Path("/")


def test_a_partition_leads_to_its_drive(tmp_path: Path) -> None:
    nvme = disk(tmp_path, "nvme0n1", dev="259:0", model="Samsung SSD 990 PRO 2TB")
    partition(tmp_path, nvme, "nvme0n1p2", dev="259:2")
    mountinfo(tmp_path, "259:2 / / ext4 /dev/nvme0n1p2 rw")
    drive, notes = look_at_drive(MODELS, tmp_path)
    assert drive.name == "Samsung SSD 990 PRO 2TB (nvme0n1)"
    assert (drive.file_system, drive.rotational) == ("ext4", False)
    assert drive.free_bytes == pytest.approx(psutil.disk_usage("/").free, rel=0.05)
    assert notes == []


def test_a_hard_disk_spins(tmp_path: Path) -> None:
    disk(tmp_path, "sda", dev="8:0", model="ST18000NM000J", spins="1")
    mountinfo(tmp_path, "8:0 / / xfs /dev/sda rw")
    drive, _ = look_at_drive(MODELS, tmp_path)
    assert drive.rotational is True


def test_lvm_on_raid_names_every_drive_once(tmp_path: Path) -> None:
    first = disk(tmp_path, "sda", dev="8:0", model="A")
    second = disk(tmp_path, "sdb", dev="8:16", model="B", spins="1")
    parts = (
        partition(tmp_path, first, "sda1", dev="8:1"),
        partition(tmp_path, second, "sdb1", dev="8:17"),
        partition(tmp_path, second, "sdb2", dev="8:18"),
    )
    raid = mapped(tmp_path, "md0", dev="9:0", below=parts[:2])
    crypt = mapped(tmp_path, "dm-1", dev="253:1", below=(parts[2],))
    mapped(tmp_path, "dm-0", dev="253:0", below=(raid, crypt))
    mountinfo(tmp_path, "253:0 / / ext4 /dev/mapper/vg-root rw")
    drive, _ = look_at_drive(MODELS, tmp_path)
    assert drive.name == "A (sda) + B (sdb)"
    assert drive.rotational is True


def test_btrfs_is_found_by_its_source(tmp_path: Path) -> None:
    nvme = disk(tmp_path, "nvme0n1", dev="259:0", model="WD")
    partition(tmp_path, nvme, "nvme0n1p1", dev="259:1")
    mountinfo(tmp_path, "0:33 /@home / btrfs /dev/nvme0n1p1 rw")
    drive, _ = look_at_drive(MODELS, tmp_path)
    assert (drive.name, drive.file_system) == ("WD (nvme0n1)", "btrfs")


@pytest.mark.parametrize(("name", "model"), [("vda", ""), ("sda", "QEMU HARDDISK")])
def test_a_virtual_drive_does_not_tell_whether_it_spins(
    tmp_path: Path, name: str, model: str
) -> None:
    disk(tmp_path, name, dev="254:0", model=model, spins="1")
    mountinfo(tmp_path, f"254:0 / / ext4 /dev/{name} rw")
    drive, notes = look_at_drive(MODELS, tmp_path)
    assert name in drive.name and drive.rotational is None
    assert notes == [f"{drive.name} does not tell whether it spins"]


@pytest.mark.parametrize(
    ("kind", "source", "said"),
    [
        ("overlay", "overlay", "a container's"),
        ("tmpfs", "tmpfs", "in RAM"),
        ("nfs4", "server:/models", "over the network"),
        ("cifs", "//server/models", "over the network"),
        ("9p", "host", "not known"),
        ("zfs", "tank/models", "not known"),
    ],
)
def test_a_file_system_without_a_drive_says_what_it_is(
    tmp_path: Path, kind: str, source: str, said: str
) -> None:
    disk(tmp_path, "sda", dev="8:0")
    mountinfo(tmp_path, f"0:40 / / {kind} {source} rw")
    drive, notes = look_at_drive(MODELS, tmp_path)
    assert drive.name.startswith(f"{kind} (") and said in drive.name
    assert (drive.file_system, drive.rotational) == (kind, None)
    assert kind in notes[0]


def test_a_model_that_is_not_there_yet_has_its_folder_s_drive(tmp_path: Path) -> None:
    disk(tmp_path, "sda", dev="8:0", model="A")
    disk(tmp_path, "sdb", dev="8:16", model="B")
    there = tmp_path / "there"
    there.mkdir()
    mountinfo(tmp_path, "8:0 / / ext4 /dev/sda rw", f"8:16 / {there} ext4 /dev/sdb rw")
    drive, _ = look_at_drive(there / "not/yet.gguf", tmp_path)
    assert drive.name == "B (sdb)"
    assert drive.free_bytes is not None


@pytest.mark.parametrize("name", ["x" * 5_000, "a\0b", "../" * 3_000, "\udcff"])
def test_a_path_that_cannot_be_has_a_folder_that_is(tmp_path: Path, name: str) -> None:
    disk(tmp_path, "sda", dev="8:0", model="A")
    mountinfo(tmp_path, "8:0 / / ext4 /dev/sda rw")
    drive, _ = look_at_drive(tmp_path / name / "model.gguf", tmp_path)
    assert drive.name == "A (sda)"
    assert drive.free_bytes


def test_a_current_folder_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    drive, _ = look_at_drive(Path("model.gguf"), tmp_path)
    assert drive.name == "unknown"


def test_a_link_leads_to_where_it_points(tmp_path: Path) -> None:
    disk(tmp_path, "sdb", dev="8:16", model="B")
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    mountinfo(tmp_path, f"8:16 / {tmp_path / 'there'} ext4 /dev/sdb rw")
    drive, _ = look_at_drive(tmp_path / "link/model.gguf", tmp_path)
    assert drive.name == "B (sdb)"


def test_devices_in_a_circle_end(tmp_path: Path) -> None:
    first = mapped(tmp_path, "dm-0", dev="253:0", below=())
    second = mapped(tmp_path, "dm-1", dev="253:1", below=(first,))
    (first / "slaves/dm-1").symlink_to(second)
    mountinfo(tmp_path, "253:0 / / ext4 /dev/mapper/x rw")
    drive, _ = look_at_drive(MODELS, tmp_path)
    assert drive.name == "ext4 (its drive is not known)"


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    device = mapped(tmp_path, "dm-0", dev="253:0", below=())
    (device / "slaves/loop").symlink_to(device / "slaves/loop")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    mountinfo(tmp_path, "253:0 / / ext4 /dev/mapper/x rw")
    drive, _ = look_at_drive(tmp_path / "circle/model.gguf", tmp_path)
    assert drive.name == "ext4 (its drive is not known)"


@pytest.mark.parametrize("text", ["", "2", "yes", "\x00", "0" * 10_000])
def test_garbage_in_sys_is_not_known(tmp_path: Path, text: str) -> None:
    folder = disk(tmp_path, "sda", dev="8:0", spins=text)
    write(folder / "device/model", "x" * 100_000)
    mountinfo(tmp_path, "8:0 / / ext4 /dev/sda rw")
    drive, _ = look_at_drive(MODELS, tmp_path)
    assert drive.rotational is None
    assert len(drive.name) < 300


def test_a_model_may_be_no_text(tmp_path: Path) -> None:
    folder = disk(tmp_path, "sda", dev="8:0", model="A")
    (folder / "device/model").write_bytes(b"\xff\xfeSSD\n\n\tX")
    mountinfo(tmp_path, "8:0 / / ext4 /dev/sda rw")
    drive, _ = look_at_drive(MODELS, tmp_path)
    assert "\n" not in drive.name and "SSD X (sda)" in drive.name


class Partition(NamedTuple):
    device: str
    mountpoint: str
    fstype: str


def test_elsewhere_psutil_says_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [Partition("/dev/disk3s1", "/", "apfs"), Partition("/dev/x", "/none", "y")]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: parts)
    drive, notes = look_at_drive(MODELS, tmp_path)  # no /proc there
    assert (drive.name, drive.file_system) == ("/dev/disk3s1", "apfs")
    assert drive.rotational is None and "not known" in notes[0]


def test_not_even_psutil_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: [])
    drive, _ = look_at_drive(MODELS, tmp_path)
    assert (drive.name, drive.file_system) == ("unknown", None)


def test_this_computer_s_drive_has_room() -> None:
    drive, _ = look_at_drive(Path())
    assert drive.name and drive.file_system
    assert drive.free_bytes == pytest.approx(psutil.disk_usage(".").free, rel=0.05)
