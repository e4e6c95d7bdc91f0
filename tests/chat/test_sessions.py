"""Sessions in their file: all that was said is found again."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from engram_local.chat import session as session_module
from engram_local.chat.export import export
from engram_local.chat.records import ChatSettings
from engram_local.chat.session import Session
from engram_local.chat.sessions import SessionStore, default_path
from engram_local.errors import SessionError
from engram_local.settings import Settings
from tests.chat.test_conversation import STATS, texts

SETTINGS = ChatSettings.of(Settings(temperature=0.5, seed=3))


def refuse(error: SessionError) -> None:
    raise AssertionError(error)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "sessions.db"


@pytest.fixture
def store(path: Path) -> Iterator[SessionStore]:
    with SessionStore(path, on_lost=refuse) as opened:
        yield opened


def begin(store: SessionStore, *said: str) -> Session:
    """Begin a session: a question, an answer, a question ..."""
    session = store.create(
        model="/models/smol.gguf", memory="words.gguf", system=None, settings=SETTINGS
    )
    conversation = session.conversation
    for index, text in enumerate(said):
        if index % 2 == 0:
            conversation.ask(text)
        else:
            message = conversation.begin_answer()
            conversation.extend(message.id, text)
            conversation.finish(message.id, "complete", STATS)
    return session


def test_a_session_is_found_again_as_it_was(store: SessionStore, path: Path) -> None:
    session = begin(store, "Hi", "Hello", "And?", "More")
    session.conversation.system = "Be brief."
    session.conversation.undo()
    with SessionStore(path, on_lost=refuse) as other:
        found = other.load(session.id)
    assert found.conversation.messages() == session.conversation.messages()
    assert texts(found.conversation) == ["Hi", "Hello"]
    assert found.conversation.system == "Be brief."
    assert (found.title, found.model, found.memory) == (
        "Hi",
        "/models/smol.gguf",
        "words.gguf",
    )
    assert found.settings == SETTINGS


def test_a_session_goes_on_where_it_was_left(store: SessionStore) -> None:
    session_id = begin(store, "Hi", "Hello").id
    store.load(session_id).conversation.ask("And?")
    assert texts(store.load(session_id).conversation) == ["Hi", "Hello", "And?"]


def test_nothing_is_written_before_the_first_message(store: SessionStore) -> None:
    session = begin(store)
    session.rename("a name")
    session.conversation.system = "Be brief."
    assert store.list() == ()
    assert store.newest() is None
    session.conversation.ask("Hi")
    found = store.load(session.id)
    assert (found.title, found.conversation.system) == ("a name", "Be brief.")


def test_the_title_is_the_first_line_of_the_first_question(
    store: SessionStore,
) -> None:
    assert begin(store, "\n  What is it?\nSay", "x", "more").title == "What is it?"
    assert len(begin(store, "x" * 300).title) == 80
    session = begin(store, "Hi")
    store.rename(session.id, "a name\nof two lines")
    assert store.load(session.id).title == "a name"


def test_a_session_keeps_settings_model_and_memory(store: SessionStore) -> None:
    session = begin(store, "Hi")
    session.change_settings(ChatSettings.of(Settings(top_k=7), memory_on=False))
    session.use_model("/models/other.gguf", None)
    found = store.load(session.id)
    assert (found.model, found.memory) == ("/models/other.gguf", None)
    assert found.settings.memory_on is False
    assert found.settings.over(Settings(n_ctx=512)) == Settings(top_k=7, n_ctx=512)


def test_list_is_newest_first(path: Path) -> None:
    now = iter(range(100))
    with SessionStore(path, on_lost=refuse, clock=lambda: next(now)) as store:
        first, second = begin(store, "one", "x"), begin(store, "two")
        assert [info.id for info in store.list()] == [second.id, first.id]
        first.conversation.ask("again")
        assert [info.id for info in store.list()] == [first.id, second.id]
        newest = store.newest()
        assert newest is not None and newest.id == first.id
        assert store.list()[0].n_messages == 3


@pytest.mark.parametrize(
    ("search", "n_found"), [("LEMUR", 1), ("100%", 1), ("%", 1), ("_", 0), ("x", 0)]
)
def test_search_looks_into_texts(
    search: str, n_found: int, store: SessionStore
) -> None:
    begin(store, "What is a lemur?", "It is 100% ape")
    begin(store, "Hi")
    assert len(store.list(search)) == n_found


def test_texts_that_are_no_texts_are_kept_and_found(path: Path) -> None:
    """A file's name need not be UTF-8; a byte-level token may be NUL."""
    settings = ChatSettings.of(Settings())
    with SessionStore(path, on_lost=refuse) as store:
        session = store.create(
            model="/models/caf\udce9.gguf",
            memory="/models/\udce9.gguf",
            system="Be \udce9",
            settings=settings,
        )
        session.conversation.ask("What\0is that?")
        message = session.conversation.begin_answer()
        session.conversation.extend(message.id, "An\0ape.")
        session.conversation.finish(message.id, "complete")
        session.rename("a \ud800 name")
        found_by = [len(store.list(text)) for text in ("ape", "name", "\ud800")]
        assert found_by == [1, 1, 1]
        found = store.load(session.id)
        assert found.model == "/models/caf?.gguf"
        assert texts(found.conversation) == ["What\ufffdis that?", "An\ufffdape."]
        with pytest.raises(SessionError, match="no session"):
            store.load("\udce9")
        exported = export(session, path.with_name("chat.json"), "json")
        assert "caf?.gguf" in exported.read_text("utf-8")


