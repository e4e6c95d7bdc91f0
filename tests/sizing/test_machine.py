"""Looking at a computer: with fake GPUs and limits, and at this one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from engram_local.errors import BackboneError
from engram_local.figures import Source
from engram_local.llama.devices import Device, Kind
from engram_local.llama.nvml import Cards
from engram_local.sizing import machine
from engram_local.sizing.cgroup import MemoryLimit
from engram_local.units import GIB


def card(description: str, gib: int, kind: Kind = Kind.GPU) -> Device:
    return Device(
        name="CUDA0",
        description=description,
        total_bytes=gib * GIB,
        free_bytes=gib * GIB // 2,
        kind=kind,
    )


def with_gpus(monkeypatch: pytest.MonkeyPatch, *devices: Device) -> None:
    monkeypatch.setattr(machine, "gpus", lambda: devices)
    monkeypatch.setattr(machine, "cards", lambda: None)


def test_this_computer() -> None:
    hardware = machine.look()
    assert hardware.cpu.name and hardware.cpu.n_cores >= 1
    assert 0 < hardware.ram.available_bytes <= hardware.ram.total_bytes
    assert hardware.ram.total_bytes <= psutil.virtual_memory().total
    assert hardware.drive.name and hardware.system


def test_nothing_is_measured_or_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus(monkeypatch, card("Unheard Of", 8))
    hardware = machine.look()
    assert hardware.ram.bytes_per_s is hardware.ram.rows_per_s is None
    assert hardware.drive.reads == () and hardware.drive.bytes_per_s is None
    (gpu,) = hardware.gpus
    assert gpu.bytes_per_s is gpu.host_bytes_per_s is gpu.compute.flops_per_s is None


def test_a_known_gpu_has_the_speeds_of_its_sheet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_gpus(monkeypatch, card("NVIDIA GeForce RTX 3090", 24))
    (gpu,) = machine.look().gpus
    assert gpu.name == "NVIDIA GeForce RTX 3090"
    assert (gpu.vram_bytes, gpu.free_bytes) == (24 * GIB, 12 * GIB)
    assert gpu.bytes_per_s is not None and gpu.compute.flops_per_s is not None
    assert gpu.bytes_per_s.value == 936e9
    assert gpu.compute.flops_per_s.value == 71e12
    assert gpu.bytes_per_s.source is Source.DATASHEET
    assert not gpu.unified


@pytest.mark.parametrize(
    ("device", "unified"),
    [
        (card("AMD Radeon Graphics", 16, Kind.INTEGRATED), True),
        (card("Apple M2", 16), True),  # Metal calls it a GPU
        (card("AMD Radeon RX 9070 XT", 16), False),
    ],
)
def test_a_gpu_without_memory_of_its_own_is_unified(
    monkeypatch: pytest.MonkeyPatch, device: Device, unified: bool
) -> None:
    with_gpus(monkeypatch, device)
    assert machine.look().gpus[0].unified is unified


def test_a_gpu_that_does_not_tell_its_memory_is_noted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_gpus(monkeypatch, card("Silent", 0), card("NVIDIA L4", 24))
    hardware = machine.look()
    assert [gpu.name for gpu in hardware.gpus] == ["NVIDIA L4"]
    assert "GPU: Silent does not tell its memory" in hardware.notes


def test_cards_that_llama_cpp_cannot_use_are_noted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_gpus(monkeypatch)
    found = Cards(driver="570.1", names=("NVIDIA GeForce RTX 4090",))
    monkeypatch.setattr(machine, "cards", lambda: found)
    hardware = machine.look()
    assert hardware.gpus == ()
    assert any("not used: NVIDIA GeForce RTX 4090" in note for note in hardware.notes)


def test_the_driver_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus(monkeypatch, card("NVIDIA L4", 24))
    found = Cards(driver="570.1", names=("NVIDIA L4",))
    monkeypatch.setattr(machine, "cards", lambda: found)
    assert "GPU: NVIDIA driver 570.1" in machine.look().notes


def test_a_broken_llama_cpp_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> tuple[Device, ...]:
        raise BackboneError("no library")

    monkeypatch.setattr(machine, "gpus", fail)
    hardware = machine.look()
    assert hardware.gpus == ()
    assert "GPU: not known: no library" in hardware.notes


def test_without_llama_cpp_there_is_still_a_computer() -> None:
    code = (
        "import sys; sys.modules['llama_cpp'] = None\n"
        "from engram_local.sizing.machine import look\n"
        "print(look().notes[0])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.startswith("GPU: not known: llama-cpp-python cannot be loaded")


def test_a_cgroup_s_limit_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = MemoryLimit(limit_bytes=GIB, free_bytes=GIB // 8)
    monkeypatch.setattr(machine, "memory_limit", lambda: limit)
    hardware = machine.look()
    assert hardware.ram.total_bytes == GIB
    assert hardware.ram.available_bytes == GIB // 8
    assert any(note.startswith("RAM: limited to 1.0 GiB") for note in hardware.notes)


def test_a_limit_above_the_memory_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    total = psutil.virtual_memory().total
    limit = MemoryLimit(limit_bytes=2**63, free_bytes=0)
    monkeypatch.setattr(machine, "memory_limit", lambda: limit)
    hardware = machine.look()
    assert hardware.ram.total_bytes == total
    assert hardware.ram.available_bytes > 0


def test_the_drive_is_that_of_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    real = machine.look_at_drive
    monkeypatch.setattr(
        machine, "look_at_drive", lambda path: asked.append(path) or real(path)
    )
    machine.look(tmp_path / "model.gguf")
    machine.look()
    assert asked == [tmp_path / "model.gguf", Path()]
