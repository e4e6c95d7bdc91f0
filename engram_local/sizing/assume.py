"""What is taken for granted of a drive that nobody has measured or described."""

from __future__ import annotations

from dataclasses import replace

from engram_local.figures import Figure, Source
from engram_local.hardware import DepthRate, Drive, Hardware
from engram_local.sizing.datasheets import find_drive

_NVME, _SSD, _DISK = "PCIe 3 NVMe", "SATA SSD", "HDD"


def assume_drive(hardware: Hardware) -> Hardware:
    """Return the hardware with the rates of a drive of the same kind, if it has none.

    They are marked as estimated, and a note says so.
    """
    drive = hardware.drive
    if drive.reads:
        return hardware
    kind = _kind(drive)
    sheet = find_drive(kind)
    filled = replace(
        drive,
        reads=tuple(map(_estimated, sheet.reads)),
        bytes_per_s=drive.bytes_per_s or Figure(sheet.bytes_per_s, Source.ESTIMATED),
    )
    note = (
        f"drive: {drive.name} is taken as a {kind} at its best; --disk-kind and "
        "--disk-iops describe another"
    )
    return replace(hardware, drive=filled, notes=(*hardware.notes, note))


def _kind(drive: Drive) -> str:
    if drive.rotational:
        return _DISK
    return _NVME if "nvme" in drive.name.lower() else _SSD


def _estimated(rate: DepthRate) -> DepthRate:
    return replace(rate, reads_per_s=Figure(rate.reads_per_s.value, Source.ESTIMATED))
