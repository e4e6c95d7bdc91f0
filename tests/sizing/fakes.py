"""A fake /proc and /sys, as Linux would have them."""

from __future__ import annotations

from pathlib import Path


def write(path: Path, text: str) -> Path:
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def mountinfo(root: Path, *lines: str) -> None:
    """Each line: device, root, mount point, file system, source, options."""
    full = []
    for number, line in enumerate(lines):
        device, top, point, kind, source, options = line.split(" ")
        full.append(
            f"{number} 1 {device} {top} {point} rw shared:1 - {kind} {source} {options}"
        )
    write(root / "proc/self/mountinfo", "\n".join(full) + "\n")


def disk(root: Path, name: str, *, dev: str, model: str = "", spins: str = "0") -> Path:
    """Make a whole drive, with its link in /sys/class/block."""
    folder = root / "sys/devices" / name
    write(folder / "dev", dev + "\n")
    write(folder / "queue/rotational", spins + "\n")
    if model:
        write(folder / "device/model", model + "   \n")
    return _linked(root, folder)


def partition(root: Path, drive: Path, name: str, *, dev: str) -> Path:
    """Make a partition of a drive."""
    folder = drive / name
    write(folder / "dev", dev + "\n")
    write(folder / "partition", "1\n")
    return _linked(root, folder)


def mapped(root: Path, name: str, *, dev: str, below: tuple[Path, ...]) -> Path:
    """Make a device of the device mapper or of md, on others."""
    folder = root / "sys/devices/virtual" / name
    write(folder / "dev", dev + "\n")
    (folder / "slaves").mkdir()
    for one in below:
        (folder / "slaves" / one.name).symlink_to(one)
    return _linked(root, folder)


def _linked(root: Path, folder: Path) -> Path:
    link = root / "sys/class/block" / folder.name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(folder)
    return folder
