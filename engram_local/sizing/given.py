"""Hardware that is described by flags, in place of what this computer has."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from engram_local.errors import UsageError
from engram_local.figures import Figure, Source
from engram_local.hardware import Cpu, DepthRate, Drive, Gpu, Hardware, Ram
from engram_local.sizing.datasheets import GpuSheet, find_drive, find_gpu, find_ram
from engram_local.sizing.machine import CPU, DRIVE, GPU, RAM, gpu_of
from engram_local.units import GIB, MIB, TIB, format_bytes

NO_GPU = "none"
_MAX_GPUS = 16
_MAX_CORES = 1024
_GIVEN_DEPTH = 32
"""Of `--disk-iops`, which says no depth: what drives are advertised with."""

_COUNTED = re.compile(r"(\d{1,2})\s*x\s*(.+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What the flags say; None = as this computer has it."""

    gpus: tuple[str, ...] | None = None
    """Names, "2x RTX 3090" for two; ("none",) = without."""

    vram_bytes: int | None = None
    """Of each GPU."""

    n_cores: int | None = None
    """Of a processor whose speed is not known."""

    ram_bytes: int | None = None
    ram_kind: str | None = None
    ram_bytes_per_s: float | None = None
    disk_kind: str | None = None
    disk_reads_per_s: float | None = None
    """Random 4 KiB reads at the depth that serves the drive best."""

    disk_bytes_per_s: float | None = None
    """Sequential reads."""

    def __post_init__(self) -> None:
        if self.n_cores is not None and not 1 <= self.n_cores <= _MAX_CORES:
            raise UsageError(
                f"--cores is {self.n_cores}, 1 to {_MAX_CORES} are possible"
            )
        _size("--vram", self.vram_bytes, 256 * MIB, 4 * TIB)
        _size("--ram", self.ram_bytes, 256 * MIB, 64 * TIB)
        _rate("--ram-gbps", self.ram_bytes_per_s, 1e9, 1e13, "GB/s", 1e9)
        _rate("--disk-iops", self.disk_reads_per_s, 10, 1e8, "reads per second", 1)
        _rate("--disk-gbps", self.disk_bytes_per_s, 1e7, 1e12, "GB/s", 1e9)


def apply(hardware: Hardware, given: Given) -> Hardware:
    """Return the hardware with what was given in place of what was found.

    Raises UsageError for names that are not known and flags that contradict each other.
    Notes say which parts were described and which are of this computer.
    """
    sheets = _sheets(given)
    ram = _ram(hardware.ram, given, sheets)
    gpus = _gpus(hardware.gpus, given, sheets, ram)
    drive = _drive(hardware.drive, given)
    cpu = _cpu(hardware.cpu, given)
    changed = {
        CPU: cpu != hardware.cpu,
        GPU: gpus != hardware.gpus or given.gpus is not None,
        RAM: ram != hardware.ram,
        DRIVE: drive != hardware.drive,
    }
    notes = _notes(hardware.notes, changed)
    if changed[GPU] or changed[RAM]:  # another computer: its drive is not full yet
        drive = replace(drive, free_bytes=None)
    return replace(hardware, cpu=cpu, ram=ram, gpus=gpus, drive=drive, notes=notes)


def _notes(found: tuple[str, ...], changed: dict[str, bool]) -> tuple[str, ...]:
    """Return the notes without those on parts that are described now."""
    described = [part for part, is_changed in changed.items() if is_changed]
    if not described:
        return found
    own = [part for part in changed if part not in described]
    kept = [note for note in found if note.partition(":")[0] not in described]
    note = f"described: {', '.join(described)}"
    return (*kept, note + (f"; of this computer: {', '.join(own)}" if own else ""))


def _cpu(found: Cpu, given: Given) -> Cpu:
    if given.n_cores is None:
        return found
    return Cpu(name="a processor", n_cores=given.n_cores, source=Source.GIVEN)


def _sheets(given: Given) -> list[GpuSheet] | None:
    """Return the data sheets of the GPUs that were named; None = none was."""
    if given.gpus is None:
        return None
    named = [part for text in given.gpus for part in _counted(text)]
    if NO_GPU in named:
        if len(named) > 1 or given.vram_bytes is not None:
            raise UsageError(
                "--gpu none excludes other GPUs and --vram", hint="leave one out"
            )
        return []
    if len(named) > _MAX_GPUS:
        raise UsageError(f"{len(named)} GPUs were given, {_MAX_GPUS} are possible")
    return [find_gpu(name, given.vram_bytes) for name in named]


def _counted(text: str) -> list[str]:
    """Return "2x RTX 3090" as two names."""
    match = _COUNTED.fullmatch(text.strip())
    if match is None:
        return [NO_GPU if text.strip().lower() == NO_GPU else text.strip()]
    count = int(match[1])
    if not 1 <= count <= _MAX_GPUS:
        raise UsageError(f"--gpu {text!r}: 1 to {_MAX_GPUS} GPUs are possible")
    return [match[2].strip()] * count


