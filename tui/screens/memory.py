"""The Memory screen: the last answer by its gates, and what the table costs."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path, PurePath
from typing import TypeVar

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from engram_local.errors import EngramError
from engram_local.events import Finished, TableMap
from engram_local.units import escape_control
from engram_local.worker.protocol import (
    AnswerTrace,
    ChooseMemory,
    EvictTable,
    ExplainToken,
    LookAtTable,
    MemoryInfo,
    ModelInfo,
    Request,
    TokenRows,
    TraceAnswer,
    UseMemory,
    WarmTable,
)
from tui import memory_words as words
from tui.asking import answer_to
from tui.gates import WHOLE_SCALE, gates_of, spread_of, why_no_gates
from tui.keys import bind
from tui.measured_drive import measured_reads_per_s
from tui.screens.base import AppScreen
from tui.screens.pick import PickScreen
from tui.state import EngineState
from tui.table_watch import TableWatch
from tui.widgets.choice_line import ChoiceLine
from tui.widgets.gauge import Gauge
from tui.widgets.heat_legend import HeatLegend
from tui.widgets.heat_text import HeatText
from tui.widgets.histogram import StallHistogram
from tui.widgets.residency_strip import ResidencyStrips
from tui.widgets.token_card import TokenCard

_REST_S = 0.15
"""The cursor rests so long before a token's rows are asked for."""

_TICK_S = 0.5
_WITHOUT = ""
"""The answer of the pick list for no memory."""

_Answer = TypeVar("_Answer")


