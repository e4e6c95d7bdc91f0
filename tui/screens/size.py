"""The Size screen: what a model would need here or elsewhere, while one types."""

from __future__ import annotations

from dataclasses import dataclass

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.suggester import SuggestFromList
from textual.timer import Timer
from textual.widgets import Input, Select, Static
from textual.worker import get_current_worker

from engram_local import catalog
from engram_local.chat.commands import typed_path
from engram_local.errors import EngramError
from engram_local.settings import CACHE_TYPES, TIERS
from engram_local.sizing.report import Report
from engram_local.units import escape_control
from tui.computer import look_again, this_computer
from tui.keys import bind
from tui.planning import Wishes, make_report, write_report
from tui.screens.base import AppScreen
from tui.screens.pick import PickScreen
from tui.state import EngineState
from tui.widgets.report_view import ReportView

_PAUSE_S = 0.25
"""After the last key, before anything is computed."""


@dataclass
class Planned(Message):
    """A new report, by the thread that computes them."""

    report: Report


@dataclass
class Refused(Message):
    """What was typed cannot be; the report before it stays."""

    error: EngramError


class SizeScreen(AppScreen):
    """What is asked in two lines, and below them the report."""

    BINDINGS = [  # noqa: RUF012 - Textual's type
        bind("size.export", "export"),
        bind("size.copy", "copy_command"),
        bind("size.look", "look_again"),
        Binding("pageup", "scroll_report(-1)", show=False),
        Binding("pagedown", "scroll_report(1)", show=False),
    ]
    AUTO_FOCUS = "#model"

    def __init__(self) -> None:
        super().__init__()
        self._timer: Timer | None = None

    def compose_body(self) -> ComposeResult:
        with Vertical(id="size"):
            with Horizontal(classes="asked"):
                yield from self._text(
                    "model", "Model", "the loaded one; any GGUF, card"
                )
                yield from self._text("context", "Context", "8,192")
            with Horizontal(classes="asked"):
                yield from _choice("key", "K", CACHE_TYPES, "f16")
                yield from _choice("value", "V", CACHE_TYPES, "f16")
                tiers = [tier for tier in TIERS if tier != "auto"]
                yield from _choice("tier", "Table", tiers, None)
                yield from self._text("gpu", "GPU", "as here")
                yield from self._text("ram", "RAM", "as here")
            yield Static(id="problem", markup=False)
            with VerticalScroll(id="report", can_focus=True):
                yield ReportView()

    def _text(self, name: str, label: str, placeholder: str) -> ComposeResult:
        yield Static(label, markup=False, classes="label")
        yield Input(placeholder=placeholder, compact=True, id=name)

    def on_mount(self) -> None:
        from engram_local.sizing.datasheets import gpu_names

        self.query_one("#model", Input).suggester = _names(catalog.card_names())
        self.query_one("#gpu", Input).suggester = _names(["none", *gpu_names()])
        self._model_path: str | None = None
        self.link.changed.subscribe(self, self._follow)

    def on_screen_resume(self) -> None:
        """Plan with what is free now."""
        self._plan_soon()

    def _follow(self, state: EngineState) -> None:
        """Plan for the model that was loaded, if none is named."""
        path = None if state.model is None else state.model.path
        if path is not None and path != self._model_path:
            self._model_path = path
            self._plan_soon()

    @on(Input.Changed)
    @on(Select.Changed)
    def _plan_soon(self) -> None:
        if self._timer is not None:
            self._timer.stop()
        self._timer = self.set_timer(_PAUSE_S, self._plan_now)

    def _plan_now(self) -> None:
        if self.is_current:
            self._plan(self._wishes(), self.link.state)

    def _wishes(self) -> Wishes:
        return Wishes(
            model=self._typed("model") or self._default_model(),
            n_ctx=self._typed("context"),
            cache_type_k=self._chosen("key"),
            cache_type_v=self._chosen("value"),
            tier=self._chosen("tier"),
            gpu=self._typed("gpu"),
            ram=self._typed("ram"),
        )

    def _typed(self, name: str) -> str:
        return self.query_one(f"#{name}", Input).value.strip()

    def _chosen(self, name: str) -> str:
        value = self.query_one(f"#{name}", Select).value
        return value if isinstance(value, str) else ""

    def _default_model(self) -> str:
        """Return the model that is loaded, or else would be."""
        model = self.link.state.model
        named = self.engram.options.model
        if model is not None:
            return model.path
        return "" if named is None else str(named)

    @work(thread=True, exclusive=True, group="plan")
    def _plan(self, wishes: Wishes, state: EngineState) -> None:
        worker = get_current_worker()
        message: Message
        try:
            message = Planned(make_report(wishes, lambda p: this_computer(p, state)))
        except EngramError as error:
            message = Refused(error)
        if not worker.is_cancelled:
            self.post_message(message)

    @on(Planned)
    def _show(self, message: Planned) -> None:
        self.query_one("#problem", Static).update("")
        self.query_one(ReportView).show(message.report)

    @on(Refused)
    def _explain(self, message: Refused) -> None:
        error = message.error
        words = [error.message, error.hint or ""]
        if self.query_one(ReportView).report is not None:
            words.append("Below is the report before this.")
        text = "\n".join(filter(None, words))
        self.query_one("#problem", Static).update(Content(escape_control(text)))

    def action_scroll_report(self, pages: int) -> None:
        """Go up or down a page, wherever one types."""
        report = self.query_one("#report", VerticalScroll)
        report.scroll_relative(y=pages * (report.size.height - 1), animate=False)

    def action_look_again(self) -> None:
        """Look at this computer again."""
        look_again()
        self._plan_soon()

    def action_copy_command(self) -> None:
        """Copy the command that runs the model as planned."""
        report = self.query_one(ReportView).report
        commands = report.models[0].commands if report is not None else ()
        if commands:
            self.app.copy_to_clipboard(commands[0].line)
            self.tell(f"copied: {commands[0].line}")
        else:
            self.tell("there is no command that runs it here")

    @work
    async def action_export(self) -> None:
        """Ask for a file, and write the report into it."""
        report = self.query_one(ReportView).report
        if report is None:
            self.tell("there is no report yet")
            return
        names = [f"{_stem(report)}{ending}" for ending in (".md", ".html", ".json")]
        screen = PickScreen(
            "Write the report into",
            {name: name for name in names},
            typed="another file: .md .html .json .csv .txt",
        )
        name = await self.app.push_screen_wait(screen)
        if name:
            self._write(report, name)

    def _write(self, report: Report, name: str) -> None:
        try:
            path = typed_path(name)
            write_report(report, path)
        except EngramError as error:
            self.tell_error(error)
        else:
            self.tell(f"wrote {path}")


def _choice(
    name: str, label: str, values: tuple[str, ...] | list[str], value: str | None
) -> ComposeResult:
    yield Static(label, markup=False, classes="label")
    options = [(one, one) for one in values]
    if value is None:
        yield Select(options, prompt="as run", compact=True, id=name)
    else:
        yield Select(options, value=value, allow_blank=False, compact=True, id=name)


def _names(names: list[str]) -> SuggestFromList:
    return SuggestFromList(names, case_sensitive=False)


def _stem(report: Report) -> str:
    name = report.models[0].spec.name.rsplit("/", 1)[-1]
    kept = (char if char.isalnum() or char in "-._" else "-" for char in name)
    return f"size-{''.join(kept)[:60]}"
