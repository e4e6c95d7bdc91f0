"""What this computer has: processor, memory, GPUs, the drive of a path.

Only looks; speeds are measured by `probe`, or come from data sheets.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import psutil

from engram_local.errors import BackboneError
from engram_local.figures import Figure, Source
from engram_local.hardware import Compute, Cpu, Gpu, Hardware, Ram
from engram_local.llama.devices import Device, Kind, gpus
from engram_local.llama.nvml import cards
from engram_local.settings import default_threads
from engram_local.sizing.cgroup import memory_limit
from engram_local.sizing.datasheets import GpuSheet, match_gpu
from engram_local.sizing.drive import look_at_drive
from engram_local.system import cpu_name, system_name
from engram_local.units import format_bytes

CPU, GPU, RAM, DRIVE = "processor", "GPU", "RAM", "drive"
"""The parts that notes are about, which begin with one of them and a colon."""


def look(path: Path | None = None) -> Hardware:
    """Return what this computer has, and in `notes` what could not be found out.

    path: where the model lies or will lie; default: the current folder. Loads
    llama.cpp's libraries, 0.1 s. Raises nothing for hardware that does not tell.
    """
    found, gpu_notes = _gpus()
    ram, ram_notes = look_at_ram()
    drive, drive_notes = look_at_drive(path or Path())
    return Hardware(
        cpu=Cpu(name=cpu_name(), n_cores=default_threads()),
        ram=ram,
        gpus=found,
        drive=drive,
        system=system_name(),
        notes=(
            *_on(GPU, gpu_notes),
            *_on(RAM, ram_notes),
            *_on(DRIVE, drive_notes),
        ),
    )


def _on(part: str, sentences: list[str]) -> list[str]:
    return [f"{part}: {sentence}" for sentence in sentences]


def look_at_ram() -> tuple[Ram, list[str]]:
    """Return what RAM there is now, and notes; its speed is not known by looking."""
    memory = psutil.virtual_memory()
    limit = memory_limit()
    if limit is None or limit.limit_bytes >= memory.total:
        return Ram(total_bytes=memory.total, available_bytes=memory.available), []
    ram = Ram(
        total_bytes=limit.limit_bytes,
        available_bytes=min(memory.available, limit.free_bytes),
    )
    note = (
        f"limited to {format_bytes(limit.limit_bytes)} of "
        f"{format_bytes(memory.total)} by a cgroup"
    )
    return ram, [note]


def _gpus() -> tuple[tuple[Gpu, ...], list[str]]:
    try:
        devices = gpus()
    except BackboneError as error:
        return (), [f"not known: {error}"]
    silent = [device for device in devices if not device.total_bytes]
    notes = [f"{device.description} does not tell its memory" for device in silent]
    found = tuple(_gpu(device) for device in devices if device.total_bytes)
    return found, notes + _driver_notes(n_gpus=len(devices))


def _gpu(device: Device) -> Gpu:
    sheet = match_gpu(device.description, device.total_bytes)
    return gpu_of(
        sheet,
        name=device.description or device.name,
        vram_bytes=device.total_bytes,
        free_bytes=device.free_bytes,
        unified=device.kind is Kind.INTEGRATED or bool(sheet and sheet.unified),
    )


def gpu_of(
    sheet: GpuSheet | None,
    *,
    name: str,
    vram_bytes: int,
    free_bytes: int,
    unified: bool,
) -> Gpu:
    """Return a GPU with the speeds of its data sheet, or with none."""
    gpu = Gpu(name=name, vram_bytes=vram_bytes, free_bytes=free_bytes, unified=unified)
    if sheet is None:
        return gpu
    return replace(
        gpu,
        bytes_per_s=_specified(sheet.bytes_per_s),
        host_bytes_per_s=_specified(sheet.host_bytes_per_s),
        compute=Compute(flops_per_s=_specified(sheet.flops_per_s)),
    )


def _specified(value: float | None) -> Figure | None:
    return None if value is None else Figure(value, Source.DATASHEET)


def _driver_notes(n_gpus: int) -> list[str]:
    """Return the NVIDIA driver's version, or the cards that are not used."""
    found = cards()
    if found is None or not found.names:
        return []
    if n_gpus:
        return [f"NVIDIA driver {found.driver}"]
    names = ", ".join(found.names)
    return [f"not used: {names}; llama-cpp-python was built without GPU support"]
