"""Reading a drive: what is read, what is refused, and that nothing is left."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest

from engram_local.errors import (
    BenchError,
    DirectReadError,
    FileError,
    FitError,
)
from engram_local.probe import drive_speed
from engram_local.probe.drive_speed import (
    BLOCK_BYTES,
    DEPTHS,
    check_file_system,
    drive_of,
    measure_drive,
)
from engram_local.units import MIB

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="O_DIRECT is Linux's")

Mount = namedtuple("Mount", "device mountpoint fstype")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of 8 MiB; the file system of the tests may be any."""
    monkeypatch.setattr(drive_speed, "FILE_BYTES", 8 * MIB)
    monkeypatch.setattr(drive_speed, "LEAST_BYTES", 4 * MIB)
    monkeypatch.setattr(drive_speed, "_PIECE_BYTES", MIB)
    monkeypatch.setattr(drive_speed, "check_file_system", lambda path: None)
    monkeypatch.setattr(drive_speed, "_check_passed_by", lambda before, after: None)


@pytest.fixture
def not_direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave O_DIRECT out: the tests' folder may be in RAM."""
    monkeypatch.setattr(drive_speed, "_set_direct", lambda descriptor, folder: None)
    monkeypatch.setattr(os, "O_DIRECT", 0)


@pytest.mark.usefixtures("small", "not_direct")
def test_a_made_file_is_read_at_every_depth_and_gone(tmp_path: Path) -> None:
    parts: list[float] = []
    speed = measure_drive(
        tmp_path,
        n_rounds=2,
        run_s=0.005,
        progress=lambda what, part: parts.append(part),
    )
    assert tuple(rate.depth for rate in speed.reads) == DEPTHS
    assert all(rate.reads_per_s.value > 0 for rate in speed.reads)
    assert all((rate.latency_s or 0) > 0 for rate in speed.reads)
    assert speed.bytes_per_s.value > 0
    assert speed.file_bytes == 8 * MIB
    assert min(parts) == 0 and max(parts) < 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("small", "not_direct")
def test_the_file_has_no_name_and_is_gone_after_an_interruption(tmp_path: Path) -> None:
    def interrupt(what: str, part: float) -> None:
        if what == "reading the drive":
            assert list(tmp_path.iterdir()) == []
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_drive(tmp_path, progress=interrupt)
    assert list(tmp_path.iterdir()) == []
    assert not any(
        str(tmp_path) in os.readlink(link)
        for link in Path("/proc/self/fd").iterdir()
        if link.is_symlink()
    )


@pytest.mark.usefixtures("small", "not_direct")
def test_a_given_file_is_read_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "given"
    path.write_bytes(np.random.default_rng(0).bytes(4 * MIB))
    speed = measure_drive(tmp_path, file=path, n_rounds=1, run_s=0.005)
    assert speed.file_bytes == 4 * MIB
    assert path.stat().st_size == 4 * MIB


@pytest.mark.usefixtures("small", "not_direct")
def test_a_file_with_holes_a_short_and_a_missing_one_are_refused(
    tmp_path: Path,
) -> None:
    path = tmp_path / "file"
    with pytest.raises(FileError, match="cannot be read"):
        measure_drive(tmp_path, file=path)
    path.write_bytes(b"short")
    with pytest.raises(FileError, match=r"at least 4\.0 MiB"):
        measure_drive(tmp_path, file=path)
    os.truncate(path, 8 * MIB)
    with pytest.raises(FileError, match="holes"):
        measure_drive(tmp_path, file=path)


@pytest.mark.usefixtures("small", "not_direct")
def test_a_folder_without_space_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "free")(7 * MIB)
    monkeypatch.setattr(drive_speed.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(FitError, match=r"8\.0 MiB are needed"):
        measure_drive(tmp_path)


@pytest.mark.usefixtures("small", "not_direct")
def test_a_drive_that_becomes_full_ends_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, piece: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(FileError, match="No space left") as caught:
        measure_drive(tmp_path)
    assert caught.value.hint is not None
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("small")
def test_a_file_system_without_direct_reads_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    def refuse(*_: object) -> int:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    with pytest.raises(DirectReadError, match="no O_DIRECT"):
        measure_drive(tmp_path)


def test_the_innermost_newest_mount_holds_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = tmp_path / "inner"
    mounts = [
        Mount("/dev/a", "/", "ext4"),
        Mount("below", str(inner), "ext4"),
        Mount("top", str(inner), "tmpfs"),
        Mount("other", str(tmp_path / "in"), "xfs"),
    ]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: mounts)
    assert drive_of(inner / "file") == ("top", "tmpfs")
    assert drive_of(tmp_path) == ("/dev/a", "ext4")
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: [])
    assert drive_of(tmp_path) == ("unknown", "unknown")


@pytest.mark.parametrize(
    ("kind", "reason"), [("tmpfs", "lies in RAM"), ("zfs", "a cache of its own")]
)
def test_what_is_read_from_memory_is_no_drive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, reason: str
) -> None:
    monkeypatch.setattr(drive_speed, "drive_of", lambda path: ("none", kind))
    with pytest.raises(DirectReadError, match=reason):
        check_file_system(tmp_path)
    monkeypatch.setattr(drive_speed, "drive_of", lambda path: ("/dev/a", "ext4"))
    check_file_system(tmp_path)


def test_reads_that_fill_the_page_cache_are_no_drive() -> None:
    drive_speed._check_passed_by(None, 100 * MIB)
    drive_speed._check_passed_by(100 * MIB, 101 * MIB)
    with pytest.raises(DirectReadError, match="through the page cache"):
        drive_speed._check_passed_by(0, 100 * MIB)


def test_a_block_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "short"
    path.write_bytes(bytes(10 * BLOCK_BYTES))
    with open(path, "rb") as file, ThreadPoolExecutor(4) as pool:
        drive = drive_speed._Drive(file.fileno(), pool, 60.0)
        run = drive._read(np.arange(10), BLOCK_BYTES, 4)  # ends when all are read
        assert run.reads_per_s > 0
        with pytest.raises(BenchError, match="2 blocks"):
            drive._read(np.arange(12), BLOCK_BYTES, 4)


def test_a_killed_process_leaves_nothing(tmp_path: Path) -> None:
    """Not even the signal that nobody can catch."""
    program = f"""
import os, signal
from pathlib import Path
from engram_local.probe import drive_speed
drive_speed.check_file_system = lambda path: None
def kill(what, part):
    if part > 0:
        os.kill(os.getpid(), signal.SIGKILL)
drive_speed.measure_drive(Path({str(tmp_path)!r}), progress=kill)
"""
    done = subprocess.run([sys.executable, "-c", program], check=False)
    assert done.returncode == -9
    assert list(tmp_path.iterdir()) == []
