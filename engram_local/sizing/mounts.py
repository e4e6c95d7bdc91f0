"""What Linux has mounted: /proc/self/mountinfo."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One line of mountinfo."""

    device: str
    """Major and minor number: "259:2"; 0 as major is no block device."""

    root: PurePosixPath
    """The part of the file system that is mounted."""

    point: PurePosixPath
    file_system: str
    source: str
    """Of any form: "/dev/sda1", "server:/path", "overlay"."""

    options: frozenset[str]
    """Of the file system, not of the mount."""


def mounts(root: Path = Path("/")) -> tuple[Mount, ...]:
    """Return all mounts, later ones over earlier ones; none where there is no /proc.

    root: the folder that holds proc/. Lines that make no sense are left out.
    """
    with suppress(OSError):
        text = (root / "proc/self/mountinfo").read_text("utf-8", "replace")
        found = (_mount(line) for line in text.splitlines())
        return tuple(mount for mount in found if mount is not None)
    return ()


def mount_of(path: PurePosixPath, mounted: tuple[Mount, ...]) -> Mount | None:
    """Return the mount that holds a path, which must be absolute and without links."""
    holding = [mount for mount in mounted if path.is_relative_to(mount.point)]
    # max keeps the first of equals, and the last is the one that is seen.
    return max(
        reversed(holding), key=lambda mount: len(mount.point.parts), default=None
    )


def _mount(line: str) -> Mount | None:
    """Fields 3 to 5, and those behind a dash: proc_pid_mountinfo(5)."""
    before, _, after = line.partition(" - ")
    fields, details = before.split(" "), after.split(" ")
    if len(fields) < 6 or len(details) < 3 or not fields[4].startswith("/"):
        return None
    return Mount(
        device=fields[2],
        root=PurePosixPath(_plain(fields[3])),
        point=PurePosixPath(_plain(fields[4])),
        file_system=details[0],
        source=_plain(details[1]),
        options=frozenset(details[2].split(",")),
    )


def _plain(text: str) -> str:
    r"""Undo the kernel's escapes: a space is \040."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
