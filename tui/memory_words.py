"""What the Memory screen says in words: pure functions of the engine's state."""

from __future__ import annotations

from pathlib import PurePath

from engram_local.events import Finished
from engram_local.units import escape_control, format_bytes, format_count
from engram_local.worker.protocol import Loading, MemoryInfo, ModelInfo, Status
from tui.engine_words import why_no_engine
from tui.state import EngineState

NO_STALLS = "llama.cpp waits for these rows inside its graph: how long is not known."
FIXED_TIER = (
    "The tier of a model's own table is chosen when the model is loaded: start again "
    "with --memory-tier ram or mmap."
)
NEW_SEQUENCE = (
    "Its rows cannot be told any more: the engine has begun a new sequence since, with "
    "another memory, on or off, or for a comparison. The next answer has rows again."
)
PART_OF_MODEL = (
    "The table is part of this model: llama.cpp gathers its rows, and it cannot be "
    "left out."
)


def about_memory(memory: MemoryInfo, is_on: bool, is_answering: bool = False) -> str:
    """Return one line: what is loaded, where it lies, how large it is."""
    parts = (
        escape_control(memory.name),
        "on" if is_on else "OFF",
        f"tier {memory.tier}",
        *(["the model's own table"] if memory.kind == "native" else []),
        f"{format_count(memory.n_rows)} rows of {memory.row_bytes} B, "
        f"{format_bytes(memory.table_bytes)}",
        f"{memory.rows_per_token} per token",
        *(["answering, gates follow"] if is_answering else []),
    )
    return " · ".join(parts)


def nothing_to_see(state: EngineState) -> str | None:
    """Return why there is nothing to show, and what to do; None if there is."""
    if state.model is None or state.phase == "lost":
        return why_no_engine(state)
    if state.model.memory is None:
        return _no_memory(state.model)
    return None


def _no_memory(model: ModelInfo) -> str:
    name = escape_control(model.name)
    lines = [f"{name} has no memory loaded.", ""]
    if model.memories:
        lines.append(f"{_files(len(model.memories))} of a memory here: c chooses one.")
        lines += [f"  {escape_control(PurePath(one).name)}" for one in model.memories]
    else:
        lines += [
            "No memory that was made for this model was found beside it or in models/.",
            "C takes the path of one that lies elsewhere. `engram-local convert` makes",
            "one from an adapter that was trained with engram-peft on this model.",
        ]
    return "\n".join(lines)


def _files(count: int) -> str:
    return "There is 1 file" if count == 1 else f"There are {count} files"


def progress_text(loading: Loading | None) -> str:
    """Return how far a load or a warm-up is; empty if there is none."""
    if loading is None:
        return ""
    return f"{escape_control(loading.what)} {100 * loading.part:.0f} % (Esc stops it)"


def ready_text(status: Status | None) -> str:
    """Return how often rows were there in time."""
    if status is None or not status.n_ready + status.n_late:
        return "no rows were needed yet"
    n_all = status.n_ready + status.n_late
    return (
        f"ready {format_count(status.n_ready)} of {format_count(n_all)} times a layer "
        f"asked, late {format_count(status.n_late)}"
    )


def last_stall_text(finished: Finished | None) -> str:
    """Return the exact stalls of the last answer; empty if they are not known."""
    if finished is None or finished.memory is None or finished.memory.stall is None:
        return ""
    stall = finished.memory.stall
    return (
        f"last answer: p50 {stall.p50_ms:.3f} · p95 {stall.p95_ms:.3f} · "
        f"max {stall.max_ms:.3f} ms"
    )


def rows_needed(state: EngineState) -> tuple[float | None, str]:
    """Return rows per second, and when that was; None if it is not known.

    An answer that took less than a quarter of a second has its mean in place of a peak.
    """
    status, finished, model = state.status, state.finished, state.model
    if state.phase == "busy" and status is not None and status.rows_per_s is not None:
        return status.rows_per_s, "now"
    if state.peak_rows_per_s is not None:
        return state.peak_rows_per_s, "at the peak of the last answer"
    if finished is None or finished.memory is None or finished.tokens_per_s is None:
        return None, ""
    assert model is not None and model.memory is not None
    rows_per_s = finished.tokens_per_s * model.memory.rows_per_token
    return rows_per_s, "on average in the last answer"


def rows_read_text(status: Status | None) -> str:
    """Return what was read since the model was opened."""
    if status is None:
        return ""
    return (
        f"{format_count(status.rows_read)} rows, {format_bytes(status.bytes_read)} "
        "since the model was loaded"
    )


def tier_costs(memory: MemoryInfo, available_bytes: int | None) -> dict[str, str]:
    """Return what each tier means and costs for a memory, in a sentence each."""
    size = format_bytes(memory.table_bytes)
    free = (
        ""
        if available_bytes is None
        else f"; {format_bytes(available_bytes)} are available"
    )
    n_rows = format_count(memory.rows_per_token)
    return {
        "mmap": "mmap: the table stays in its file; the page cache keeps what is used, "
        "as long as RAM is left. A row that is not there is waited for.",
        "ram": f"ram: all {size} are read into RAM now and stay there{free}. No row is "
        "waited for.",
        "direct": f"direct: every row comes from the drive, every time: {n_rows} reads "
        "per token. Takes no RAM; for tables much larger than it. Linux only.",
    }
