"""The Models screen: what lies on this computer; Enter loads it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import DataTable, Input, Static
from textual.worker import get_current_worker

from engram_local.errors import EngramError
from engram_local.local_models import LocalModel, find_models
from engram_local.units import escape_control
from tui.computer import look_again, this_computer
from tui.keys import bind
from tui.loading import load_model
from tui.model_words import (
    COLUMNS,
    cell_of,
    facts_of,
    found_text,
    loading_text,
    name_of,
    row_of,
)
from tui.planning import verdict_of
from tui.screens.base import AppScreen
from tui.state import EngineState


class _EndedError(Exception):
    """Another scan has begun, or the app ends."""


@dataclass
class Found(Message):
    """A model, by the thread that looks for them."""

    model: LocalModel
    scan: int


@dataclass
class Looking(Message):
    """What that thread does; None at its end."""

    what: str | None
    scan: int


@dataclass
class Described(Message):
    """More about a model."""

    path: Path
    facts: str
    verdict: str


class ModelsScreen(AppScreen):
    """A table of models, and about the one below the cursor what its header says."""

    BINDINGS = [  # noqa: RUF012 - Textual's type
        bind("models.rescan", "rescan"),
        bind("models.path", "type_path"),
    ]
    AUTO_FOCUS = "#list"

    def __init__(self) -> None:
        super().__init__()
        self._models: dict[str, LocalModel] = {}
        self._looking: str | None = None
        self._n_scans = 0
        self._loaded_path: str | None = None
        self._was_loaded: str | None = None
        """The model before the one that was asked for here."""

    def compose_body(self) -> ComposeResult:
        with Vertical(id="models"):
            yield DataTable(id="list", cursor_type="row", zebra_stripes=True)
            yield Static(id="about", markup=False)
            with VerticalScroll(id="facts", can_focus=True):
                yield Static(id="verdict", markup=False)
                yield Static(id="header", markup=False)
            yield Input(
                placeholder="another file: type its path, Enter loads it",
                compact=True,
                id="path",
            )

    def on_mount(self) -> None:
        self.link.changed.subscribe(self, self._draw)
        table = self._table
        for title, _ in COLUMNS:
            table.add_column(title, key=title)
        self.action_rescan()

    @property
    def _table(self) -> DataTable[Text]:
        return self.query_one("#list", DataTable)

    def action_rescan(self) -> None:
        """Look for models again, and at this computer."""
        look_again()
        self._models.clear()
        self._table.clear()
        self._n_scans += 1
        self._scan(self._n_scans)

    def action_type_path(self) -> None:
        """Go to where a path is typed."""
        self.query_one("#path", Input).focus()

    # --- looking for models -----------------------------------------------------

    @work(thread=True, exclusive=True, group="scan")
    def _scan(self, scan: int) -> None:
        worker = get_current_worker()

        def progress(what: str, part: float) -> None:
            if worker.is_cancelled:
                raise _EndedError
            self.post_message(Looking(f"{what} {part:.0%}".replace("%", " %"), scan))

        try:
            for model in find_models(progress=progress):
                self.post_message(Found(model, scan))
        except _EndedError:
            return
        self.post_message(Looking(None, scan))

    @on(Looking)
    def _show_progress(self, message: Looking) -> None:
        if message.scan == self._n_scans:
            self._looking = message.what
            self._draw(self.link.state)

    @on(Found)
    def _add(self, message: Found) -> None:
        if message.scan != self._n_scans:  # of the scan before, but still under way
            return
        key = str(len(self._models))
        self._models[key] = message.model
        is_loaded = _is_loaded(message.model, self._loaded_path)
        self._table.add_row(*row_of(message.model, is_loaded=is_loaded), key=key)

    def _mark_loaded(self, path: str | None) -> None:
        """Mark the model that is loaded, where that has changed."""
        if path == self._loaded_path:
            return
        self._loaded_path = path
        for key, model in self._models.items():
            name = name_of(model, is_loaded=_is_loaded(model, path))
            self._table.update_cell(key, COLUMNS[0][0], cell_of(name))

    # --- about one of them ------------------------------------------------------

    @on(DataTable.RowHighlighted)
    def _look_at(self, event: DataTable.RowHighlighted) -> None:
        model = self._models.get(str(event.row_key.value))
        if model is not None:
            self.query_one("#header", Static).update("")
            self.query_one("#verdict", Static).update("")
            self._describe(model, self.link.state)

    @work(thread=True, exclusive=True, group="describe")
    def _describe(self, model: LocalModel, state: EngineState) -> None:
        facts = facts_of(model)
        self.post_message(Described(model.path, facts, ""))
        if model.is_memory or model.problem is not None:
            return
        try:
            verdict = verdict_of(model.path, lambda path: this_computer(path, state))
        except EngramError as error:
            verdict = error.message
        if not get_current_worker().is_cancelled:
            self.post_message(Described(model.path, facts, verdict))

    @on(Described)
    def _show_facts(self, message: Described) -> None:
        selected = self._selected
        if selected is not None and selected.path == message.path:
            self.query_one("#header", Static).update(Content(message.facts))
            verdict = Content.styled(escape_control(message.verdict), "bold")
            self.query_one("#verdict", Static).update(verdict)

    @property
    def _selected(self) -> LocalModel | None:
        return self._models.get(str(self._table.cursor_row))

    # --- loading ----------------------------------------------------------------

    @on(DataTable.RowSelected)
    def _load_selected(self, event: DataTable.RowSelected) -> None:
        model = self._models.get(str(event.row_key.value))
        if model is None:
            return
        if model.problem is not None:
            self._refuse(f"{model.name} {model.problem}")
        elif model.is_memory:
            self._refuse(f"{model.name} is a memory; the Memory screen adds it")
        else:
            self._load(model.path)

    @on(Input.Submitted, "#path")
    def _load_typed(self, event: Input.Submitted) -> None:
        if event.value.strip():
            self._load(Path(os.path.expanduser(event.value.strip())))

    def _refuse(self, sentence: str) -> None:
        """Say why a model is not loaded, and that all is as it was."""
        model = self.link.state.model
        stays = "No model is loaded" if model is None else f"{model.name} stays loaded"
        text = escape_control(f"{sentence}.\n{stays}.")
        self.notify(text, severity="error", markup=False)

    def _load(self, path: Path) -> None:
        self.app.run_worker(self._try_load(path), group="engine")

    async def _try_load(self, path: Path) -> None:
        model = self.link.state.model
        was_loaded = None if model is None else model.name
        try:
            is_loaded = await load_model(self.engram, path)
        except EngramError as error:
            self._refuse(error.message)
            return
        self._was_loaded = None if is_loaded else was_loaded
        self._draw(self.link.state)
        if is_loaded and self.link.state.model is not None:
            name = self.link.state.model.name
            self.tell(f"{name} is loaded; the chat goes on with it")

    def _draw(self, state: EngineState) -> None:
        self._mark_loaded(None if state.model is None else state.model.path)
        text = loading_text(state, self._was_loaded)
        if text is None:
            text = self._looking or found_text(len(self._models))
        self.query_one("#about", Static).update(Content(escape_control(text)))


def _is_loaded(model: LocalModel, path: str | None) -> bool:
    return path is not None and model.path.absolute() == Path(path).absolute()
