"""What a probe has measured of the drive that holds a file; measures nothing itself."""

from __future__ import annotations

from pathlib import Path


def measured_reads_per_s(path: Path, in_flight: float) -> float | None:
    """Return the drive's random reads of 4 KiB per second with so many on their way.

    None if no probe has measured this drive. For a thread of its own: what is imported
    here takes half a second.
    """
    from engram_local.hardware import Drive
    from engram_local.probe.store import find_with_drive, here
    from engram_local.sizing.tiers import reads_per_s

    probe = find_with_drive(here(path))
    if probe is None or probe.drive is None:
        return None
    drive = Drive(
        name=probe.identity.device,
        file_system=probe.identity.file_system,
        rotational=None,
        free_bytes=None,
        reads=probe.drive.reads,
    )
    figure = reads_per_s(drive, in_flight)
    return None if figure is None else figure.value
