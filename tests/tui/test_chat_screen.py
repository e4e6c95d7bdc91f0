"""The chat screen by its keys: asking, stopping, variants, edits, copies, commands."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from textual import events
from textual.pilot import Pilot
from textual.widgets import OptionList, Static

from engram_local.chat.conversation import ChatMessage
from engram_local.errors import FileError, FitError
from engram_local.worker.protocol import Generate, LookAtTable, Open, UseMemory
from tests.model_folders import put
from tests.tui.acting import until
from tests.tui.driving import ask, chat_of, drive, settle, shown, toasts
from tests.tui.fakes import MODEL, STATUS, Answer, FakeEngine, fake_app
from tui.app import EngramApp
from tui.screens.confirm import ConfirmScreen
from tui.screens.help import HelpScreen, command_rows
from tui.screens.sessions import SessionsScreen
from tui.screens.settings import SettingsScreen
from tui.widgets.banner import Banner
from tui.widgets.command_hints import CommandHints
from tui.widgets.prompt import Prompt, fitting_commands, rest_of_command
from tui.widgets.sidebar import Sidebar
from tui.widgets.status_line import used_tokens

LEMUR = "A lemur is a primate."


def test_an_answer_is_shown_with_its_numbers() -> None:
    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await ask(pilot, "What is a lemur?")
        question, answer = chat_of(app).transcript.entries
        assert (question.text, answer.text) == ("What is a lemur?", LEMUR)
        assert answer.head == MODEL.name
        assert "6 tokens at" in answer.foot
        assert "memory mmap, 32 rows, stall p50 0.04 ms" in answer.foot

    drive(act, FakeEngine())


def test_the_engine_is_asked_with_all_that_was_said() -> None:
    engine = FakeEngine()

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await ask(pilot, "one")
        await ask(pilot, "two")

    drive(act, engine)
    said = [one for one in engine.requests if isinstance(one, Generate)][-1].messages
    assert said == (
        ChatMessage(role="user", content="one"),
        ChatMessage(role="assistant", content=LEMUR),
        ChatMessage(role="user", content="two"),
    )


@pytest.mark.parametrize("key", ["escape", "ctrl+c"])
def test_stopping_keeps_the_text(key: str) -> None:
    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await ask(pilot, "What is a lemur?")
        assert chat_of(app).talk.is_answering
        await pilot.press(key)
        await settle(pilot)
        assert shown(app)[-1] == "A lemur"
        assert not chat_of(app).talk.is_answering
        assert "ended: cancelled" in chat_of(app).transcript.entries[-1].foot

    drive(act, FakeEngine(Answer(chunks=("A lemur",), waits=True)))


def test_what_is_typed_while_the_model_loads_is_asked_when_it_is_there() -> None:
    async def run() -> None:
        loaded = asyncio.Event()
        app = fake_app(FakeEngine(loads_until=loaded))
        async with app.run_test() as pilot:
            await settle(pilot)
            await ask(pilot, "early")
            assert shown(app) == ["early"]
            assert "waits" in chat_of(app).transcript.entries[0].foot
            loaded.set()
            await settle(pilot)
            assert shown(app) == ["early", LEMUR]

    asyncio.run(run())


def test_what_is_typed_during_an_answer_waits_and_can_be_taken_back() -> None:
    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await ask(pilot, "one")
        await ask(pilot, "two")
        assert shown(app) == ["one", "A", "two"]
        await pilot.press("escape")
        await settle(pilot)
        assert shown(app) == ["one", "A"]
        assert chat_of(app).prompt.text == "two"

    drive(act, FakeEngine(Answer(chunks=("A",), waits=True)))


def test_another_answer_is_a_variant_and_keys_go_through_them() -> None:
    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await ask(pilot, "Which?")
        await pilot.press("ctrl+r")
        await settle(pilot)
        assert shown(app)[-1] == "second"
        assert chat_of(app).transcript.entries[-1].head.endswith("◀ 2/2 ▶")
        await pilot.press("alt+left")
        await settle(pilot)
        assert shown(app)[-1] == "first"
        await pilot.press("alt+right")
        await settle(pilot)
        assert shown(app)[-1] == "second"

    drive(act, FakeEngine(Answer(chunks=("first",)), Answer(chunks=("second",))))


def test_an_edited_question_is_asked_in_place_of_the_other() -> None:
    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await ask(pilot, "What is a lemur?")
        await pilot.press("ctrl+e")
        await settle(pilot)
        assert chat_of(app).prompt.text == "What is a lemur?"
        await ask(pilot, "What is an indri?")
        assert shown(app) == ["What is an indri?", LEMUR]
        assert chat_of(app).transcript.entries[0].head == "You  ◀ 2/2 ▶"

    drive(act, FakeEngine())


def test_an_edit_can_be_left() -> None:
    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await ask(pilot, "one")
        await pilot.press("ctrl+e")
        await settle(pilot)
        await pilot.press("escape")
        await ask(pilot, "two")
        assert shown(app) == ["one", LEMUR, "two", LEMUR]

    drive(act, FakeEngine())


def test_an_answer_can_be_gone_on_with() -> None:
    engine = FakeEngine(
        Answer(chunks=("A lemur",), reason="length"), Answer(chunks=(" is small.",))
    )

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await ask(pilot, "What is a lemur?")
        await pilot.press("ctrl+o")
        await settle(pilot)
        assert shown(app)[-1] == "A lemur is small."

    drive(act, engine)
    request = engine.requests[-1]
    assert isinstance(request, Generate)
    assert request.messages[-1] == ChatMessage(role="assistant", content="A lemur")


def test_undo_brings_the_question_back_into_the_prompt() -> None:
    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await ask(pilot, "one")
        await pilot.press("ctrl+u")
        await settle(pilot)
        assert shown(app) == []
        assert chat_of(app).prompt.text == "one"

    drive(act, FakeEngine())


CODE = "Two:\n\n```python\nx = 1\n\n\ty\n```\n\nand\n\n```\nz \n```\n"


def test_messages_and_code_are_copied_exactly() -> None:
    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await ask(pilot, "Code?")
        await pilot.press("ctrl+y")
        await settle(pilot)
        assert app.clipboard == CODE
        await pilot.press("ctrl+k")
        await settle(pilot)
        assert app.clipboard == "x = 1\n\n\ty"
        await pilot.press("ctrl+k")
        await settle(pilot)
        assert app.clipboard == "z "
        await pilot.press("ctrl+k")
        await settle(pilot)
        assert app.clipboard == "x = 1\n\n\ty"
        await ask(pilot, "/regen")
        await pilot.press("ctrl+k", "alt+left", "ctrl+k")
        await settle(pilot)
        assert app.clipboard == "x = 1\n\n\ty"
        await pilot.press("alt+up", "alt+up", "ctrl+y")
        await settle(pilot)
        assert app.clipboard == "Code?"

    drive(act, FakeEngine(Answer(chunks=(CODE,)), Answer(chunks=(CODE,))))


def test_enter_sends_and_other_keys_begin_a_line() -> None:
    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await pilot.press("a", "ctrl+j", "b", "alt+enter", "c", "shift+enter", "d")
        await pilot.press("enter")
        await settle(pilot)
        assert shown(app)[0] == "a\nb\nc\nd"
        assert chat_of(app).prompt.text == ""

    drive(act, FakeEngine())


def test_the_prompt_grows_to_a_third_of_the_screen() -> None:
    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        prompt = chat_of(app).prompt
        heights = []
        for n_lines in (1, 4, 40):
            prompt.put("\n".join("x" * n_lines))
            await settle(pilot)
            heights.append(prompt.outer_size.height)
        assert heights == [3, 6, 13]

    drive(act, FakeEngine(), size=(120, 40))


def test_up_brings_the_last_question_into_an_empty_prompt_only() -> None:
    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await ask(pilot, "one")
        await pilot.press("up")
        assert chat_of(app).prompt.text == "one"
        chat_of(app).prompt.put("draft")
        await pilot.press("up")
        assert chat_of(app).prompt.text == "draft"

    drive(act, FakeEngine())


def test_a_draft_is_kept_while_other_screens_are_shown() -> None:
    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        chat_of(app).prompt.put("draft")
        await pilot.press("f3")
        await settle(pilot)
        await pilot.press("f2")
        await settle(pilot)
        assert chat_of(app).prompt.text == "draft"

    drive(act, FakeEngine())


def test_commands_are_hinted_at_and_completed() -> None:
    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        hints = chat_of(app).query_one(CommandHints)
        assert not hints.display
        await pilot.press("/", "u", "n")
        assert hints.display
        assert "/undo" in str(hints.content)
        await pilot.press("tab")
        assert chat_of(app).prompt.text == "/undo"
        assert app.focused is chat_of(app).query_one(Prompt)

    drive(act, FakeEngine())


def test_the_first_command_that_fits_is_suggested() -> None:
    assert rest_of_command("/ren") == "ame"
    assert rest_of_command("/") == ""
    assert rest_of_command("ren") == ""
    assert rest_of_command("/set temp") == ""
    assert fitting_commands("/zzz", 5) == []
    assert len(fitting_commands("/", 5)) == 6
    assert fitting_commands("hello", 5) == []


def test_an_unknown_command_is_explained_and_asks_nothing() -> None:
    engine = FakeEngine()

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await ask(pilot, "/regne")
        assert "there is no command /regne" in toasts(app)
        assert "/regen" in toasts(app)

    drive(act, engine)
    assert all(isinstance(request, Open) for request in engine.requests)


def test_the_memory_is_switched_by_a_command() -> None:
    engine = FakeEngine()

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await ask(pilot, "/memory off")
        assert not app.link.state.memory_on
        assert not chat_of(app).talk.session.settings.memory_on

    drive(act, engine)
    assert engine.requests[-1] == UseMemory(on=False)


def test_settings_are_checked_like_everywhere() -> None:
    engine = FakeEngine()

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await pilot.press("ctrl+t")
        await settle(pilot)
        assert isinstance(app.screen, SettingsScreen)
        field = app.screen.query_one("#temperature")
        field.value = "-1"  # type: ignore[attr-defined]
        await pilot.press("enter")
        assert isinstance(app.screen, SettingsScreen)
        problem = str(app.screen.query_one("#problem").content)  # type: ignore[attr-defined]
        assert problem == "temperature is -1.0, 0 to 100 are possible"
        field.value = "0.5"  # type: ignore[attr-defined]
        app.screen.query_one("#system").text = "Be brief."  # type: ignore[attr-defined]
        await pilot.press("enter")
        await settle(pilot)
        await ask(pilot, "one")

    drive(act, engine)
    request = engine.requests[-1]
    assert isinstance(request, Generate)
    assert request.settings.temperature == 0.5
    assert request.messages[0] == ChatMessage(role="system", content="Be brief.")


def test_a_dead_engine_leaves_the_text_and_is_restarted_by_a_key() -> None:
    first = FakeEngine(Answer(chunks=("A lem",), dies=True))
    second = FakeEngine()

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await ask(pilot, "What is a lemur?")
        assert shown(app)[-1] == "A lem"
        assert (
            "cut off: the engine was ended" in chat_of(app).transcript.entries[-1].foot
        )
        banner = chat_of(app).query_one(Banner)
        assert "GGML_ASSERT(false) failed" in str(banner.content)
        assert "F9 or /restart" in str(banner.content)
        await ask(pilot, "Again?")
        assert shown(app)[-1] == "Again?"
        await pilot.press("f9")
        await settle(pilot)
        assert not banner.display
        assert shown(app)[-1] == LEMUR
        assert app.link.state.memory_on

    drive(act, first, second)


def test_a_load_that_fails_says_what_to_do() -> None:
    error = FileError("no.gguf does not exist", hint="name another one")

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        text = str(chat_of(app).query_one(Banner).content)
        assert "no.gguf does not exist\nname another one" in text
        assert "/load MODEL" in text
        assert app.link.state.phase == "none"

    drive(act, FakeEngine(open_error=error))


def test_another_model_is_loaded(tmp_path: Path) -> None:
    engine = FakeEngine()
    path = put(tmp_path / "other.gguf")

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await ask(pilot, f"/load {path}")
        await until(pilot, lambda: "is loaded" in toasts(app))
        assert app.options.model == path

    drive(act, engine)
    assert isinstance(engine.requests[-1], Open)
    assert engine.requests[-1].model == str(path)


def test_what_is_no_model_leaves_the_one_that_is_loaded() -> None:
    engine = FakeEngine()

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await ask(pilot, "/load /nowhere/typo.gguf")
        await until(pilot, lambda: "/nowhere/typo.gguf does not exist" in toasts(app))
        assert app.link.state.model == MODEL

    drive(act, engine)
    assert len(engine.requests) == 1


def test_an_answer_that_cannot_be_given_says_why_and_the_question_stays() -> None:
    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await ask(pilot, "long")
        assert shown(app) == ["long", ""]
        foot = chat_of(app).transcript.entries[-1].foot
        assert foot == "cut off: the prompt is too long; shorten it"

    error = FitError("the prompt is too long", hint="shorten it")
    drive(act, FakeEngine(Answer(error=error)))


@pytest.mark.parametrize(("n_tokens", "warns"), [(3200, False), (3300, True)])
def test_the_context_warns_from_80_percent_on(n_tokens: int, warns: bool) -> None:
    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await ask(pilot, "one")
        banner = chat_of(app).query_one(Banner)
        assert banner.display == warns
        assert ("81 % full" in str(banner.content)) == warns

    status = replace(STATUS, n_tokens=n_tokens)
    drive(act, FakeEngine(replies={Generate: (status,)}))


def test_the_app_says_what_the_model_no_longer_sees() -> None:
    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await ask(pilot, "one")
        banner = str(chat_of(app).query_one(Banner).content)
        assert "no longer sees the 4 oldest messages" in banner

    drive(act, FakeEngine(Answer(n_left_out=4)))


def test_sessions_are_found_renamed_and_gone_on_with() -> None:
    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await ask(pilot, "about lemurs")
        await ask(pilot, "/new")
        await ask(pilot, "about indris")
        await pilot.press("f7")
        await settle(pilot)
        assert isinstance(app.screen, SessionsScreen)
        await pilot.press(*"lemurs")
        await settle(pilot)
        assert [one.title for one in app.screen._infos] == ["about lemurs"]
        await pilot.press(*"xx", "down", "delete", "enter")
        await settle(pilot)
        assert app.screen.query_one(OptionList).option_count == 1  # "there is none"
        await pilot.press(*["backspace"] * 8, "down")
        await pilot.press("ctrl+r", "!", "enter")
        await settle(pilot)
        assert app.store.list()[-1].title == "about lemurs!"
        await pilot.press("enter")
        await settle(pilot)
        assert shown(app) == ["about lemurs", LEMUR]

    drive(act, FakeEngine())


def test_a_session_is_deleted_only_if_the_user_is_sure() -> None:
    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await ask(pilot, "about lemurs")
        await ask(pilot, "/new")
        await pilot.press("f7")
        await settle(pilot)
        await pilot.press("delete")
        await settle(pilot)
        assert isinstance(app.screen, ConfirmScreen)
        await pilot.press("n")
        await settle(pilot)
        assert len(app.store.list()) == 1
        await pilot.press("delete")
        await settle(pilot)
        await pilot.press("y")
        await settle(pilot)
        assert app.store.list() == ()

    drive(act, FakeEngine())


def test_the_help_lists_keys_and_commands() -> None:
    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await pilot.press("f1")
        await settle(pilot)
        assert isinstance(app.screen, HelpScreen)
        keys = {name: keys for keys, _, name in app.screen.key_rows()}
        assert keys["chat.regenerate"] == "Ctrl-R"
        assert keys["prompt.newline"] == "Shift-Enter\nAlt-Enter\nCtrl-J"
        assert "/export [FILE|json]" in dict(command_rows())
        await pilot.press("escape")
        await settle(pilot)
        assert chat_of(app)

    drive(act, FakeEngine())


def test_the_palette_has_the_commands() -> None:
    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        commands = {one.title: one for one in app.get_system_commands(app.screen)}
        await commands["/set"].callback()
        await settle(pilot)
        assert isinstance(app.screen, SettingsScreen)
        await pilot.press("escape")
        await commands["/resume"].callback()
        await settle(pilot)
        assert chat_of(app).prompt.text == "/resume "

    drive(act, FakeEngine())


@pytest.mark.parametrize(("columns", "display"), [(80, False), (120, True)])
def test_the_sidebar_is_there_where_there_is_room(columns: int, display: bool) -> None:
    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        sidebar = chat_of(app).query_one(Sidebar)
        assert sidebar.display == display
        await pilot.press("ctrl+b")
        await settle(pilot)
        assert sidebar.display != display

    drive(act, FakeEngine(), size=(columns, 24))


def test_the_view_follows_only_at_the_end() -> None:
    chunks = tuple(f"line {number}\n\n" for number in range(60))

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await ask(pilot, "one")
        transcript = chat_of(app).transcript
        assert transcript.is_vertical_scroll_end
        await pilot.press("pageup")
        at = transcript.scroll_y
        await ask(pilot, "/undo")
        await pilot.press("enter")
        await settle(pilot)
        assert transcript.is_vertical_scroll_end
        await pilot.press("pageup")
        assert 0 < transcript.scroll_y <= at

    drive(act, FakeEngine(Answer(chunks=chunks), Answer(chunks=chunks)), size=(80, 24))


def test_keys_that_come_at_once_are_done_in_turn() -> None:
    """As from a slow line, or a program that types."""

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        for key in "one":
            app.post_message(events.Key(key, key))
        app.post_message(events.Key("enter", "\r"))
        for key in "two":
            app.post_message(events.Key(key, key))
        await settle(pilot)
        assert shown(app)[0] == "one"
        assert chat_of(app).prompt.text == "two"

    drive(act, FakeEngine())


@pytest.mark.parametrize("command", ["/new", "/clear", "/undo", "/memory off"])
def test_the_context_of_another_chat_is_not_shown(command: str) -> None:
    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        assert used_tokens(app.link.state) is None
        await ask(pilot, "one")
        assert used_tokens(app.link.state) == status.n_tokens
        assert chat_of(app).query_one(Banner).display
        await ask(pilot, command)
        assert used_tokens(app.link.state) is None
        assert not chat_of(app).query_one(Banner).display

    status = replace(STATUS, n_tokens=4000)
    drive(act, FakeEngine(replies={Generate: (status,)}))


def test_what_is_typed_is_not_lost_to_keys_that_shells_have_too() -> None:
    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await ask(pilot, "one")
        chat_of(app).prompt.put("a draft")
        await pilot.press("home", "ctrl+e")
        assert chat_of(app).prompt.text == "a draft"
        assert chat_of(app).prompt.cursor_location == (0, 7)
        await pilot.press("left", "left", "ctrl+u")
        await settle(pilot)
        assert chat_of(app).prompt.text == "ft"
        assert shown(app) == ["one", LEMUR]

    drive(act, FakeEngine())


@pytest.mark.parametrize("command", ["/memory on", "/tier ram", "/warm", "/evict"])
def test_without_a_memory_commands_say_how_to_load_one(command: str) -> None:
    engine = FakeEngine(model=replace(MODEL, memory=None, memory_on=False))

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await ask(pilot, command)
        assert "no memory is loaded\n/memory FILE loads one" in toasts(app)
        await ask(pilot, "one")
        session = chat_of(app).talk.session
        await ask(pilot, "/new")
        await ask(pilot, f"/resume {session.id}")
        assert shown(app) == ["one", LEMUR]

    drive(act, engine)
    assert not any(isinstance(one, UseMemory) for one in engine.requests)


def test_no_token_in_a_while_is_a_speed_too() -> None:
    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        async for _ in app.link.ask(LookAtTable(n_cells=1)):
            pass
        await settle(pilot)
        assert str(app.screen.query_one("#speeds", Static).content) == "·"
        assert "rows per second" in str(app.screen.query_one("#memory", Static).content)

    slow = replace(STATUS, tokens_per_s=0.0)
    drive(act, FakeEngine(replies={LookAtTable: (slow,)}))
