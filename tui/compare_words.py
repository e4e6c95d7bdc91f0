"""What the Compare screen says in words: pure functions."""

from __future__ import annotations

from engram_local.events import Finished
from engram_local.units import escape_control, format_count
from tui.state import EngineState


def cannot_compare(state: EngineState) -> str | None:
    """Return why there is nothing to compare, and what to do; None if there is."""
    if state.phase == "lost":
        return "The engine ended. F9 starts it again; F8 shows its log."
    if state.model is None:
        return "No model is loaded yet."
    name = escape_control(state.model.name)
    if state.model.memory is None:
        return (
            f"{name} has no memory loaded, so both answers would be the same. "
            "F3, then C, chooses a memory."
        )
    if not state.model.can_leave_out_memory:
        return (
            f"The memory of {name} cannot be left out: its table is part of the model, "
            "and llama.cpp gathers the rows inside its own graph. A model without them "
            "would be another model, not this one without a memory."
        )
    return None


def finished_text(finished: Finished) -> str:
    """Return "48 tokens · 41.0 tok/s", and why it ended if not by itself."""
    parts = [f"{format_count(len(finished.token_ids))} tokens"]
    if finished.tokens_per_s is not None:
        parts.append(f"{finished.tokens_per_s:.1f} tok/s")
    if finished.finish_reason != "stop":
        parts.append(finished.finish_reason)
    return " · ".join(parts)
