"""`run` on a terminal: what is typed, said, and kept."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engram_local.chat.session import Session
from engram_local.chat.sessions import SessionStore, default_path
from engram_local.cli import line_chat, main, options, typed
from engram_local.errors import BackboneError, FitError, SessionError
from tests.cli.fakes import FakeEngine, Open, terminal


def refuse(error: SessionError) -> None:
    raise AssertionError(error)


def newest() -> Session:
    """Return the session that was used last."""
    with SessionStore(default_path(), on_lost=refuse) as store:
        session = store.newest()
    assert session is not None
    return session


def n_sessions() -> int:
    with SessionStore(default_path(), on_lost=refuse) as store:
        return len(store.list())


def kept() -> list[str]:
    """Return the texts of the newest session's shown branch."""
    return [message.text for message in newest().conversation.path()]


def said(engine: FakeEngine) -> list[list[str]]:
    """Return the texts that each answer's prompt had."""
    return [[message["content"] for message in prompt] for prompt in engine.prompts]


class Chat:
    """Types lines into `run` and returns what it printed."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self.code = 0

    def __call__(self, *lines: str, flags: tuple[str, ...] = ()) -> tuple[str, str]:
        terminal(self._monkeypatch, *lines)
        self.code = main(["run", *flags])
        out, err = self._capsys.readouterr()
        return out, err


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Chat:
    return Chat(monkeypatch, capsys)


def test_chat_keeps_what_was_said(fake: Open, chat: Chat) -> None:
    engine = fake()
    out, err = chat("Hi", "", "And?")
    assert chat.code == 0
    assert said(engine) == [["Hi"], ["Hi", "Hello world", "And?"]]
    assert engine.prompts[1][1]["role"] == "assistant"
    assert out == "Hello world\nHello world\n"
    assert "/tui goes on in the chat app" in err
    assert "\x1b" not in err


def test_a_chat_goes_on_in_the_app(
    fake: Open, chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine is closed before: two of them may not fit."""
    engine = fake()
    opened = []

    def run(args: argparse.Namespace) -> int:
        assert engine.closed
        opened.append((args.session, args.resume, args.theme))
        return 5

    monkeypatch.setattr(line_chat.tui, "run", run)
    chat("Hi", "/tui", "never read")
    assert (chat.code, opened) == (5, [(newest().id, False, None)])
    chat("/tui", flags=("--no-save",))
    assert opened[1:] == [(None, False, None)]


def test_chat_needs_ctrl_c_twice_to_quit(fake: Open, chat: Chat) -> None:
    engine = fake()
    _, err = chat("^C", "Hi", "^C", "^C", "never read")
    assert chat.code == 130
    assert len(engine.prompts) == 1
    assert "once more" in err


def test_ctrl_c_ends_the_answer_only(fake: Open, chat: Chat) -> None:
    engine = fake(words=["one", " two", " three"], interrupt_after=1)
    chat("Count", "Go on")
    assert said(engine)[1] == ["Count", "one", "Go on"]
    assert newest().conversation.path()[1].status == "cut"


