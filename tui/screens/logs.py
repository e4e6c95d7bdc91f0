"""The Logs screen: what the engine's process says, newest last."""

from __future__ import annotations

import re
from collections import deque

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Input, Static

from engram_local.units import escape_control
from tui.keys import bind
from tui.screens.base import AppScreen

_PAUSE_S = 0.1
"""Between two drawings; a load writes 200 lines at once."""

_LINES = 500
_LEVEL = re.compile(r"\b(DEBUG|INFO|WARNING|ERROR|CRITICAL)\b")
_FATAL = re.compile(r"GGML_ASSERT|Traceback|\bSIG[A-Z]{3,4}\b|^Fatal")
_STYLES = {
    "DEBUG": "dim",
    "INFO": "",
    "WARNING": "$text-warning",
    "ERROR": "$text-error",
    "CRITICAL": "bold $text-error",
}
_HEAD_CHARS = 60
"""A level stands near the start; further on it is a word of the message."""


class LogsScreen(AppScreen):
    """The lines of the engine's log, those of an engine that died too."""

    BINDINGS = [  # noqa: RUF012 - Textual's type
        bind("logs.filter", "filter"),
        bind("logs.copy", "copy"),
        bind("logs.clear", "clear"),
    ]
    AUTO_FOCUS = "#log"

    def __init__(self) -> None:
        super().__init__()
        self._lines: deque[str] = deque(maxlen=_LINES)
        self._will_draw = False

    def compose_body(self) -> ComposeResult:
        with Vertical(id="logs"):
            yield Input(placeholder="show lines with ...", compact=True, id="filter")
            with VerticalScroll(id="log", can_focus=True):
                yield Static(id="lines", markup=False)

    def on_mount(self) -> None:
        self._lines.extend(self.link.log)
        self.link.logged.subscribe(self, self._hear)

    def on_screen_resume(self) -> None:
        """Draw what was said meanwhile."""
        self._draw()

    def _hear(self, line: str) -> None:
        self._lines.append(line)
        if self.is_current and not self._will_draw:
            self._will_draw = True
            self.set_timer(_PAUSE_S, self._draw)

    @on(Input.Changed, "#filter")
    def _draw(self) -> None:
        self._will_draw = False
        log = self.query_one("#log", VerticalScroll)
        follows = log.scroll_offset.y >= log.max_scroll_y - 1
        self.query_one("#lines", Static).update(
            log_content(self._shown(), self._empty())
        )
        if follows:
            log.scroll_end(animate=False)

    def _shown(self) -> list[str]:
        wanted = self.query_one("#filter", Input).value.casefold()
        return [line for line in self._lines if wanted in line.casefold()]

    def _empty(self) -> str:
        return "no line contains that" if self._lines else "the engine has said nothing"

    @on(Input.Submitted, "#filter")
    def _leave_filter(self) -> None:
        self.query_one("#log").focus()

    def action_filter(self) -> None:
        """Go to where the filter is typed."""
        self.query_one("#filter", Input).focus()

    def action_copy(self) -> None:
        """Copy the lines that are shown."""
        lines = self._shown()
        self.app.copy_to_clipboard("\n".join(map(escape_control, lines)))
        self.tell(f"copied {len(lines)} lines")

    def action_clear(self) -> None:
        """Show only what comes from now on."""
        self._lines.clear()
        self._draw()


def log_content(lines: list[str], empty: str) -> Content:
    """Return lines with the colours of their levels; `empty` in place of none."""
    if not lines:
        return Content.styled(empty, "dim")
    return Content("\n").join([_line(line) for line in lines])


def _line(line: str) -> Content:
    level = _LEVEL.search(line, 0, _HEAD_CHARS)
    name = level[1] if level else ""
    if _FATAL.search(line):
        name = "CRITICAL"
    return Content.styled(escape_control(line), _STYLES.get(name, ""))
