"""The drive that holds a path: its model, whether it spins, its file system.

Linux tells through /sys/class/block; of other systems only what psutil knows.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path, PurePosixPath

import psutil

from engram_local.hardware import Drive
from engram_local.sizing.mounts import Mount, mount_of, mounts
from engram_local.system import partition_of

_IN_RAM = frozenset({"tmpfs", "ramfs"})
_VIRTUAL = ("vd", "xvd")
_VIRTUAL_MODELS = ("QEMU", "VBOX", "VMware", "Virtual", "Msft")


def look_at_drive(path: Path, root: Path = Path("/")) -> tuple[Drive, list[str]]:
    """Return the drive that holds `path`, and sentences about what could not be seen.

    path: may not exist yet; then its nearest folder that does. root: the folder that
    holds proc/ and sys/.
    """
    place = _existing(path)
    free = _free_bytes(place)
    mount = mount_of(PurePosixPath(place.as_posix()), mounts(root))
    if mount is None:
        return _elsewhere(place, free)
    disks = _disks(mount, root / "sys/class/block")
    if not disks:
        drive = _drive(f"{mount.file_system} ({_kind(mount)})", mount, None, free)
        return drive, [f"what lies behind {mount.file_system} cannot be seen from here"]
    spins = [_rotational(disk) for disk in disks]
    drive = _drive(" + ".join(map(_name, disks)), mount, _any(spins), free)
    silent = f"{drive.name} does not tell whether it spins"
    return drive, [silent] if drive.rotational is None else []


def _existing(path: Path) -> Path:
    place = path
    # The current folder may be gone, links may lead in a circle, a name may have NUL.
    with suppress(OSError, RuntimeError, ValueError):
        place = path.absolute()
        place = place.resolve()
    # Not Path.exists, which fails where a folder may not be entered.
    return next((one for one in (place, *place.parents) if os.path.exists(one)), place)


def _free_bytes(place: Path) -> int | None:
    with suppress(OSError, ValueError):
        return int(psutil.disk_usage(str(place)).free)
    return None


def _drive(
    name: str, mount: Mount, rotational: bool | None, free_bytes: int | None
) -> Drive:
    return Drive(
        name=name,
        file_system=mount.file_system,
        rotational=rotational,
        free_bytes=free_bytes,
    )


def _elsewhere(place: Path, free: int | None) -> tuple[Drive, list[str]]:
    """macOS and Windows."""
    partition = partition_of(place)
    drive = Drive(
        name=(partition and partition.device) or "unknown",
        file_system=(partition and partition.fstype) or None,
        rotational=None,
        free_bytes=free,
    )
    return drive, ["its model and kind are not known: they are looked up on Linux only"]


def _kind(mount: Mount) -> str:
    """Return what a file system without a block device is."""
    if mount.file_system in _IN_RAM:
        return "in RAM"
    if mount.file_system == "overlay":
        return "a container's"
    remote = ":" in mount.source or mount.source.startswith("//")
    return "over the network" if remote else "its drive is not known"


def _disks(mount: Mount, blocks: Path) -> list[Path]:
    """Return the folders in /sys of the whole drives below a mount."""
    block = _block(mount, blocks)
    return sorted(_leaves(block, set())) if block else []


def _block(mount: Mount, blocks: Path) -> Path | None:
    """Return the block device of a mount, by number or by the name of its source.

    btrfs has numbers of its own, and only its source leads to the device.
    """
    with suppress(OSError):
        folders = sorted(blocks.iterdir())
        if not mount.device.startswith("0:"):
            return next((f for f in folders if _text(f / "dev") == mount.device), None)
        names = {Path(mount.source).name, _mapped(mount.source)}
        found = (folder for folder in folders if folder.name in names)
        return next(found, None) if mount.source.startswith("/dev/") else None
    return None


def _mapped(source: str) -> str:
    """Return where /dev/mapper/NAME leads: "dm-0"."""
    with suppress(OSError, RuntimeError):
        return Path(source).resolve().name
    return ""


def _leaves(block: Path, seen: set[Path]) -> list[Path]:
    """Return the drives that partitions, LVM, RAID and encryption lie on, each once."""
    with suppress(OSError, RuntimeError):
        folder = block.resolve(strict=True)
        if folder in seen:
            return []
        seen.add(folder)
        if (folder / "partition").exists():
            return _leaves(folder.parent, seen)
        below = sorted((folder / "slaves").glob("*"))
        if not below:
            return [folder]
        return [leaf for one in below for leaf in _leaves(one, seen)]
    return []


def _name(disk: Path) -> str:
    """Return "Samsung SSD 990 PRO 2TB (nvme0n1)", or the device's name alone."""
    model = _text(disk / "device/model")
    return f"{model} ({disk.name})" if model else disk.name


def _rotational(disk: Path) -> bool | None:
    model = _text(disk / "device/model")
    if disk.name.startswith(_VIRTUAL) or model.startswith(_VIRTUAL_MODELS):
        return None  # virtio says 1 whatever the host has
    return {"0": False, "1": True}.get(_text(disk / "queue/rotational"))


def _any(spins: list[bool | None]) -> bool | None:
    if True in spins:
        return True
    return None if None in spins else False


def _text(path: Path) -> str:
    """Return a short file's text; empty where there is none."""
    with suppress(OSError), path.open("rb") as file:
        return " ".join(file.read(256).decode("utf-8", "replace").split())
    return ""
