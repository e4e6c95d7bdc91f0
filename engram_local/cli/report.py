"""What `run` says about an answer, for people and for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engram_local.chat.answer_line import answer_line
from engram_local.chat.conversation import AnswerStats
from engram_local.telemetry import measure_resources
from engram_local.units import escape_control, format_bytes, format_count

if TYPE_CHECKING:
    from engram_local.engine import Engine
    from engram_local.events import Finished, MemoryStats, Timing


def model_name(engine: Engine) -> str:
    """Return what the loaded model is called."""
    from engram_local.model_files import shown_name  # numba: 0.4 s

    return shown_name(engine.path, engine.spec.name)


def title(engine: Engine) -> str:
    """Return one line: which model, which memory."""
    name = escape_control(model_name(engine))
    memory = engine.memory
    if memory is None:
        return f"{name} · no memory"
    table_bytes = memory.module.spec.table_bytes
    what = escape_control(memory.module.path.name)
    return (
        f"{name} · memory {'of the model' if memory.kind == 'native' else what} "
        f"({memory.tier}, {format_bytes(table_bytes)}, layers "
        f"{', '.join(map(str, memory.layer_ids))})"
    )


def timing_line(finished: Finished) -> str:
    """Return one line about an answer's speed and its memory."""
    stats = AnswerStats.from_finished(finished, model=None, memory=None)
    return f"[{answer_line(stats)}]"


def verified_line(n_rows: int) -> str:
    """Return one line about rows that were compared; the first unequal one raises."""
    return f"verified {format_count(n_rows)} rows, all equal"


def as_json(engine: Engine, finished: Finished) -> dict[str, Any]:
    """Return what `run --json` prints: raw numbers, None where not measurable."""
    resources = measure_resources()
    return {
        "text": finished.text,
        "token_ids": list(finished.token_ids),
        "finish_reason": finished.finish_reason,
        "prompt": {
            "n_tokens": finished.n_prompt,
            "tokens_per_s": finished.prompt_tokens_per_s,
        },
        "decode": {
            "n_tokens": len(finished.token_ids),
            "tokens_per_s": finished.tokens_per_s,
            "ms_per_token": _timing(finished.token_ms),
        },
        "ttft_s": finished.first_token_s,
        "memory": _memory_json(engine, finished.memory),
        "resources": {
            "rss_anon_bytes": resources.rss_anon_bytes,
            "rss_file_bytes": resources.rss_file_bytes,
            "vram_bytes": resources.vram_bytes,
        },
    }


def _memory_json(engine: Engine, memory: MemoryStats | None) -> dict[str, Any] | None:
    if memory is None or engine.memory is None:
        return None
    return {
        "kind": memory.kind,
        "tier": memory.tier,
        "rows_read": memory.rows_read,
        "bytes_read": memory.bytes_read,
        "pages_ahead": memory.pages_ahead,
        "verified_rows": memory.verified_rows,
        "stall_ms": _stall(memory.stall),
        "prefetch": _prefetch(memory),
        "gate": {str(layer): mean for layer, mean in memory.gate_mean.items()},
        "resident_bytes": engine.memory.resident_bytes,
    }


def _prefetch(memory: MemoryStats) -> dict[str, int] | None:
    if memory.kind == "native":  # llama.cpp does not tell whether it waited
        return None
    return {
        "submitted": memory.n_submitted,
        "ready": memory.n_ready,
        "late": memory.n_late,
    }


def _stall(stall: Timing | None) -> dict[str, float] | None:
    return None if stall is None else {"total": stall.total_ms, **_timing(stall)}


def _timing(timing: Timing) -> dict[str, float]:
    return {"p50": timing.p50_ms, "p95": timing.p95_ms, "max": timing.max_ms}
