"""The line above the keys: the essentials, where the sidebar has no room."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Static

from engram_local.units import escape_control
from tui.engine_link import EngineLink
from tui.state import EngineState


class StatusLine(Static):
    """Draws the engine's state in one line."""

    def __init__(self, link: EngineLink) -> None:
        super().__init__("", markup=False)
        self._link = link

    def on_mount(self) -> None:
        self._link.changed.subscribe(self, self._draw)
        self._draw(self._link.state)

    def _draw(self, state: EngineState) -> None:
        self.update(Content(status_text(state)), layout=False)


def status_text(state: EngineState) -> str:
    """Return `SmolLM2 · ctx 38 % · 41 tok/s · memory mmap`."""
    match state.phase:
        case "starting":
            return "starting the engine"
        case "loading" if state.model is None:
            return _loading_text(state)
        case "lost":
            return "the engine ended; /restart starts it again"
        case "none":
            return "no model is loaded"
    return " · ".join(_parts(state))


def _loading_text(state: EngineState) -> str:
    if state.loading is None:
        return "loading"
    return f"{state.loading.what} {state.loading.part:.0%}".replace("%", " %")


def _parts(state: EngineState) -> list[str]:
    model = state.model
    assert model is not None
    parts = [escape_control(model.name)]
    if state.phase == "loading":
        parts.append(_loading_text(state))
    n_used = used_tokens(state)
    if n_used is not None:
        parts.append(f"ctx {100 * n_used / model.n_ctx:.0f} %")
    if state.status is not None and state.status.tokens_per_s is not None:
        parts.append(f"{state.status.tokens_per_s:.0f} tok/s")
    parts.append(memory_text(state))
    return parts


def used_tokens(state: EngineState) -> int | None:
    """Return how much of the context the chat uses; None if that is not known yet."""
    if not state.is_of_chat:
        return None
    if state.status is not None:
        return state.status.n_tokens
    return None if state.context is None else state.context.n_prompt


def memory_text(state: EngineState) -> str:
    """Return which memory is used, in two words."""
    memory = None if state.model is None else state.model.memory
    if memory is None:
        return "no memory"
    return f"memory {memory.tier}" if state.memory_on else "memory off"
