"""This computer with what was measured of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engram_local import known_hardware
from engram_local.errors import BenchError
from engram_local.hardware import Hardware
from engram_local.known_hardware import measured_from_outside, measured_hardware
from engram_local.probe import store
from engram_local.probe.result import Identity
from engram_local.sizing import machine
from tests.probe.fakes import COMPUTE, IDENTITY, PROBE
from tests.sizing.samples import DESKTOP, UNKNOWN_DRIVE


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


def test_another_process_finds_the_same() -> None:
    assert measured_from_outside(Path()).cpu == measured_hardware(Path()).cpu


def test_a_process_that_fails_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_hardware.sys, "executable", "/bin/false")
    with pytest.raises(BenchError, match="could not be looked at"):
        measured_from_outside(Path())
