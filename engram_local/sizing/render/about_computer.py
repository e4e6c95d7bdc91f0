"""What a report says about the computer: sizes and rates, each with its source."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from engram_local.figures import Figure, Source
from engram_local.hardware import Compute, Cpu, Drive, Gpu, Hardware, Ram
from engram_local.sizing.render.document import (
    Column,
    Section,
    Sentence,
    Table,
    Topic,
    Value,
)
from engram_local.sizing.render.numbers import UNKNOWN, bandwidth, number, operations
from engram_local.units import format_bytes, format_count

_UNKNOWN = Value(UNKNOWN, Source.UNKNOWN)

Row = tuple[Value, ...]
Form = Callable[[float], str]


def computer_section(hardware: Hardware) -> Section:
    """Return all that is known about the computer, and what is not."""
    rows = [
        _row("system", Value(hardware.system)),
        *_processor(hardware.cpu),
        *_ram(hardware.ram),
        *(row for gpu in hardware.gpus for row in _gpu(gpu)),
        *([] if hardware.gpus else [_row("GPU", Value("none"))]),
        *_drive(hardware.drive),
    ]
    columns = (Column("part", is_number=False), Column("value", is_number=False))
    notes = (Sentence(note) for note in hardware.notes)
    return Section(
        topic=Topic.COMPUTER,
        blocks=(Table(columns=columns, rows=tuple(rows)), *notes),
    )


def computer_name(hardware: Hardware) -> str:
    """Return what decides most, in a few words: "RTX 4090 24 GiB, 64 GiB RAM"."""
    gpus = [f"{gpu.name} {_short_bytes(gpu.vram_bytes)}" for gpu in hardware.gpus]
    ram = f"{_short_bytes(hardware.ram.total_bytes)} RAM"
    return ", ".join([*(gpus or [hardware.cpu.name]), ram])


def _short_bytes(n_bytes: int) -> str:
    return format_bytes(n_bytes).replace(".0 ", " ")


def _row(name: str, value: Value) -> Row:
    return (Value(name), value)


def _rate(name: str, figure: Figure | None, form: Form) -> Row:
    if figure is None:
        return _row(name, _UNKNOWN)
    return _row(name, Value(form(figure.value), figure.source))


def _known_rate(name: str, figure: Figure | None, form: Form) -> Iterator[Row]:
    """Only `probe` finds these: without it they are no gap in the report."""
    if figure is not None:
        yield _rate(name, figure, form)


def _processor(cpu: Cpu) -> Iterator[Row]:
    cores = f"{format_count(cpu.n_cores)} cores"
    yield _row("processor", Value(f"{cpu.name}, {cores}", cpu.source))
    yield from _compute(cpu.compute)


def _compute(compute: Compute) -> Iterator[Row]:
    for rate in compute.types:
        yield _rate(f"- weights read, {rate.name}", rate.weight_bytes_per_s, bandwidth)
        yield _rate(f"- matrix products, {rate.name}", rate.flops_per_s, operations)
    if not compute.types:
        yield from _known_rate("- weights read", compute.weight_bytes_per_s, bandwidth)
        yield from _known_rate("- matrix products", compute.flops_per_s, operations)
    yield from _known_rate("- fixed cost of a layer", compute.layer_s, _ms)
    for name, figure in (
        ("- attention, answer", compute.attention_flops_per_s),
        ("- attention, prompt", compute.prompt_attention_flops_per_s),
    ):
        yield from _known_rate(name, figure, operations)


def _per_s(rate: float) -> str:
    return f"{number(rate)}/s"


def _ms(seconds: float) -> str:
    return f"{number(seconds * 1e3)} ms"


def _ram(ram: Ram) -> Iterator[Row]:
    total, free = format_bytes(ram.total_bytes), format_bytes(ram.available_bytes)
    yield _row("RAM", Value(f"{total}, {free} available", ram.source))
    yield _rate("- bandwidth", ram.bytes_per_s, bandwidth)
    yield from _known_rate("- random rows, one thread", ram.rows_per_s, _per_s)


def _gpu(gpu: Gpu) -> Iterator[Row]:
    total, free = format_bytes(gpu.vram_bytes), format_bytes(gpu.free_bytes)
    shared = ", shared with RAM" if gpu.unified else ""
    yield _row("GPU", Value(gpu.name))
    yield _row("- VRAM", Value(f"{total}, {free} free{shared}", gpu.source))
    yield _rate("- bandwidth", gpu.bytes_per_s, bandwidth)
    yield _rate("- copies from RAM", gpu.host_bytes_per_s, bandwidth)
    yield from _compute(gpu.compute)


def _drive(drive: Drive) -> Iterator[Row]:
    kind = {True: "rotating", False: None, None: None}[drive.rotational]
    words = [word for word in (drive.name, drive.file_system, kind) if word]
    yield _row("drive", Value(", ".join(words)) if words else _UNKNOWN)
    yield _row("- free", _free(drive))
    for rate in drive.reads:
        yield _rate(_reads_name(rate.depth), rate.reads_per_s, _per_s)
    if not drive.reads:
        yield _row("- random reads", _UNKNOWN)
    yield from _known_rate("- sequential reads", drive.bytes_per_s, bandwidth)


def _reads_name(depth: int) -> str:
    return f"- random reads, {depth} at once"


def _free(drive: Drive) -> Value:
    if drive.free_bytes is None:
        return _UNKNOWN
    return Value(format_bytes(drive.free_bytes), Source.MEASURED)
