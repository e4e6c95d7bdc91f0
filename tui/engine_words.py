"""Why a screen has no engine to ask, and what to do: a pure function."""

from __future__ import annotations

from engram_local.units import escape_control
from tui.state import EngineState


def why_no_engine(state: EngineState) -> str | None:
    """Return why no model is loaded; None if one is."""
    if state.phase == "lost":
        return "The engine ended. F9 starts it again; F8 shows its log."
    if state.model is not None:
        return None
    if state.phase in ("starting", "loading"):
        return "The model is being loaded."
    if state.error is None:
        return "No model is loaded. F6 shows the models of this computer."
    lines = (state.error.message, state.error.hint or "")
    return escape_control("\n".join(("No model is loaded:", *filter(None, lines))))
