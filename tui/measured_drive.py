"""What a probe has measured of the drive that holds a file; measures nothing itself."""

from __future__ import annotations

from pathlib import Path

from engram_local.hardware import Drive
from engram_local.probe.store import find_with_drive, here


def measured_drive(path: Path) -> Drive | None:
    """Return the drive with its measured reads; None if it was never measured.

    For a thread of its own: the imports above take half a second.
    """
    identity = here(path)
    probe = find_with_drive(identity)
    if probe is None or probe.drive is None:
        return None
    return Drive(
        name=identity.device,
        file_system=identity.file_system,
        rotational=None,
        free_bytes=None,
        reads=probe.drive.reads,
        bytes_per_s=probe.drive.bytes_per_s,
    )
