"""Above the prompt: what went wrong with the engine, or soon does, and what to do."""

from __future__ import annotations

from collections.abc import Callable

from textual.widgets import Static

from engram_local.chat.context import WARN_PART
from engram_local.errors import EngramError, WorkerLostError
from engram_local.units import escape_control
from tui.engine_link import EngineLink
from tui.state import EngineState
from tui.widgets.status_line import used_tokens

_LOG_LINES = 4


class Banner(Static):
    """Draws the engine's state as sentences; takes no room while all is well."""

    def __init__(self, link: EngineLink, shown_keys: Callable[[str], str]) -> None:
        """shown_keys: returns the key of an action, as people write it."""
        super().__init__("", markup=False)
        self._link = link
        self._shown_keys = shown_keys
        self._text = ""
        self.display = False

    def on_mount(self) -> None:
        self._link.changed.subscribe(self, self._draw)
        self._draw(self._link.state)

    def _draw(self, state: EngineState) -> None:
        text = escape_control("\n".join(banner_lines(state, self._shown_keys)))
        if text != self._text:
            self._text = text
            self.display = bool(text)
            self.set_class(state.error is not None, "error")
            self.update(text)


def banner_lines(state: EngineState, shown_keys: Callable[[str], str]) -> list[str]:
    """Return sentences about what the user should know now."""
    if state.error is not None:
        return [*_what_happened(state.error), _what_to_do(state, shown_keys)]
    return [line for line in (_left_out(state), _nearly_full(state)) if line]


def _what_happened(error: EngramError) -> list[str]:
    lines = [error.message, *([error.hint] if error.hint else [])]
    if isinstance(error, WorkerLostError):
        lines += [f"  {line}" for line in error.log[-_LOG_LINES:]]
    return lines


def _what_to_do(state: EngineState, shown_keys: Callable[[str], str]) -> str:
    restart, models = shown_keys("app.restart"), shown_keys("screen.models")
    if state.phase == "lost":
        return f"What was said is kept. {restart} or /restart starts the engine again."
    return (
        f"{models} shows the models of this computer, /load MODEL loads one, {restart} "
        "or /restart tries this one again."
    )


def _left_out(state: EngineState) -> str | None:
    if state.context is None or state.context.n_left_out == 0:
        return None
    return (
        f"The model no longer sees the {state.context.n_left_out} oldest messages: "
        "all do not fit into its context. They stay in the session."
    )


def _nearly_full(state: EngineState) -> str | None:
    n_used = used_tokens(state)
    if state.model is None or n_used is None:
        return None
    part = n_used / state.model.n_ctx
    if part < WARN_PART:
        return None
    return (
        f"The context is {100 * part:.0f} % full. What does not fit is left out of "
        "what the model sees, the oldest questions and their answers first."
    )