def test_a_second_ctrl_c_quits_and_keeps_the_text(
    fake: Open, chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(words=["one", " two"], interrupt_after=1)
    monkeypatch.setattr(FakeEngine, "cancel", lambda self: self._press_ctrl_c())
    chat("Count", "never read")
    assert chat.code == 130
    assert kept() == ["Count", "one"]


def test_an_engine_that_fails_ends_the_chat_and_keeps_it(
    fake: Open, chat: Chat
) -> None:
    fake(error=BackboneError("llama.cpp failed"))
    _, err = chat("Hi", "never read")
    assert chat.code == 1 and "error[backbone-failed]" in err
    assert kept() == ["Hi", ""]


def test_commands_that_are_wrong_are_told(fake: Open, chat: Chat) -> None:
    fake()
    _, err = chat("/regn", "/set temp 1000", "/theme dark", "/memory off", "/load x")
    assert "there is no command /regn; did you mean /regen" in err
    assert "temperature is 1000.0, 0 to 100 are possible" in err
    assert err.count("in the chat app: engram-local tui") == 2
    assert "opened without a memory" in err


@pytest.mark.parametrize("word", ["/bye", "/exit", "/quit", "/q"])
def test_a_word_ends_it(word: str, fake: Open, chat: Chat) -> None:
    engine = fake()
    chat(word, "never read")
    assert chat.code == 0 and engine.prompts == [] and engine.closed


def test_help_lists_what_the_line_chat_does(fake: Open, chat: Chat) -> None:
    fake()
    _, err = chat("/help")
    assert "/bye " in err and "/regen " in err and "Ctrl-C " in err
    assert "/theme" not in err


# --- answers ----------------------------------------------------------------------


def test_regenerate_and_variants(fake: Open, chat: Chat) -> None:
    engine = fake()
    _, err = chat("Hi", "/regen", "/variant 1", "/variant 3")
    assert said(engine) == [["Hi"], ["Hi"]]
    assert "the newest answer has 2 variants" in err
    conversation = newest().conversation
    first, second = conversation.variants(conversation.path()[1].id)
    assert conversation.leaf_id == first.id != second.id


def test_continue_goes_on_with_the_same_answer(fake: Open, chat: Chat) -> None:
    engine = fake()
    out, err = chat("/continue", "Hi", "/continue", "/stats")
    assert "no answer to go on with" in err
    assert said(engine) == [["Hi"], ["Hi", "Hello world"]]
    assert kept() == ["Hi", "Hello worldHello world"]
    assert out == "Hello world\nHello world\n"
    assert "4 tokens at 4.0/s" in err


def test_edit_asks_something_else_instead(fake: Open, chat: Chat) -> None:
    engine = fake()
    _, err = chat("/edit x", "Hi", "And?", "/edit Why?", "/edit")
    assert "there is no question yet" in err
    assert said(engine)[2] == ["Hi", "Hello world", "Why?"]
    assert "give the new text: /edit TEXT" in err
    assert kept() == ["Hi", "Hello world", "Why?", "Hello world"]


def test_edit_offers_the_question_where_lines_can_be_edited(
    fake: Open, chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake()
    monkeypatch.setattr(typed, "edited", lambda text: text + "!")
    chat("Hi", "/edit")
    assert kept() == ["Hi!", "Hello world"]


def test_undo_takes_back_a_question(fake: Open, chat: Chat) -> None:
    engine = fake()
    _, err = chat("Hi", "Wrong", "/undo", "Right", "/undo", "/undo", "/undo")
    assert "taken back: Wrong" in err and "nothing is said yet" in err
    assert said(engine)[2] == ["Hi", "Hello world", "Right"]
    assert kept() == []


def test_clear_begins_anew_in_the_session(fake: Open, chat: Chat) -> None:
    engine = fake()
    chat("Hi", "/clear", "Anew")
    assert said(engine)[1] == ["Anew"]
    assert len(newest().conversation.messages()) == 4
    assert n_sessions() == 1


def test_code_is_printed_as_it_stands(fake: Open, chat: Chat) -> None:
    fake(words=["```sh\n", "ls  -l\n", "```\n"])
    out, err = chat("/code", "Hi", "/code", "/code 2")
    assert out.endswith("```\n\nls  -l\n")
    assert "the answer has no code block" in err
    assert "the answer has one code block" in err


def test_quotes_begin_and_end_a_text_of_several_lines(fake: Open, chat: Chat) -> None:
    engine = fake()
    chat('"""first', "  second", "", '/bye"""  ', '"""one line"""', '"""open')
    assert said(engine)[0] == ["first\n  second\n\n/bye"]
    assert said(engine)[1][-1] == "one line"
    assert len(engine.prompts) == 2


# --- context ----------------------------------------------------------------------


def test_the_oldest_messages_are_left_out_and_it_is_said(
    fake: Open, chat: Chat
) -> None:
    engine = fake(n_ctx=40)
    _, err = chat("one " * 25, "two " * 25, "/context")
    assert said(engine)[1] == [("two " * 25).strip()]
    assert "the model does not see the 2 oldest messages" in err
    assert "27 of 40 tokens (68%), 2 messages left out" in err
    assert len(kept()) == 4


def test_a_question_that_does_not_fit_is_told_and_the_chat_goes_on(
    fake: Open, chat: Chat
) -> None:
    engine = fake(error=FitError("the prompt is 9 tokens", hint="use -c"))
    _, err = chat("long", "long")
    assert chat.code == 0
    assert err.count("the prompt is 9 tokens; use -c") == 2
    assert said(engine)[1] == ["long"]


def test_a_context_that_gets_full_is_told(fake: Open, chat: Chat) -> None:
    fake(n_ctx=6)  # of which an answer takes 3 + 2
    assert "the context is 83% full" in chat("Hi")[1]
    fake(n_ctx=7)
    assert "full" not in chat("Hi")[1]


# --- settings ---------------------------------------------------------------------


def test_settings_are_used_shown_and_kept(fake: Open, chat: Chat) -> None:
    engine = fake()
    _, err = chat("Hi", "/set temp 0.25", "/set seed 4", "/set", "Hi")
    assert "temperature 0.25" in err and "seed 4" in err
    assert [one.temperature for one in engine.settings] == [0.8, 0.25]
    assert newest().settings.seed == 4


def test_the_system_prompt_can_be_changed(fake: Open, chat: Chat) -> None:
    engine = fake()
    _, err = chat("/system", "Hi", "/system Be brief.", "Hi", flags=("--system", "Go!"))
    assert "system prompt: Go!" in err and "system prompt: Be brief." in err
    assert said(engine)[0][0] == "Go!" and said(engine)[1][0] == "Be brief."
    assert newest().conversation.system == "Be brief."


def test_memory_is_switched_and_the_conversation_goes_on(
    fake: Open, chat: Chat
) -> None:
    engine = fake(can_leave_out_memory=True)
    chat("Hi", "/memory off", "And?")
    assert len(said(engine)[1]) == 3
    assert newest().settings.memory_on is False


def test_a_memory_that_is_not_used_stays_that_of_the_session(
    fake: Open, chat: Chat
) -> None:
    module = SimpleNamespace(
        path=Path("/models/words.gguf"), spec=SimpleNamespace(table_bytes=1)
    )
    memory = SimpleNamespace(
        kind="attached", module=module, tier="mmap", layer_ids=(2,), resident_bytes=1
    )
    fake(can_leave_out_memory=True, memory=memory)
    chat("Hi")
    session_id = newest().id
    chat("/memory off", "/new", "Hello", f"/resume {session_id}", "And?")
    assert (newest().id, newest().memory) == (session_id, "/models/words.gguf")


# --- sessions ---------------------------------------------------------------------


def test_continue_flag_goes_on_with_the_newest_session(fake: Open, chat: Chat) -> None:
    fake()
    chat("Old")
    chat("Hi", "/set top_k 3", "/system Be brief.")
    engine = fake()
    _, err = chat("And?", flags=("-C", "--temp", "0"))
    assert said(engine) == [["Be brief.", "Hi", "Hello world", "And?"]]
    assert "Hi (2 messages)\n>>> Hi\nHello world\n" in err
    assert (engine.settings[0].top_k, engine.settings[0].temperature) == (3, 0)
    assert n_sessions() == 2


def test_a_session_is_chosen_by_its_id(fake: Open, chat: Chat) -> None:
    fake()
    chat("Old")
    session_id = newest().id
    chat("Hi")
    engine = fake()
    chat("And?", flags=("--session", session_id[:6]))
    assert said(engine)[0][0] == "Old"
    for nothing in ("zz", ""):
        chat(flags=("--session", nothing))
        assert chat.code == 1


def test_without_a_session_there_is_none_to_go_on_with(fake: Open, chat: Chat) -> None:
    fake()
    _, err = chat("Hi", flags=("-C",))
    assert chat.code == 1
    assert "there is no session yet\nhint: leave out -C" in err


def test_the_sessions_model_is_loaded_where_none_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fake: Open, chat: Chat
) -> None:
    own = tmp_path / "its own.gguf"
    own.touch()
    engine = fake(path=own)
    chat("Hi")
    opened: list[Any] = []

    def open_engine(args: Any, _settings: object) -> FakeEngine:
        opened.append(options.model_of(args))
        return engine

    monkeypatch.setattr(options, "open_engine", open_engine)
    chat("And?", flags=("-C",))
    other = tmp_path / "other.gguf"
    chat("And?", flags=("-C", "-m", str(other)))
    assert opened == [own, other]
    own.unlink()
    _, err = chat("And?", flags=("-C",))
    assert chat.code == 3 and f"the model of this session is gone: {own}" in err


def test_no_save_keeps_nothing(fake: Open, chat: Chat) -> None:
    engine = fake()
    _, err = chat("Hi", "/regen", "/sessions", flags=("--no-save",))
    assert len(engine.prompts) == 2 and "Hi" in err
    assert not default_path().exists()


def test_sessions_are_listed_resumed_renamed_and_deleted(
    fake: Open, chat: Chat
) -> None:
    fake()
    chat("About lemurs")
    old = newest().id
    engine = fake()
    _, err = chat(
        "Hi",
        "/sessions LEMUR",
        f"/resume {old}",
        "And?",
        "/rename Apes",
        "/new",
        f"/delete {old}",
    )
    listed = next(line for line in err.splitlines() if line.startswith(old))
    assert listed.endswith("2 messages  fakes.py  About lemurs")
    assert said(engine)[1][0] == "About lemurs"
    assert "deleted: Apes" in err
    assert n_sessions() == 1


def test_the_session_that_is_going_on_is_not_deleted(fake: Open, chat: Chat) -> None:
    fake()
    chat("Hi")
    _, err = chat(f"/delete {newest().id}", flags=("-C",))
    assert "this session is going on" in err and n_sessions() == 1


def test_export_writes_a_file(fake: Open, chat: Chat, tmp_path: Path) -> None:
    fake()
    path = tmp_path / "chat.json"
    _, err = chat("Hi", f"/export {path}", f"/export {path}")
    assert json.loads(path.read_text("utf-8"))["title"] == "Hi"
    assert f"written: {path}" in err and f"{path} exists" in err


def test_a_damaged_file_of_sessions_is_told_and_one_can_chat(
    fake: Open, chat: Chat
) -> None:
    fake()
    chat("Hi")
    default_path().write_bytes(b"\xff" * 5000)
    out, err = chat("Hi")
    assert out == "Hello world\n" and "damaged" in err and "is not kept" in err
    chat("Hi", flags=("-C",))
    assert chat.code == 1


def test_titles_cannot_drive_the_terminal(fake: Open, chat: Chat) -> None:
    fake(words=["\x1b[31mred"])
    chat("\x1b[2Jtitle")
    out, err = chat("/sessions", "/regen", flags=("-C",))
    assert "\x1b" not in out + err and "\\x1b[2Jtitle" in err