def _gpus(
    found: tuple[Gpu, ...], given: Given, sheets: list[GpuSheet] | None, ram: Ram
) -> tuple[Gpu, ...]:
    size = given.vram_bytes
    if sheets is not None:
        return tuple(_named(sheet, size, ram) for sheet in sheets)
    if size is None:
        return found
    if found:
        return tuple(_resized(gpu, size) for gpu in found)
    name = f"a GPU with {format_bytes(size)}"
    gpu = gpu_of(None, name=name, vram_bytes=size, free_bytes=size, unified=False)
    return (replace(gpu, source=Source.GIVEN),)


def _resized(gpu: Gpu, size: int) -> Gpu:
    return replace(gpu, vram_bytes=size, free_bytes=size, source=Source.GIVEN)


def _named(sheet: GpuSheet, vram_bytes: int | None, ram: Ram) -> Gpu:
    own = ram.total_bytes if sheet.unified else sheet.vram_bytes
    size = vram_bytes or own or 0
    if sheet.unified and size > ram.total_bytes:
        raise UsageError(
            f"--vram is {format_bytes(size)}, more than the {sheet.name}'s memory of "
            f"{format_bytes(ram.total_bytes)}",
            hint="give it less, or more with --ram",
        )
    gpu = gpu_of(
        sheet,
        name=sheet.name,
        vram_bytes=size,
        free_bytes=size if vram_bytes else _granted_bytes(sheet, size),
        unified=sheet.unified,
    )
    return replace(gpu, source=Source.GIVEN if vram_bytes else Source.DATASHEET)


def _granted_bytes(sheet: GpuSheet, n_bytes: int) -> int:
    """Return what the system lets a GPU have of its memory; --vram says otherwise.

    macOS two thirds of up to 32 GiB, three quarters of more, unless its setting
    iogpu.wired_limit_mb is raised: 21.3 of 32, 47 to 49 of 64
    (https://github.com/ggml-org/llama.cpp/pull/2011 and .../issues/1870).
    """
    if not sheet.name.startswith("Apple"):
        return n_bytes
    return n_bytes * 2 // 3 if n_bytes <= 32 * GIB else n_bytes * 3 // 4


def _ram(found: Ram, given: Given, sheets: list[GpuSheet] | None) -> Ram:
    """A unified GPU brings its memory along."""
    unified = next((sheet for sheet in sheets or () if sheet.unified), None)
    size = given.ram_bytes or (unified and unified.vram_bytes)
    if unified and not size:
        raise UsageError(
            f"{unified.name} is sold with several sizes of memory",
            hint="say which with --ram 64G",
        )
    ram = found
    if size:
        ram = replace(
            found, total_bytes=size, available_bytes=size, source=Source.GIVEN
        )
    speed = _ram_speed(given, unified)
    # Rows per second were those of other memory.
    return ram if speed is None else replace(ram, bytes_per_s=speed, rows_per_s=None)


def _ram_speed(given: Given, unified: GpuSheet | None) -> Figure | None:
    if given.ram_bytes_per_s is not None:
        return Figure(given.ram_bytes_per_s, Source.GIVEN)
    if given.ram_kind is not None:
        return Figure(find_ram(given.ram_kind).bytes_per_s, Source.DATASHEET)
    return Figure(unified.bytes_per_s, Source.DATASHEET) if unified else None


def _drive(found: Drive, given: Given) -> Drive:
    drive = found if given.disk_kind is None else _of_kind(given.disk_kind)
    if given.disk_reads_per_s is not None:
        rate = Figure(given.disk_reads_per_s, Source.GIVEN)
        reads = (DepthRate(depth=_GIVEN_DEPTH, reads_per_s=rate),)
        drive = replace(drive, reads=reads)
    if given.disk_bytes_per_s is not None:
        speed = Figure(given.disk_bytes_per_s, Source.GIVEN)
        drive = replace(drive, bytes_per_s=speed)
    return drive


def _of_kind(kind: str) -> Drive:
    sheet = find_drive(kind)
    return Drive(
        name=sheet.name,
        file_system=None,
        rotational=sheet.rotational,
        free_bytes=None,
        reads=sheet.reads,
        bytes_per_s=Figure(sheet.bytes_per_s, Source.DATASHEET),
    )


def _size(flag: str, value: int | None, low: int, high: int) -> None:
    if value is not None and not low <= value <= high:
        raise UsageError(
            f"{flag} is {value} bytes, {format_bytes(low)} to {format_bytes(high)} are "
            "possible",
            hint="24G are 24 GiB",
        )


def _rate(
    flag: str, value: float | None, low: float, high: float, unit: str, scale: float
) -> None:
    if value is not None and not low <= value <= high:  # also refuses nan
        raise UsageError(
            f"{flag} is {value / scale:g}, {low / scale:g} to {high / scale:,.0f} "
            f"{unit} are possible"
        )