class MemoryScreen(AppScreen):
    """Gates and rows of an answer; stalls, rates, residency; what one can change."""

    BINDINGS = [  # noqa: RUF012 - Textual's type
        bind("memory.switch", "switch"),
        bind("memory.choose", "choose"),
        bind("memory.tier", "tier"),
        bind("memory.warm", "warm"),
        bind("memory.evict", "evict"),
        bind("memory.layer", "layer"),
        bind("memory.scale", "scale"),
        bind("memory.bars", "bars"),
        bind("memory.stop", "stop"),
    ]
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]  # noqa: RUF012
    AUTO_FOCUS = "HeatText"

    def __init__(self) -> None:
        super().__init__()
        self._trace: AnswerTrace | None = None
        self._traced: Finished | None = None
        """The answer that the trace is of, or was asked for."""
        self._traced_in = 0
        self._model_path: str | None = None
        """Of the model whose answer is shown."""
        self._is_spread = True
        self._explained: int | None = None
        """The token whose rows are shown, or are asked for."""
        self._is_explaining = False
        self._written: dict[str, str] = {}
        """What texts say, by their ids."""
        self._watch = TableWatch()
        self._look_problem = ""
        """Why the last look at the table failed."""
        self._measured: MemoryInfo | None = None
        """The memory whose drive was looked up."""
        self._drive_reads_per_s: float | None = None

    def compose_body(self) -> ComposeResult:
        yield Static(id="about", markup=False)
        with Horizontal(id="memory"):
            with Vertical(id="answer"):
                yield ChoiceLine("gates of layer")
                yield HeatLegend()
                yield HeatText()
            with VerticalScroll(id="numbers"):
                yield _panel("token", TokenCard())
                yield _panel(
                    "waiting for rows",
                    StallHistogram(),
                    Static(id="stalls", markup=False),
                )
                yield _panel(
                    "rows against the drive's random reads",
                    Gauge(),
                    Static(id="rows", markup=False),
                )
                yield _panel("table in RAM", ResidencyStrips())
        yield Static(id="nothing", markup=False)

    def on_mount(self) -> None:
        self.link.changed.subscribe(self, self._draw_if_shown)
        self.app.theme_changed_signal.subscribe(self, lambda _: self._tint_later())
        self.set_interval(_TICK_S, self._tick)

    def on_screen_resume(self) -> None:
        """Catch up with what happened while another screen was shown."""
        self._draw(self.link.state)
        self._tick()

    # --- drawing ----------------------------------------------------------------

    def _draw_if_shown(self, state: EngineState) -> None:
        if self.is_current:
            self._draw(state)

    def _draw(self, state: EngineState) -> None:
        sentence = words.nothing_to_see(state)
        self._write("nothing", [sentence or ""])
        self.query_one("#nothing").display = sentence is not None
        self.query_one("#memory").display = sentence is None
        self.query_one("#about").display = sentence is None
        memory = None if state.model is None else state.model.memory
        if memory is not None:
            is_busy = state.phase == "busy"
            about = words.about_memory(memory, state.memory_on, is_busy)
            self._write("about", [about])
            self._draw_numbers(state, memory)
        self._follow_answer(state)

    def _draw_numbers(self, state: EngineState, memory: MemoryInfo) -> None:
        status, is_native = state.status, memory.kind == "native"
        self.query_one(StallHistogram).display = not is_native
        if status is not None:
            self.query_one(StallHistogram).show(status.stall_counts)
        stalls = (
            [words.NO_STALLS]
            if is_native
            else [words.last_stall_text(state.finished), words.ready_text(status)]
        )
        self._write("stalls", stalls)
        need, when = words.rows_needed(state)
        self.query_one(Gauge).show(need, self._drive_reads_per_s)
        self._write("rows", [when, words.rows_read_text(status)])
        note = words.progress_text(state.loading) or self._look_problem
        self.query_one(ResidencyStrips).note(note)

    def _write(self, widget_id: str, lines: list[str]) -> None:
        """Update a text if it is another one: this is called twice a second."""
        text = "\n".join(line for line in lines if line)
        if self._written.get(widget_id) != text:
            self._written[widget_id] = text
            self.query_one(f"#{widget_id}", Static).update(Content(text))

    # --- the answer -------------------------------------------------------------

    def _follow_answer(self, state: EngineState) -> None:
        if state.phase != "ready" or state.model is None:
            return
        if state.model.path != self._model_path:
            self._model_path = state.model.path
            self._show_trace(None)
        if state.finished is not None and state.finished is not self._traced:
            self._traced, self._traced_in = state.finished, state.n_sequences
            self._ask_trace()
        elif self._explained != self._heat.cursor:
            self._explain()

    @property
    def _heat(self) -> HeatText:
        return self.query_one(HeatText)

    @work(group="trace", exclusive=True)
    async def _ask_trace(self) -> None:
        self._show_trace(await self._answer_to(TraceAnswer(), AnswerTrace))

    def _show_trace(self, trace: AnswerTrace | None) -> None:
        self._trace = trace
        self._explained = None
        self.query_one(TokenCard).clear()
        layer_ids = () if trace is None else trace.layer_ids
        self.query_one(ChoiceLine).show(("mean", *map(str, layer_ids)))
        tokens = () if trace is None else trace.tokens
        self._heat.show([token.text for token in tokens], [None] * len(tokens))
        self._tint()

    def _tint_later(self) -> None:
        self.call_after_refresh(self._tint)

    def _tint(self) -> None:
        model = self.link.state.model
        kind = None if model is None or model.memory is None else model.memory.kind
        reason = why_no_gates(self._trace, kind)
        if self._trace is None or reason is not None:
            self.query_one(HeatLegend).explain(reason or "")
            return
        taken = self.query_one(ChoiceLine).taken
        layer_id = self._trace.layer_ids[taken - 1] if taken else None
        gates = gates_of(self._trace, layer_id)
        scale = spread_of(gates) if self._is_spread else WHOLE_SCALE
        self._heat.tint(gates, scale)
        self.query_one(HeatLegend).show(scale, self._heat.tints)

    @on(ChoiceLine.Taken)
    def _on_layer(self) -> None:
        self._tint()

    @on(HeatText.Chosen)
    def _on_token(self) -> None:
        if self._trace is not None and self._trace.tokens:
            # The message's token may be one of the answer before.
            token = self._heat.cursor
            self.query_one(TokenCard).show(self._trace, token)
            self._explained = None
            self.set_timer(_REST_S, lambda: self._explain_rested(token))

    def _explain_rested(self, token: int) -> None:
        if token == self._heat.cursor:
            self._explain()

    def _explain(self) -> None:
        if self._trace is None or not self._trace.tokens or self._is_explaining:
            return
        if not self._is_in_engine():
            self._explained = self._heat.cursor
            self.query_one(TokenCard).explain(words.NEW_SEQUENCE)
        elif self.link.state.phase == "ready":
            self._ask_rows(self._trace)

    def _is_in_engine(self) -> bool:
        """Whether the tokens that are shown are those of the engine's sequence."""
        state = self.link.state
        is_newest = state.finished is self._traced
        return is_newest and state.n_sequences == self._traced_in

    @work(group="rows")
    async def _ask_rows(self, trace: AnswerTrace) -> None:
        """Ask until the rows of the token under the cursor are there.

        One request at a time: many, of a cursor that runs, would wait in line.
        """
        self._is_explaining = True
        card = self.query_one(TokenCard)
        try:
            while self._trace is trace and self._explained != self._heat.cursor:
                self._explained = self._heat.cursor
                position = trace.first + self._explained
                rows = await answer_to(
                    self.link, ExplainToken(position=position), TokenRows
                )
                if rows is not None:
                    card.show_rows(rows)
        except EngramError as error:
            card.explain(escape_control(error.message))
        finally:
            self._is_explaining = False

    # --- the table --------------------------------------------------------------

    def _tick(self) -> None:
        state = self.link.state
        memory = None if state.model is None else state.model.memory
        if not self.is_current or memory is None:
            return
        if memory != self._measured:
            self._measured = memory
            self._look_up_drive(memory)
        if state.phase == "ready" and self._watch.is_due:
            self._watch.begin()
            self._look_at_table()

    @work(group="drive", exclusive=True)
    async def _look_up_drive(self, memory: MemoryInfo) -> None:
        self._drive_reads_per_s = await asyncio.to_thread(
            measured_reads_per_s, Path(memory.path), memory.rows_per_token
        )
        self._draw(self.link.state)

    @work(group="look")
    async def _look_at_table(self) -> None:
        strips = self.query_one(ResidencyStrips)
        look = LookAtTable(n_cells=strips.n_cells)
        try:
            strips.show(await answer_to(self.link, look, TableMap))
            self._look_problem = ""
        except EngramError as error:
            self._look_problem = escape_control(error.message)
        finally:
            self._watch.end()

    # --- what one can change ----------------------------------------------------

    def action_switch(self) -> None:
        """Use the memory, or leave it out."""
        model = self._model_at_rest()
        if model is None:
            return
        if not model.can_leave_out_memory:
            self.tell(words.PART_OF_MODEL)
        elif self._has_memory(model):
            self._change(UseMemory(on=not self.link.state.memory_on))

    def action_layer(self) -> None:
        """Tint by the next layer's gates."""
        line = self.query_one(ChoiceLine)
        line.take(line.taken + 1)

    def action_scale(self) -> None:
        """Tint where the answer's gates are, or from 0 to 1."""
        self._is_spread = not self._is_spread
        self._tint()

    def action_bars(self) -> None:
        """Gates as bars below the text, or as tints."""
        self._heat.bars = not self._heat.bars
        self._tint()

    def action_warm(self) -> None:
        """Read all of the table into the page cache."""
        model = self._model_at_rest()
        if model is not None and self._has_memory(model):
            self._change_table(WarmTable(n_cells=self._n_cells))

    def action_evict(self) -> None:
        """Let the page cache forget the table."""
        model = self._model_at_rest()
        if model is not None and self._has_memory(model):
            self._change_table(EvictTable(n_cells=self._n_cells))

    def action_stop(self) -> None:
        """End what is going on."""
        if self.link.state.phase in ("busy", "loading"):
            self.link.cancel()

    @work
    async def action_choose(self) -> None:
        """Ask for a memory's file, and load it."""
        model = self._model_at_rest()
        if model is None:
            return
        if model.memory is not None and model.memory.kind == "native":
            self.tell(words.PART_OF_MODEL)
            return
        path = await self.app.push_screen_wait(_memories_of(model))
        tier = "auto" if model.memory is None else model.memory.tier
        if path is not None:
            memory = os.path.expanduser(path) or None
            self._change(ChooseMemory(memory=memory, tier=tier))

    @work
    async def action_tier(self) -> None:
        """Ask for a tier, and load the same memory in it."""
        model = self._model_at_rest()
        if model is None or not self._has_memory(model) or model.memory is None:
            return
        if model.memory.kind == "native":
            self.tell(words.FIXED_TIER)
            return
        machine = self.link.state.machine
        costs = words.tier_costs(
            model.memory, None if machine is None else machine.available_bytes
        )
        pick = PickScreen("Read the rows from", costs, taken=model.memory.tier)
        tier = await self.app.push_screen_wait(pick)
        if tier is not None and tier != model.memory.tier:
            self._change(ChooseMemory(memory=model.memory.path, tier=tier))

    @property
    def _n_cells(self) -> int:
        return self.query_one(ResidencyStrips).n_cells

    def _model_at_rest(self) -> ModelInfo | None:
        """Return the model if nothing is going on; else say so."""
        state = self.link.state
        if state.phase == "busy":
            self.tell("An answer is being written: Esc stops it.")
        elif state.phase == "loading":
            self.tell("Something is being loaded: Esc stops it.")
        return state.model if state.phase == "ready" else None

    def _has_memory(self, model: ModelInfo) -> bool:
        if model.memory is None:
            self.tell("There is no memory.")
        return model.memory is not None

    @work(group="change")
    async def _change(self, request: Request) -> None:
        await self._answer_to(request, TableMap)

    @work(group="change")
    async def _change_table(self, request: Request) -> None:
        table_map = await self._answer_to(request, TableMap)
        if table_map is not None:
            self.query_one(ResidencyStrips).show(table_map)

    async def _answer_to(self, request: Request, kind: type[_Answer]) -> _Answer | None:
        try:
            return await answer_to(self.link, request, kind)
        except EngramError as error:
            self.tell_error(error)
            return None


def _panel(
    title: str, *widgets: Static | StallHistogram | Gauge | ResidencyStrips
) -> Vertical:
    panel = Vertical(*widgets, classes="panel")
    panel.border_title = title
    return panel


def _memories_of(model: ModelInfo) -> PickScreen:
    names = {path: PurePath(path).name for path in model.memories}
    taken = _WITHOUT if model.memory is None else model.memory.path
    if model.memory is not None:
        names.setdefault(model.memory.path, PurePath(model.memory.path).name)
    return PickScreen(
        "Load a memory; the model stays",
        {**names, _WITHOUT: "no memory"},
        taken=taken,
        typed="path of another memory's file",
    )
