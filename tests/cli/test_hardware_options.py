"""Flags that describe a computer."""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from engram_local.cli.hardware_options import (
    add_hardware_arguments,
    given_of,
    measured_hardware,
)
from engram_local.errors import UsageError
from engram_local.hardware import Hardware
from engram_local.probe import store
from engram_local.probe.result import Identity
from engram_local.sizing import machine
from engram_local.sizing.given import Given
from engram_local.units import GIB
from tests.probe.fakes import COMPUTE, IDENTITY, PROBE
from tests.sizing.samples import DESKTOP, UNKNOWN_DRIVE


def given(*words: str) -> Given:
    parser = argparse.ArgumentParser()
    add_hardware_arguments(parser)
    return given_of(parser.parse_args(words))


def test_without_flags_nothing_is_given() -> None:
    assert given() == Given()


def test_all_flags() -> None:
    words = "--gpu|2x RTX 3090|--gpu|4090|--vram|24G|--ram|64GiB|--ram-kind|DDR5-5600"
    more = "--ram-gbps|80|--disk-kind|HDD|--disk-iops|60000|--disk-gbps|3.5"
    assert given(*words.split("|"), *more.split("|")) == Given(
        gpus=("2x RTX 3090", "4090"),
        vram_bytes=24 * GIB,
        ram_bytes=64 * GIB,
        ram_kind="DDR5-5600",
        ram_bytes_per_s=80e9,
        disk_kind="HDD",
        disk_reads_per_s=60_000,
        disk_bytes_per_s=3.5e9,
    )


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        ("--vram", "much"),
        ("--vram", "-24G"),
        ("--vram", "0"),
        ("--ram", ""),
        ("--ram", "64 apples"),
        ("--ram", "9" * 500),
        ("--ram-gbps", "0"),
        ("--disk-iops", "nan"),
        ("--disk-gbps", "-3"),
    ],
)
def test_what_cannot_be_names_its_flag(flag: str, text: str) -> None:
    with pytest.raises(UsageError, match=f"^{flag}"):
        given(f"{flag}={text}")


def test_declaring_flags_imports_nothing_heavy() -> None:
    code = (
        "import sys, argparse\n"
        "from engram_local.cli.hardware_options import add_hardware_arguments\n"
        "add_hardware_arguments(argparse.ArgumentParser())\n"
        "print([m for m in ('numpy', 'llama_cpp', 'psutil') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture
def computer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hardware:
    """A desktop that nobody has measured, with a probe's cache folder of its own."""
    hardware = replace(DESKTOP, drive=UNKNOWN_DRIVE, notes=("RAM: it is new",))

    def here(path: Path, gpus: tuple[str, ...] = ()) -> Identity:
        return replace(IDENTITY, gpus=gpus, device=f"/dev/{path.name}")

    monkeypatch.setattr(machine, "look", lambda path: hardware)
    monkeypatch.setattr(store, "here", here)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return hardware


def save(device: str, *gpus: str) -> Path:
    identity = replace(IDENTITY, gpus=gpus, device=f"/dev/{device}")
    return store.save_probe(replace(PROBE, identity=identity))


def test_a_computer_without_probe_is_as_it_looks_and_says_so(
    computer: Hardware,
) -> None:
    hardware = measured_hardware(Path("x"))
    assert replace(hardware, notes=computer.notes) == computer
    assert "engram-local probe" in hardware.notes[-1]


def test_a_probe_of_the_drive_tells_all(computer: Hardware) -> None:
    save("x", "RTX 4090")
    save("y", "RTX 4090")
    hardware = measured_hardware(Path("x"))
    assert PROBE.drive is not None
    assert hardware.drive.reads == PROBE.drive.reads
    assert hardware.cpu.compute == COMPUTE
    note = "measured by `engram-local probe` on 2026-11-22"
    assert hardware.notes == ("RAM: it is new", note)


def test_a_probe_of_another_drive_tells_the_rest(computer: Hardware) -> None:
    save("y", "RTX 4090")
    hardware = measured_hardware(Path("x"))
    assert hardware.drive == computer.drive
    assert hardware.cpu.compute == COMPUTE
    assert hardware.ram.rows_per_s is not None
    assert "another drive" in hardware.notes[-1]


def test_a_probe_from_before_another_gpu_tells_nothing(computer: Hardware) -> None:
    save("x", "GTX 1080")
    save("y")
    assert measured_hardware(Path("x")).cpu == computer.cpu


def test_an_unfit_probe_is_named_and_another_drives_is_used(
    computer: Hardware,
) -> None:
    save("x", "RTX 4090").write_text("{")
    save("y", "RTX 4090")
    hardware = measured_hardware(Path("x"))
    assert "was ignored: it is no JSON" in hardware.notes[1]
    assert hardware.drive == computer.drive
    assert hardware.cpu.compute == COMPUTE
