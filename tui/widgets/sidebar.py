"""Beside the conversation: speed, RAM and VRAM, and the n-gram memory."""

from __future__ import annotations

from collections import deque

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Digits, Static

from tui import sidebar_words as words
from tui.engine_link import EngineLink
from tui.state import EngineState
from tui.widgets.blocks import cell

_WIDTH = 30
_HISTORY = _WIDTH
"""Numbers in the little chart, which begins at zero; there are at most 4 a second."""


class Sidebar(VerticalScroll, can_focus=False):
    """Draws the engine's numbers."""

    def __init__(self, link: EngineLink) -> None:
        super().__init__(id="sidebar")
        self._link = link
        self._speeds: deque[float] = deque(maxlen=_HISTORY)
        self._drawn: object = None
        self._texts: dict[str, str] = {}

    def compose(self) -> ComposeResult:
        yield Static("tokens per second", classes="title")
        yield Digits("-", id="speed")
        yield Static(" ", id="speeds")
        for name, title in (
            ("ram", "RAM"),
            ("vram", "VRAM"),
            ("plan", "planned for the model"),
            ("memory", "n-gram memory"),
        ):
            yield Static(title, classes="title")
            yield Static(" ", id=name, markup=False)

    def on_mount(self) -> None:
        self._link.changed.subscribe(self, self._draw)
        self._draw(self._link.state)

    def _draw(self, state: EngineState) -> None:
        self._draw_speed(state)
        for name, lines in (
            ("ram", words.ram_lines(state, _WIDTH)),
            ("vram", words.vram_lines(state, _WIDTH)),
            ("plan", words.plan_lines(state) or ["nothing is loaded"]),
            ("memory", words.memory_lines(state)),
        ):
            text = "\n".join(lines)
            if text != self._texts.get(name):
                is_taller = text.count("\n") != self._texts.get(name, "").count("\n")
                self._texts[name] = text
                self.query_one(f"#{name}", Static).update(text, layout=is_taller)

    def _draw_speed(self, state: EngineState) -> None:
        speed = words.speed(state)
        if speed is None or (state.status, state.finished) == self._drawn:
            return
        self._drawn = state.status, state.finished
        self._speeds.append(speed)
        self.query_one(Digits).update(f"{speed:.1f}")
        most = max(self._speeds) or 1.0  # none may have come in a quarter of a second
        chart = "".join(cell(one / most) for one in self._speeds)
        self.query_one("#speeds", Static).update(chart, layout=False)
