"""The Models screen by its keys."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import DataTable

from engram_local.errors import FileError
from engram_local.hardware import Hardware
from engram_local.local_models import LocalModel
from engram_local.settings import Settings
from engram_local.worker.protocol import Generate, Open
from tests.fakes import make_memory, memory_file
from tests.model_folders import move_home, put, tiny_model
from tests.sizing.samples import DESKTOP
from tests.tui.acting import Act, drive, notes, text, type_in, until
from tests.tui.fakes import MODEL, Answer, FakeEngine
from tui.app import EngramApp
from tui.screens import models
from tui.state import EngineState

LATE = LocalModel(name="late", path=Path("models/late.gguf"), source="./models")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sound model, one that is none, and a memory."""
    home = move_home(tmp_path, monkeypatch)
    put(Path("models/sound.gguf"))
    Path("models/broken.gguf").touch()
    memory = Path("models/words.gguf")
    memory_file(make_memory(memory)).write(memory)
    monkeypatch.setattr(models, "this_computer", _desktop)
    return home


def _desktop(path: Path, state: EngineState) -> Hardware:
    return DESKTOP


def on_models(act: Act, engine: FakeEngine | None = None) -> None:
    async def when_found(app: EngramApp, pilot: Pilot[int]) -> None:
        await until(pilot, lambda: "Enter loads one" in text(app, "#about"))
        await act(app, pilot)

    drive(when_found, key="f6", engine=engine)


def rows(app: EngramApp) -> list[str]:
    table = app.screen.query_one("#list", DataTable)
    return [
        " ".join(str(cell) for cell in table.get_row_at(n) if str(cell))
        for n in range(table.row_count)
    ]


async def go_to(pilot: Pilot[int], name: str) -> None:
    app = pilot.app
    assert isinstance(app, EngramApp)
    names = [row.split()[0] for row in rows(app)]
    app.screen.query_one("#list", DataTable).move_cursor(row=names.index(name))
    await pilot.pause()


def opened(engine: FakeEngine) -> list[str | None]:
    return [one.model for one in engine.requests if isinstance(one, Open)]


def test_all_that_is_here_is_listed() -> None:
    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        assert [row.split()[0] for row in rows(app)] == ["broken", "sound", "words"]
        assert "unusable" in rows(app)[0]
        assert "is one, " in rows(app)[2]
        assert text(app, "#about") == "3 found · Enter loads one · ● is loaded"

    on_models(act)


def test_the_selected_one_is_described_and_sized() -> None:
    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await go_to(pilot, "sound")
        await until(pilot, lambda: "fits at a context" in text(app, "#verdict"))
        assert "models/sound.gguf: model, " in text(app, "#header")
        await go_to(pilot, "broken")
        await until(pilot, lambda: "is empty" in text(app, "#header"))
        assert text(app, "#verdict") == ""
        await go_to(pilot, "words")
        await until(pilot, lambda: "made for" in text(app, "#header"))

    on_models(act)


def test_enter_loads_and_a_restart_loads_the_same() -> None:
    engine = FakeEngine()

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await go_to(pilot, "sound")
        await pilot.press("enter")
        await until(pilot, lambda: len(opened(engine)) == 2)
        assert opened(engine)[1] == str(Path("models/sound.gguf"))
        await until(pilot, lambda: "the chat goes on with it" in notes(app))
        assert app.options.model == Path("models/sound.gguf")

    on_models(act, engine)


def test_the_loaded_one_is_marked() -> None:
    engine = FakeEngine(model=replace(MODEL, path="models/sound.gguf"))

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await until(pilot, lambda: any(row.startswith("● sound") for row in rows(app)))

    on_models(act, engine)


@pytest.mark.parametrize(
    ("name", "why"), [("broken", "is empty"), ("words", "is a memory")]
)
def test_what_cannot_be_loaded_changes_nothing(name: str, why: str) -> None:
    engine = FakeEngine()

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await go_to(pilot, name)
        await pilot.press("enter")
        await until(pilot, lambda: why in notes(app))
        assert f"{MODEL.name} stays loaded" in notes(app)
        assert len(opened(engine)) == 1

    on_models(act, engine)


def test_a_load_that_fails_says_so_and_what_is_loaded_now() -> None:
    engine = FakeEngine()

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        engine._open_error = FileError("llama.cpp cannot load it", hint="get another")
        await go_to(pilot, "sound")
        await pilot.press("enter")
        await until(pilot, lambda: "cannot load" in text(app, "#about"))
        assert text(app, "#about").splitlines() == [
            "llama.cpp cannot load it",
            "get another",
            f"No model is loaded: {MODEL.name} was unloaded before. Enter loads one.",
        ]

    on_models(act, engine)


def test_progress_of_a_load_is_shown_and_another_has_to_wait() -> None:
    loaded = asyncio.Event()
    engine = FakeEngine(loads_until=loaded)

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await until(pilot, lambda: text(app, "#about") == "loading 42 %")
        await until(pilot, lambda: len(rows(app)) == 3)
        await go_to(pilot, "sound")
        await pilot.press("enter")
        await until(pilot, lambda: "wait until" in notes(app))
        assert len(opened(engine)) == 1
        loaded.set()

    drive(act, key="f6", engine=engine)


def test_a_load_stops_the_answer_before_it() -> None:
    engine = FakeEngine(Answer(waits=True))

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        async def ask() -> None:
            async for _ in app.link.ask(Generate(messages=(), settings=Settings())):
                pass

        asking = asyncio.create_task(ask())
        await until(pilot, lambda: app.link.state.phase == "busy")
        await go_to(pilot, "sound")
        await pilot.press("enter")
        await until(pilot, lambda: len(opened(engine)) == 2)
        await asking

    on_models(act, engine)


def test_a_typed_path_is_loaded() -> None:
    engine = FakeEngine()
    put(Path("other/m.gguf"))

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await pilot.press("p")
        await type_in(pilot, "nowhere")
        await pilot.press("enter")
        await until(
            pilot, lambda: "nowhere is neither a file nor a model" in notes(app)
        )
        await pilot.press("home", "ctrl+k")
        await type_in(pilot, "other/m.gguf")
        await pilot.press("enter")
        await until(pilot, lambda: len(opened(engine)) == 2)
        assert opened(engine)[1] == "other/m.gguf"

    on_models(act, engine)


def test_r_looks_again() -> None:
    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        put(Path("models/another.gguf"), tiny_model())
        await pilot.press("r")
        await until(pilot, lambda: len(rows(app)) == 4)
        assert rows(app)[0].startswith("another")

    on_models(act)


def test_names_cannot_drive_the_terminal() -> None:
    put(Path("models/a\x1b[2J[b]x.gguf"))

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        assert rows(app)[0].startswith("a\\x1b[2J[b]x ")
        await until(pilot, lambda: "\\x1b[2J[b]x" in text(app, "#header"))

    on_models(act)


def test_without_models_it_says_what_to_do() -> None:
    for path in Path("models").iterdir():
        path.unlink()

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await until(pilot, lambda: "There is no model here yet" in text(app, "#about"))

    drive(act, key="f6")


def test_what_an_older_search_found_is_not_listed_again() -> None:
    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        screen = app.screen
        assert isinstance(screen, models.ModelsScreen)
        await pilot.press("r")
        screen.post_message(models.Found(LATE, scan=1))
        await until(pilot, lambda: "3 found" in text(app, "#about"))
        assert len(rows(app)) == 3

    on_models(act)
