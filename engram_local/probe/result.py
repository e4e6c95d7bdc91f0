"""What a probe found, and a computer with these numbers filled in."""

from __future__ import annotations

from dataclasses import dataclass, replace

from engram_local.figures import Figure, Source
from engram_local.hardware import Compute, Cpu, Drive, Gpu, Hardware, Ram
from engram_local.probe.drive_speed import DriveSpeed
from engram_local.probe.memory_speed import MemorySpeed

TYPICAL_ROW_BYTES = 256
"""Of the rows that `Ram.rows_per_s` counts; of 64 bytes 1.2 times as many are read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a probe is true of: another processor or drive needs another one."""

    cpu: str
    ram_gib: int
    gpus: tuple[str, ...]
    device: str
    """That holds the model: "/dev/nvme0n1p2"."""

    file_system: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One measurement of one computer. None = was not measured; `notes` say why."""

    identity: Identity
    date: str
    """When it was measured, in ISO's format."""

    packages: dict[str, str]
    """Versions by name: another llama.cpp has other speeds."""

    n_threads: int
    quick: bool
    memory: MemorySpeed | None = None
    drive: DriveSpeed | None = None
    cpu: Compute | None = None
    gpu: Compute | None = None
    """With all layers on the GPU."""

    host_bytes_per_s: tuple[Figure, ...] = ()
    """Bytes per second from RAM to each GPU, in the order of `identity.gpus`."""

    notes: tuple[str, ...] = ()


def apply_probe(hardware: Hardware, probe: Probe) -> Hardware:
    """Return the computer with what was measured in place of what was known before."""
    return replace(
        hardware,
        cpu=_apply_cpu(hardware.cpu, probe.cpu),
        ram=_apply_ram(hardware.ram, probe.memory),
        gpus=_apply_copies(
            _apply_gpus(hardware.gpus, probe.gpu), probe.host_bytes_per_s
        ),
        drive=_apply_drive(hardware.drive, probe.drive),
    )


def _apply_cpu(cpu: Cpu, compute: Compute | None) -> Cpu:
    return cpu if compute is None else replace(cpu, compute=compute)


def _apply_gpus(gpus: tuple[Gpu, ...], compute: Compute | None) -> tuple[Gpu, ...]:
    """A measurement uses all GPUs at once, so it says something of one alone only."""
    if compute is None or len(gpus) != 1:
        return gpus
    return (replace(gpus[0], compute=compute),)


def _apply_copies(gpus: tuple[Gpu, ...], copies: tuple[Figure, ...]) -> tuple[Gpu, ...]:
    if len(gpus) != len(copies):
        return gpus
    return tuple(
        replace(gpu, host_bytes_per_s=rate)
        for gpu, rate in zip(gpus, copies, strict=True)
    )


def _apply_ram(ram: Ram, memory: MemorySpeed | None) -> Ram:
    if memory is None:
        return ram
    bytes_per_s = max(stream.bytes_per_s for stream in memory.streams)
    rows_per_s = next(
        gather.rows_per_s
        for gather in memory.gathers
        if (gather.n_threads, gather.row_bytes) == (1, TYPICAL_ROW_BYTES)
    )
    return replace(
        ram,
        bytes_per_s=Figure(bytes_per_s, Source.MEASURED),
        rows_per_s=Figure(rows_per_s, Source.MEASURED),
    )


def _apply_drive(drive: Drive, speed: DriveSpeed | None) -> Drive:
    if speed is None:
        return drive
    return replace(drive, reads=speed.reads, bytes_per_s=speed.bytes_per_s)
