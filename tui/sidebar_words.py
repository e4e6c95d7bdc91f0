"""What the sidebar says, as values and sentences; nothing is drawn here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engram_local.events import MemoryPart
from engram_local.units import escape_control, format_bytes, format_count
from engram_local.worker.protocol import GpuUse, MemoryInfo, Status
from tui.state import EngineState

_SHADES = "█▓▒"
_FREE = "·"


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A part of a bar."""

    name: str
    n_bytes: int


def ram_shares(state: EngineState) -> list[Share]:
    """Return what takes the computer's RAM; the rest of it is free."""
    machine, process = state.machine, state.resources
    if machine is None:
        return []
    used = machine.total_bytes - machine.available_bytes
    anon = (process and process.rss_anon_bytes) or 0
    mapped = (process and process.rss_file_bytes) or 0
    return [
        Share(name="engine, own", n_bytes=anon),
        Share(name="engine, files", n_bytes=mapped),
        # Mapped pages count as available: the system can drop them.
        Share(name="other programs", n_bytes=max(0, used - anon)),
    ]


def vram_shares(gpu: GpuUse, parts: Sequence[MemoryPart]) -> list[Share]:
    """Return what takes a GPU's memory: what was planned of ours, and the rest."""
    weights = sum(one.vram_bytes for one in parts if one.name == "weights")
    cache = sum(one.vram_bytes for one in parts if one.name == "KV cache")
    return [
        Share(name="weights", n_bytes=weights),
        Share(name="KV cache", n_bytes=cache),
        Share(name="other", n_bytes=max(0, gpu.used_bytes - weights - cache)),
    ]


def bar(shares: Sequence[Share], total_bytes: int, width: int) -> str:
    """Return a stacked bar; each share has a shade of its own, which needs no colours.

    What is more than nothing takes one cell at least.
    """
    cells = [_cells(share.n_bytes, total_bytes, width) for share in shares]
    drawn = "".join(shade * count for shade, count in zip(_SHADES, cells, strict=False))
    return drawn[:width].ljust(width, _FREE)


def _cells(n_bytes: int, total_bytes: int, width: int) -> int:
    if n_bytes <= 0 or total_bytes <= 0:
        return 0
    return max(1, round(width * n_bytes / total_bytes))


def legend(shares: Sequence[Share], total_bytes: int) -> list[str]:
    """Return a line for each share, and what is free of all."""
    free_bytes = max(0, total_bytes - sum(share.n_bytes for share in shares))
    rows = [
        (shade, share.name, share.n_bytes)
        for shade, share in zip(_SHADES, shares, strict=False)
    ]
    rows.append((_FREE, f"free of {format_bytes(total_bytes)}", free_bytes))
    return [
        f"{shade} {_row(name, format_bytes(size), 28)}" for shade, name, size in rows
    ]


def ram_lines(state: EngineState, width: int) -> list[str]:
    """Return the RAM of the computer as a bar with its legend."""
    if state.machine is None:
        return ["not measured"]
    shares, total_bytes = ram_shares(state), state.machine.total_bytes
    # What is mapped is counted as available too; the bar shows where it lies.
    return [bar(shares, total_bytes, width), *legend(shares, total_bytes)]


def vram_lines(state: EngineState, width: int) -> list[str]:
    """Return each GPU's memory as a bar with its legend, or that there is none."""
    gpus = () if state.status is None else state.status.gpus
    parts = () if state.model is None else state.model.parts
    if not gpus:
        return ["no GPU is used"]
    lines = []
    for gpu in gpus:
        shares = vram_shares(gpu, parts)
        lines += [escape_control(gpu.name), bar(shares, gpu.total_bytes, width)]
        lines += legend(shares, gpu.total_bytes)
    return lines


def speed(state: EngineState) -> float | None:
    """Return tokens per second: those that come now, else of the newest answer."""
    if state.status is not None and state.status.tokens_per_s is not None:
        return state.status.tokens_per_s
    return None if state.finished is None else state.finished.tokens_per_s


def plan_lines(state: EngineState) -> list[str]:
    """Return what the model takes, as it was planned before the load."""
    parts = () if state.model is None else state.model.parts
    rows = [(part.name, part.vram_bytes + part.ram_bytes) for part in parts]
    rows.sort(key=lambda row: -row[1])
    return [_row(name, format_bytes(size), 30) for name, size in rows[:5] if size]


def memory_lines(state: EngineState) -> list[str]:
    """Return what the n-gram memory is and does."""
    memory = None if state.model is None else state.model.memory
    if memory is None:
        return ["none"]
    rows = [
        (escape_control(memory.name)[:20], memory.tier if state.memory_on else "off"),
        *_live_rows(state.status, memory),
        ("table", format_bytes(memory.table_bytes)),
        ("of it in RAM", _resident(state, memory.table_bytes)),
    ]
    return [_row(name, value, 30) for name, value in rows]


def _live_rows(status: Status | None, memory: MemoryInfo) -> list[tuple[str, str]]:
    if status is None:
        return []
    stall = "-" if status.stall_ms is None else f"{status.stall_ms:.2f} ms"
    if memory.kind == "native":  # llama.cpp waits inside its graph
        stall = "unknown"
    rows_per_s = status.rows_per_s
    return [
        (
            "rows per second",
            "-" if rows_per_s is None else format_count(round(rows_per_s)),
        ),
        ("stall per token", stall),
        (
            "ready / late",
            f"{format_count(status.n_ready)} / {format_count(status.n_late)}",
        ),
    ]


def _resident(state: EngineState, table_bytes: int) -> str:
    resident = None if state.status is None else state.status.resident_bytes
    if resident is None:
        return "unknown"
    part = resident / table_bytes if table_bytes else 0.0
    return f"{format_bytes(resident)}, {100 * part:.0f} %"


def _row(name: str, value: str, width: int) -> str:
    return f"{name}{value:>{max(1, width - len(name))}}"
