"""What the app leaves in the file of sessions, however it ends, and finds there."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from textual.geometry import Offset
from textual.pilot import Pilot
from textual.selection import Selection

from engram_local.chat.commands import COMMANDS
from engram_local.chat.sessions import SessionStore
from engram_local.errors import SessionError
from engram_local.worker.protocol import Generate, Open
from tests.tui.driving import ask, chat_of, drive, settle, shown, toasts
from tests.tui.fakes import Answer, FakeEngine, fake_app, fake_engines
from tui.app import EngramApp
from tui.options import TuiOptions
from tui.screens.memory import MemoryScreen

LEMUR = "A lemur is a primate."
NEW = next(command for command in COMMANDS if command.name == "new")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data" / "sessions.db"


def app_with(file: Path, *engines: FakeEngine, **changes: object) -> EngramApp:
    options: TuiOptions = replace(fake_app().options, **changes)  # type: ignore[arg-type]
    return EngramApp(options, make_port=fake_engines(*engines), sessions=file)


def texts_in(file: Path) -> list[tuple[str, str]]:
    """Return texts and states of the newest session."""
    with SessionStore(file, on_lost=lambda error: None) as store:
        session = store.newest()
        assert session is not None
        return [(one.text, one.status) for one in session.conversation.path()]


def test_quitting_in_the_middle_of_an_answer_keeps_it(file: Path) -> None:
    async def run() -> None:
        engine = FakeEngine(Answer(chunks=("A lem",), waits=True))
        app = app_with(file, engine)
        async with app.run_test() as pilot:
            await settle(pilot)
            await ask(pilot, "What is a lemur?")
            await pilot.press("ctrl+q")
        assert engine.is_closed

    asyncio.run(run())
    assert texts_in(file) == [("What is a lemur?", "complete"), ("A lem", "cut")]


def newest_id(file: Path) -> str:
    with SessionStore(file, on_lost=lambda error: None) as store:
        session = store.newest()
        assert session is not None
        return session.id


def test_flags_count_more_than_what_a_session_was_held_with(file: Path) -> None:
    async def run(app: EngramApp) -> Generate:
        async with app.run_test() as pilot:
            await settle(pilot)
            await ask(pilot, "one")
        assert app.link.asked is not None
        return app.link.asked

    before = asyncio.run(run(app_with(file, system="Be kind.")))
    assert before.settings.temperature == 0.8
    changes = {"session": newest_id(file), "sampling": {"temperature": 0.0}}
    asked = asyncio.run(run(app_with(file, **changes)))
    assert asked.settings.temperature == 0.0
    assert asked.messages[0].content == "Be kind."
    asked = asyncio.run(run(app_with(file, system="Be brief.", **changes)))
    assert asked.messages[0].content == "Be brief."


def test_the_newest_session_is_gone_on_with(file: Path) -> None:
    engine = FakeEngine()

    async def run(app: EngramApp, question: str) -> list[str]:
        async with app.run_test() as pilot:
            await settle(pilot)
            if question:
                await ask(pilot, question)
            return shown(app)

    asyncio.run(run(app_with(file), "one"))
    found = asyncio.run(run(app_with(file, engine, session=newest_id(file)), ""))
    assert found == ["one", LEMUR]


def test_a_session_is_gone_on_with_as_it_was(file: Path) -> None:
    """Its memory was off: it is off again, before anything is asked."""

    async def off(app: EngramApp) -> str:
        async with app.run_test() as pilot:
            await settle(pilot)
            await ask(pilot, "/memory off")
            await ask(pilot, "one")
            return chat_of(app).talk.session.id

    async def again(app: EngramApp) -> None:
        async with app.run_test() as pilot:
            await settle(pilot)
            assert not app.link.state.memory_on

    engine = FakeEngine()
    session_id = asyncio.run(off(app_with(file)))
    asyncio.run(again(app_with(file, engine, session=session_id)))
    (opening,) = engine.requests
    assert isinstance(opening, Open)
    assert not opening.memory_on


def test_a_broken_file_is_no_reason_not_to_chat(file: Path) -> None:
    file.parent.mkdir(parents=True)
    file.write_bytes(b"not a database, and long enough to be looked at" * 100)

    async def run() -> None:
        app = app_with(file)
        async with app.run_test() as pilot:
            await settle(pilot)
            await ask(pilot, "one")
            assert shown(app) == ["one", LEMUR]
            assert "is not kept" in toasts(app)

    asyncio.run(run())
    with pytest.raises(SessionError):
        app_with(file, session="abc")


def test_an_unknown_session_is_refused(file: Path) -> None:
    with pytest.raises(SessionError, match="no session"):
        app_with(file, session="abc")


def test_ctrl_c_copies_what_is_selected_and_stops_nothing() -> None:
    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await ask(pilot, "What is a lemur?")
        transcript = chat_of(app).transcript
        span = Selection(Offset(2, 1), Offset(8, 4))
        app.screen.selections = {transcript: span}
        await pilot.press("ctrl+c")
        await settle(pilot)
        assert app.clipboard == "What is a lemur?\n\nSmolLM2 135M Instruct\nA lemu"
        assert chat_of(app).talk.is_answering
        prompt = chat_of(app).prompt
        prompt.put("typed")
        prompt.select_all()
        await pilot.press("ctrl+c")
        assert app.clipboard == "typed"

    drive(act, FakeEngine(Answer(chunks=(LEMUR,), waits=True)))


def test_an_edit_ends_with_its_session() -> None:
    """Its question is not in the next session, where it was looked for."""

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await ask(pilot, "one")
        await pilot.press("ctrl+e", "ctrl+n")
        await settle(pilot)
        assert not chat_of(app).prompt.has_class("editing")
        await ask(pilot, "two")
        assert shown(app) == ["two", LEMUR]

    drive(act)


def test_deleting_what_another_program_deleted_is_said() -> None:
    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await ask(pilot, "one")
        session_id = chat_of(app).talk.session.id
        await ask(pilot, "/new")
        await ask(pilot, f"/delete {session_id}")
        app.store.delete(session_id)
        await pilot.press("y")
        await settle(pilot)
        assert f"no session with the id '{session_id}'" in toasts(app)

    drive(act)


def test_commands_and_screens_leave_all_lists_and_questions() -> None:
    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await ask(pilot, "one")
        await ask(pilot, "/new")
        await pilot.press("f7")
        await settle(pilot)
        await app.run_command(NEW)
        await settle(pilot)
        chat_of(app)
        await pilot.press("f7", "delete", "f3")
        await settle(pilot)
        assert isinstance(app.screen, MemoryScreen)
        await pilot.press("f2")
        await settle(pilot)
        chat_of(app)

    drive(act)
