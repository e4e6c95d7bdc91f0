"""Drives that nobody has measured."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engram_local.figures import Figure, Source
from engram_local.hardware import Drive, Hardware
from engram_local.sizing.assume import assume_drive
from engram_local.sizing.datasheets import find_drive
from tests.sizing.samples import DESKTOP, LAPTOP


def with_drive(name: str, *, rotational: bool | None = False) -> Hardware:
    drive = Drive(
        name=name, file_system="ext4", rotational=rotational, free_bytes=10**9
    )
    return replace(LAPTOP, drive=drive)


def test_a_measured_drive_is_left_alone() -> None:
    assert assume_drive(DESKTOP) is DESKTOP


@pytest.mark.parametrize(
    ("name", "rotational", "kind"),
    [
        ("Samsung SSD 990 PRO 2TB (nvme0n1)", False, "PCIe 3 NVMe"),
        ("nvme1n1", None, "PCIe 3 NVMe"),
        ("CT1000MX500SSD1 (sda)", False, "SATA SSD"),
        ("overlay (a container's)", None, "SATA SSD"),
        ("WDC WD40EFRX (sda)", True, "HDD"),
        ("WDC WD40EFRX (sda) + nvme0n1", True, "HDD"),
    ],
)
def test_another_is_taken_as_its_kind(
    name: str, rotational: bool | None, kind: str
) -> None:
    hardware = with_drive(name, rotational=rotational)
    assumed = assume_drive(hardware)
    sheet = find_drive(kind)
    rates = [(rate.depth, rate.reads_per_s.value) for rate in assumed.drive.reads]
    assert rates == [(rate.depth, rate.reads_per_s.value) for rate in sheet.reads]
    assert {rate.reads_per_s.source for rate in assumed.drive.reads} == {
        Source.ESTIMATED
    }
    assert assumed.drive.bytes_per_s == Figure(sheet.bytes_per_s, Source.ESTIMATED)
    assert (assumed.drive.name, assumed.drive.free_bytes) == (name, 10**9)
    *before, note = assumed.notes
    assert tuple(before) == hardware.notes
    assert f"{name} is taken as a {kind} at its best" in note


def test_a_speed_that_was_given_stays() -> None:
    given = Figure(3e9, Source.GIVEN)
    hardware = with_drive("nvme0n1")
    hardware = replace(hardware, drive=replace(hardware.drive, bytes_per_s=given))
    assert assume_drive(hardware).drive.bytes_per_s == given
    assert assume_drive(hardware).drive.reads != ()


def test_the_slowest_kind_is_never_the_faster() -> None:
    drives = [
        assume_drive(with_drive(name, rotational=spins)).drive
        for name, spins in (("nvme0n1", False), ("sda", False), ("sda", True))
    ]
    best = [max(rate.reads_per_s.value for rate in drive.reads) for drive in drives]
    assert best == sorted(set(best), reverse=True) and len(best) == 3