def test_a_renamed_session_is_found_by_its_title(store: SessionStore) -> None:
    session = begin(store, "Hi")
    session.rename("madagascar")
    assert [info.title for info in store.list("gascar")] == ["madagascar"]


def test_delete_removes_all_of_a_session(store: SessionStore, path: Path) -> None:
    kept, session = begin(store, "Hi", "Hello"), begin(store, "secret", "x")
    store.delete(session.id)
    assert [info.id for info in store.list()] == [kept.id]
    with pytest.raises(SessionError, match="no session"):
        store.load(session.id)
    with sqlite3.connect(path) as connection:
        count = connection.execute("SELECT count(*) FROM messages").fetchone()
    connection.close()
    assert count == (2,)


def test_the_first_digits_of_an_id_suffice(store: SessionStore) -> None:
    session = begin(store, "Hi")
    assert store.load(session.id[:7]).id == session.id
    with pytest.raises(SessionError, match="no session"):
        store.load("")
    with pytest.raises(SessionError, match="no session"):
        store.load("zz")


def test_an_answer_that_was_being_written_is_cut(
    store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "PIECE_S", 0.0)
    session = begin(store, "Hi")
    message = session.conversation.begin_answer()
    for word in ("one", " two", " three"):
        session.conversation.extend(message.id, word)
    found = store.load(session.id).conversation.message(message.id)
    assert (found.text, found.status) == ("one two three", "cut")
    # Another program may look while the answer is written.
    session.conversation.extend(message.id, " four")
    again = store.load(session.id).conversation.message(message.id)
    assert again.text == "one two three four"
    session.conversation.finish(message.id, "complete")
    done = store.load(session.id).conversation.message(message.id)
    assert (done.text, done.status) == ("one two three four", "complete")


def test_an_empty_answer_that_was_begun_is_cut(store: SessionStore) -> None:
    session = begin(store, "Hi")
    session.conversation.begin_answer()
    found = store.load(session.id).conversation.path()[-1]
    assert (found.text, found.status) == ("", "cut")


def test_only_this_user_can_read_the_file(store: SessionStore, path: Path) -> None:
    begin(store, "Hi")
    files = list(path.parent.iterdir())
    assert len(files) > 1
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_two_programs_write_to_the_same_session(
    store: SessionStore, path: Path
) -> None:
    here = begin(store, "Hi", "Hello")
    with SessionStore(path, on_lost=refuse) as other:
        there = other.load(here.id)
        there.conversation.ask("from there")
        here.conversation.ask("from here")
    found = store.load(here.id).conversation
    assert texts(found) == ["Hi", "Hello", "from here"]
    assert len(found.messages()) == 4


def test_the_place_is_where_the_platform_keeps_data(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/elsewhere")
    assert default_path() == Path("/elsewhere/engram-local/sessions.db")


def test_what_cannot_be_written_is_told_once_and_the_chat_goes_on(path: Path) -> None:
    lost: list[SessionError] = []
    with (
        SessionStore(path, on_lost=lost.append) as store,
        SessionStore(path, on_lost=refuse) as other,
    ):
        session = begin(store, "Hi", "Hello")
        other.delete(session.id)
        session.conversation.ask("And?")
        message = session.conversation.begin_answer()
        session.conversation.extend(message.id, "more")
    assert len(lost) == 1 and "no longer" in lost[0].message
    assert session.is_lost
    assert texts(session.conversation) == ["Hi", "Hello", "And?", "more"]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE sessions SET settings = '{'",
        "UPDATE sessions SET settings = '{\"speed\": 1}'",
        "UPDATE sessions SET leaf_id = 'none'",
        "UPDATE messages SET stats = '[]'",
        "UPDATE messages SET parent_id = 'none'",
        "UPDATE messages SET parent_id = id",
    ],
)
def test_a_session_that_was_changed_by_others_is_an_error(
    change: str, store: SessionStore, path: Path
) -> None:
    session = begin(store, "Hi", "Hello")
    with sqlite3.connect(path) as connection:
        connection.execute(change)
    connection.close()
    with pytest.raises(SessionError, match="not as this program wrote it"):
        store.load(session.id)


def test_halves_of_characters_are_stored_as_question_marks(
    store: SessionStore,
) -> None:
    session = begin(store, "a \udc80 b")
    session.conversation.system = "\udc80"
    found = store.load(session.id).conversation
    assert (found.path()[0].text, found.system) == ("a ? b", "?")
