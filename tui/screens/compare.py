"""The Compare screen: one question, one seed, answered with the memory and without."""

from __future__ import annotations

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.validation import Integer
from textual.widgets import Input, Static

from engram_local.errors import EngramError
from engram_local.events import (
    ArmStarted,
    Compared,
    Finished,
    PromptProgress,
    TextChunk,
)
from engram_local.settings import Settings
from engram_local.worker.protocol import Event
from tui.compare_words import cannot_compare, comparison, finished_text, question_of
from tui.keys import bind
from tui.screens.base import AppScreen
from tui.state import EngineState
from tui.widgets.answer_column import AnswerColumn
from tui.widgets.compare_table import CompareTable
from tui.widgets.history_input import HistoryInput

_MOST_SEED = 2**32 - 2
_SEED = 1
"""Where the settings have none: both answers need the same."""


class CompareScreen(AppScreen):
    """A question, two answers, their numbers."""

    BINDINGS = [  # noqa: RUF012 - Textual's type
        bind("compare.start", "start"),
        bind("compare.stop", "stop"),
    ]
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]  # noqa: RUF012
    AUTO_FOCUS = "#question"

    def __init__(self) -> None:
        super().__init__()
        self._is_running = False
        self._offered = ""
        """The chat's question that was put into the line."""
        self._column: AnswerColumn | None = None
        """Where the answer that is being written stands."""

    def compose_body(self) -> ComposeResult:
        seed = self.engram.options.settings.seed
        with Vertical(id="compare"):
            with Horizontal(id="asked"):
                yield HistoryInput(placeholder="a question for both", id="question")
                yield Static(id="temperature", markup=False)
                yield Static("seed", id="seed-name", markup=False)
                yield Input(
                    str(_SEED if seed is None else seed),
                    type="integer",
                    validators=[Integer(0, _MOST_SEED)],
                    compact=True,
                    id="seed",
                )
            with Horizontal(id="columns"):
                yield AnswerColumn("with memory", id="with")
                yield AnswerColumn("without", id="without")
            yield CompareTable()
        yield Static(id="nothing", markup=False)

    def on_mount(self) -> None:
        self.link.changed.subscribe(self, self._draw)

    def on_screen_resume(self) -> None:
        """Offer what was asked in the chat."""
        question = self.query_one("#question", HistoryInput)
        asked = question_of(self.link.asked)
        if asked != self._offered:
            question.remember(asked)
            question.value, self._offered = asked, asked
        temperature = f"temperature {self._settings.temperature:g}"
        self.query_one("#temperature", Static).update(temperature)
        self._draw(self.link.state)

    @property
    def _settings(self) -> Settings:
        """Those of the chat."""
        asked = self.link.asked
        return self.engram.options.settings if asked is None else asked.settings

    def _draw(self, state: EngineState) -> None:
        sentence = None if self._is_running else cannot_compare(state)
        self.query_one("#nothing", Static).update(Content(sentence or ""))
        self.query_one("#nothing").display = sentence is not None
        self.query_one("#compare").display = sentence is None

    @on(Input.Submitted)
    def action_start(self) -> None:
        """Answer the question twice, one after the other."""
        question = self.query_one("#question", HistoryInput)
        seed = self.query_one("#seed", Input)
        if self._is_running or cannot_compare(self.link.state) is not None:
            return
        if self.link.state.phase != "ready":
            self.tell("The engine is busy with something else: Esc stops it.")
        elif not question.value.strip():
            self.tell("Ask something first.")
        elif not seed.is_valid:
            self.tell(f"The seed is a number from 0 to {_MOST_SEED}.")
        else:
            question.remember(question.value)
            self._compare(question.value, int(seed.value))

    def action_stop(self) -> None:
        """Stop the answer that is being written."""
        if self.link.state.phase == "busy":
            self.link.cancel()

    @work
    async def _compare(self, question: str, seed: int) -> None:
        self._begin()
        request = comparison(question, seed, self.link.asked, self._settings)
        try:
            async for event in self.link.ask(request):
                self._take(event)
        except EngramError as error:
            self.tell_error(error)
        finally:
            self._is_running = False
            self._draw(self.link.state)

    def _begin(self) -> None:
        self._is_running = True
        self._column = None
        self.query_one(CompareTable).show(None)
        for column in self.query(AnswerColumn):
            column.clear()

    def _take(self, event: Event) -> None:
        match event:
            case ArmStarted(memory_on=memory_on):
                name = "#with" if memory_on else "#without"
                self._column = self.query_one(name, AnswerColumn)
            case PromptProgress(n_done=n_done, n_total=n_total) if self._column:
                is_read = n_done == n_total
                self._column.tell("" if is_read else f"prompt {n_done} of {n_total}")
            case TextChunk(text=text) if self._column:
                self._column.add(text)
            case Finished() if self._column:
                self._column.tell(finished_text(event))
            case Compared():
                self.query_one(CompareTable).show(event)
