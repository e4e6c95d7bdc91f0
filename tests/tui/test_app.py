"""The app around its screens: the engine's life, signals from keys, themes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import suppress
from dataclasses import replace
from typing import Never

import pytest

from engram_local.errors import FileError, UsageError, WorkerLostError
from engram_local.worker.protocol import (
    ChooseMemory,
    Event,
    Hello,
    LookAtTable,
    Open,
    Request,
    UseMemory,
)
from tests.tui.fakes import MODEL, FakeEngine, fake_app, fake_engines
from tui.app import EngramApp
from tui.keys import KEYS, check_keymap, shown_key
from tui.modes import ALL_KEYS
from tui.widgets.status_line import StatusLine


def run(coroutine: Coroutine[object, object, None]) -> None:
    asyncio.run(coroutine)


def test_the_model_is_opened_when_the_app_starts() -> None:
    async def check() -> None:
        engine = FakeEngine()
        app = fake_app(engine)
        async with app.run_test() as pilot:
            await pilot.pause()
            assert isinstance(engine.requests[0], Open)
            assert engine.requests[0].model == MODEL.path
            assert app.link.state.phase == "ready"
            assert app.link.state.model == MODEL
        assert engine.is_closed

    run(check())


def test_the_status_line_says_how_far_the_load_is() -> None:
    async def check() -> None:
        loaded = asyncio.Event()
        app = fake_app(FakeEngine(loads_until=loaded))
        async with app.run_test() as pilot:
            await pilot.pause()
            assert status(app) == "loading 42 %"
            loaded.set()
            await pilot.pause()
            assert status(app) == "SmolLM2 135M Instruct · memory mmap"

    run(check())


def test_a_load_that_fails_leaves_the_app_without_a_model() -> None:
    async def check() -> None:
        error = FileError("no.gguf does not exist")
        app = fake_app(FakeEngine(open_error=error))
        async with app.run_test() as pilot:
            await pilot.pause()
            assert app.link.state.phase == "none"
            assert app.link.state.error is error
            assert status(app) == "no model is loaded"

    run(check())


def test_a_restart_opens_the_same_model_in_a_new_process() -> None:
    async def check() -> None:
        engines = fake_engines()
        app = fake_app(make_port=engines)
        async with app.run_test() as pilot:
            await pilot.pause()
            await pilot.press("f9")
            await pilot.pause()
            first, second = engines.made
            assert first.is_closed
            assert second.requests == first.requests
            assert app.link.state.phase == "ready"

    run(check())


def test_an_engine_that_ends_before_the_first_look_at_it_is_missed() -> None:
    def ended(request: LookAtTable) -> Never:
        raise WorkerLostError("the engine's process was killed by SIGABRT")

    async def check() -> None:
        engine = FakeEngine(replies={LookAtTable: ended})
        engine.pid = 1
        app = fake_app(engine)
        async with app.run_test() as pilot:
            await pilot.pause()
            engine.pid = None
            await app.link.measure()
            assert app.link.state.phase == "lost"

    run(check())


def test_a_restart_leaves_the_memory_off() -> None:
    async def check() -> None:
        engines = fake_engines()
        app = fake_app(make_port=engines)
        async with app.run_test() as pilot:
            await pilot.pause()
            async for _ in app.link.ask(UseMemory(on=False)):
                pass
            await app.link.restart()
            (opening,) = engines.made[1].requests
            assert isinstance(opening, Open)
            assert not opening.memory_on
            assert not app.link.state.memory_on

    run(check())


@pytest.mark.parametrize(
    ("error", "remembered"),
    [(None, "/models/other.gguf"), (FileError("no memory"), "auto")],
)
def test_a_restart_loads_the_memory_that_was_loaded(
    error: FileError | None, remembered: str
) -> None:
    """Not one that could not be."""

    class Refusing(FakeEngine):
        async def _events(self, request: Request) -> AsyncIterator[Event]:
            if isinstance(request, ChooseMemory) and error is not None:
                raise error
            async for event in super()._events(request):
                yield event

    async def check() -> None:
        engines = fake_engines(Refusing())
        app = fake_app(make_port=engines)
        async with app.run_test() as pilot:
            await pilot.pause()
            with suppress(FileError):
                request = ChooseMemory(memory="/models/other.gguf", tier="mmap")
                async for _ in app.link.ask(request):
                    pass
            await app.link.restart()
            (opening,) = engines.made[1].requests
            assert isinstance(opening, Open)
            assert opening.memory == remembered

    run(check())


def test_a_restart_without_a_memory_loads_none() -> None:
    async def check() -> None:
        engines = fake_engines()
        app = fake_app(make_port=engines)
        async with app.run_test() as pilot:
            await pilot.pause()
            async for _ in app.link.ask(ChooseMemory(memory=None, tier="auto")):
                pass
            await app.link.restart()
            (opening,) = engines.made[1].requests
            assert isinstance(opening, Open)
            assert opening.memory is None

    run(check())


def test_a_restart_that_another_one_overtakes_leaves_no_process() -> None:
    class Slow(FakeEngine):
        async def start(self) -> Hello:
            await asyncio.sleep(60)
            raise AssertionError

    async def check() -> None:
        engines = fake_engines(FakeEngine(), Slow())
        app = fake_app(make_port=engines)
        async with app.run_test() as pilot:
            await pilot.pause()
            await pilot.press("f9")
            await pilot.pause()
            assert app.link.state.phase == "starting"
            await pilot.press("f9")
            await pilot.pause()
            assert [engine.is_closed for engine in engines.made] == [True, True, False]
            assert app.link.state.phase == "ready"

    run(check())


def test_ctrl_c_twice_quits() -> None:
    async def check() -> None:
        app = fake_app()
        async with app.run_test() as pilot:
            await pilot.press("ctrl+c")
            assert app.is_running
            await pilot.press("ctrl+c")
            await pilot.pause()
        assert app.return_value == 0

    run(check())


def test_a_theme_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UsageError, match="no theme 'purple'") as caught:
        fake_app(theme="purple")
    assert "textual-dark" in str(caught.value.hint)


def test_a_theme_is_used() -> None:
    async def check() -> None:
        app = fake_app(theme="nord")
        async with app.run_test():
            assert app.theme == "nord"

    run(check())


def test_every_key_has_an_id_of_its_own() -> None:
    assert len({key.id for key in ALL_KEYS}) == len(ALL_KEYS)
    assert all(" " not in key.id for key in KEYS)


def test_a_key_of_the_config_file_replaces_ours() -> None:
    async def check() -> None:
        engines = fake_engines()
        app = EngramApp(
            fake_app().options, make_port=engines, keymap={"app.restart": "ctrl+g"}
        )
        async with app.run_test() as pilot:
            await pilot.pause()
            await pilot.press("f9")
            assert len(engines.made) == 1
            await pilot.press("ctrl+g")
            await pilot.pause()
            assert len(engines.made) == 2

    run(check())


@pytest.mark.parametrize(
    ("keymap", "sentence"),
    [
        ({"app.sing": "f5"}, "app.sing, which is no action"),
        ({"app.restart": "ctrl+bnana"}, "'ctrl\\+bnana', which is no key"),
        ({"app.restart": "f5,"}, "'', which is no key"),
        ({"app.restart": "strg+c"}, "'strg\\+c', which is no key"),
    ],
)
def test_a_key_that_cannot_be_bound_is_refused(
    keymap: dict[str, str], sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence):
        check_keymap(keymap, ALL_KEYS)


@pytest.mark.parametrize("keys", ["f5", "ctrl+r,f6", "alt+enter", "?", "pageup", "ö"])
def test_keys_that_keyboards_have_are_taken(keys: str) -> None:
    check_keymap({"app.restart": keys}, ALL_KEYS)


def test_names_of_models_cannot_drive_the_terminal() -> None:
    async def check() -> None:
        model = replace(MODEL, name="\x1b[31mred [b]bold")
        app = fake_app(FakeEngine(model=model))
        async with app.run_test() as pilot:
            await pilot.pause()
            assert status(app).startswith("\\x1b[31mred [b]bold")

    run(check())


def status(app: EngramApp) -> str:
    """Return what the status line says."""
    return str(app.screen.query_one(StatusLine).content)


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("f5", "F5"),
        ("ctrl+r", "Ctrl-R"),
        ("enter", "Enter"),
        ("m", "m"),
        ("M", "M"),
        ("slash", "/"),
        ("pageup", "PgUp"),
        ("shift+enter", "Shift-Enter"),
    ],
)
def test_keys_are_written_as_on_a_keyboard(key: str, shown: str) -> None:
    assert shown_key(key) == shown
