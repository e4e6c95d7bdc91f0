"""The Size screen by its keys."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, Select

from engram_local.errors import FileError
from engram_local.hardware import Hardware
from engram_local.model_spec import ModelSpec
from engram_local.sizing.report import Report
from tests.sizing.samples import DENSE, LAPTOP, MOE, SMALL
from tests.tui.acting import Act, drive, notes, text, type_in, until
from tests.tui.fakes import MODEL, FakeEngine
from tui import planning
from tui.app import EngramApp
from tui.screens import size
from tui.state import EngineState
from tui.widgets.report_view import ReportView

SPECS = {MODEL.path: SMALL, "moe": MOE, "dense": DENSE}


@pytest.fixture(autouse=True)
def laptop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Models and a computer made by hand; the current folder is empty."""

    def find_spec(word: str) -> ModelSpec:
        if word not in SPECS:
            raise FileError(f"{word} is not here", hint="name another")
        return SPECS[word]

    def this_computer(path: Path, state: EngineState) -> Hardware:
        return LAPTOP

    monkeypatch.setattr(planning, "find_spec", find_spec)
    monkeypatch.setattr(size, "this_computer", this_computer)
    monkeypatch.chdir(tmp_path)


def report(app: EngramApp) -> Report | None:
    return app.screen.query_one(ReportView).report


def shown(app: EngramApp) -> str:
    return text(app, "ReportView")


def on_size(act: Act, engine: FakeEngine | None = None) -> None:
    async def when_planned(app: EngramApp, pilot: Pilot[int]) -> None:
        await until(pilot, lambda: report(app) is not None)
        await act(app, pilot)

    drive(when_planned, key="f5", engine=engine)


async def fill(pilot: Pilot[int], name: str, value: str) -> None:
    pilot.app.screen.query_one(f"#{name}", Input).focus()
    await pilot.pause()
    await type_in(pilot, value)


def test_the_loaded_model_is_planned_at_once() -> None:
    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await until(pilot, lambda: "SmolLM2-135M Q4_1 fits" in shown(app))
        sections = ["MEMORY", "SPEED", "TO RUN IT", "N-GRAM TABLE", "COMPUTER"]
        places = [shown(app).index(name) for name in sections]
        assert places == sorted(places)
        assert "weights              63.00 =" in shown(app)

    on_size(act)


def test_a_model_and_a_gpu_are_typed() -> None:
    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await type_in(pilot, "dense")
        await until(pilot, lambda: "Dense-8B" in shown(app))
        assert "VRAM, GiB" not in shown(app)
        await fill(pilot, "gpu", "4090")
        await until(pilot, lambda: "VRAM, GiB" in shown(app))
        assert "-ngl 33" in shown(app)

    on_size(act)


def test_context_and_ram_are_typed() -> None:
    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await fill(pilot, "context", "1024")
        await until(pilot, lambda: "at a context of 1,024 tokens" in shown(app))
        await fill(pilot, "ram", "512M")
        await until(pilot, lambda: "does not fit" in shown(app))

    on_size(act)


def test_types_of_the_cache_and_the_tier_are_chosen() -> None:
    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        app.screen.query_one("#key", Select).value = "q8_0"
        app.screen.query_one("#value", Select).value = "q4_0"
        app.screen.query_one("#tier", Select).value = "ram"
        await until(pilot, lambda: "keys q8_0, values q4_0" in shown(app))
        assert "-ctk q8_0 -ctv q4_0 --memory-tier ram" in shown(app)

    on_size(act)


@pytest.mark.parametrize(
    ("name", "typed", "sentence"),
    [
        ("context", "many", "'many' is no number of tokens"),
        ("gpu", "voodoo", "'voodoo' is not among the data sheets"),
        ("ram", "lots", "'lots' is no size"),
        ("model", "gone", "gone is not here"),
    ],
)
def test_what_cannot_be_is_said_and_the_report_stays(
    name: str, typed: str, sentence: str
) -> None:
    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await fill(pilot, name, typed)
        await until(pilot, lambda: sentence in text(app, "#problem"))
        assert "Below is the report before this." in text(app, "#problem")
        assert "SmolLM2-135M Q4_1 fits" in shown(app)
        app.screen.query_one(f"#{name}", Input).value = ""
        await until(pilot, lambda: text(app, "#problem") == "")

    on_size(act)


def test_the_report_is_written_into_a_file() -> None:
    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await pilot.press("ctrl+o")
        await pilot.pause()
        await pilot.press("enter")
        await until(pilot, lambda: "wrote size-SmolLM2-135M.md" in notes(app))
        content = Path("size-SmolLM2-135M.md").read_text("utf-8")
        assert content.startswith("## SmolLM2-135M on Laptop CPU")
        await pilot.press("ctrl+o")
        await pilot.pause()
        await pilot.press("enter")
        await until(pilot, lambda: "is there already" in notes(app))

    on_size(act)


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [("~nobody/size.md", "cannot be written"), ("a\0.md", "is no name of a file")],
)
def test_a_file_that_cannot_be_is_said(typed: str, sentence: str) -> None:
    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await pilot.press("ctrl+o")
        await pilot.pause()
        field = app.screen.query_one(Input)
        field.focus()
        field.value = typed
        await pilot.press("enter")
        await until(pilot, lambda: sentence in notes(app))

    on_size(act)


def test_a_file_of_ones_own_is_typed() -> None:
    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await pilot.press("ctrl+o")
        await pilot.pause()
        await pilot.press("tab")
        await type_in(pilot, "mine.json")
        await pilot.press("enter")
        await until(pilot, lambda: Path("mine.json").exists())

    on_size(act)


def test_the_command_is_copied() -> None:
    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await pilot.press("ctrl+y")
        await until(pilot, lambda: "copied: engram-local run" in notes(app))
        planned = report(app)
        assert planned is not None
        assert app.clipboard == planned.models[0].commands[0].line

    on_size(act)


def test_what_runs_nowhere_here_has_no_command() -> None:
    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await type_in(pilot, "moe")
        await until(pilot, lambda: "Sparse-176B" in shown(app))
        await pilot.press("ctrl+y")
        await until(pilot, lambda: "there is no command" in notes(app))

    on_size(act)


def test_another_model_is_planned_when_it_is_loaded() -> None:
    engine = FakeEngine()

    async def reopen(app: EngramApp, pilot: Pilot[int]) -> None:
        request = app.link._opening
        assert request is not None
        engine._model = replace(MODEL, path="dense")
        await app.link.open(request)
        await until(pilot, lambda: "Dense-8B" in shown(app))

    on_size(reopen, engine)


def test_pages_of_the_report_are_turned_while_one_types() -> None:
    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        view = app.screen.query_one("#report")
        await pilot.press("pagedown")
        await until(pilot, lambda: view.scroll_offset.y > 0)
        await pilot.press("pageup")
        await until(pilot, lambda: view.scroll_offset.y == 0)

    on_size(act)
