"""The file of sessions: shared, migrated, damaged, full, killed."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from random import Random

import pytest

from engram_local.chat import database
from engram_local.chat.database import MIGRATIONS, Database
from engram_local.chat.sessions import SessionStore
from engram_local.errors import SessionError
from tests.chat.test_sessions import begin, refuse


def open_store(path: Path) -> SessionStore:
    return SessionStore(path, on_lost=refuse)


def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    open_store(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    connection.close()
    with pytest.raises(SessionError, match="is of version 2") as caught:
        open_store(path)
    assert caught.value.hint is not None and "newer" in caught.value.hint


def test_an_older_file_is_brought_up_to_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sessions.db"
    with open_store(path) as store:
        begin(store, "Hi")
    newer = (*MIGRATIONS, ("ALTER TABLE sessions ADD COLUMN colour TEXT",))
    monkeypatch.setattr(database, "MIGRATIONS", newer)
    with open_store(path) as store:
        assert [info.title for info in store.list()] == ["Hi"]
    file = Database(path)
    assert file.rows("SELECT colour FROM sessions") == [(None,)]
    file.close()


@pytest.mark.parametrize("n_kept", [0, 100])
def test_a_damaged_file_is_an_error_and_stays(n_kept: int, tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    with open_store(path) as store:
        begin(store, "Hi")
    damaged = path.read_bytes()[:n_kept] + b"\xff" * 8192
    path.write_bytes(damaged)
    with pytest.raises(SessionError, match="damaged") as caught:
        open_store(path)
    assert caught.value.hint is not None and "move it away" in caught.value.hint
    assert path.read_bytes() == damaged


def test_damage_in_the_middle_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    with open_store(path) as store:
        session_id = begin(store, "Hi", "x" * 50_000).id
    data = bytearray(path.read_bytes())
    for start in range(4096, len(data), 4096):
        data[start : start + 100] = b"\xff" * 100
    path.write_bytes(data)
    with open_store(path) as store, pytest.raises(SessionError, match="damaged"):
        store.load(session_id)


def test_a_place_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SessionError, match="cannot be opened or made"):
        open_store(tmp_path / "file" / "sessions.db")


def test_a_full_drive_ends_saving_and_not_the_chat(tmp_path: Path) -> None:
    lost: list[SessionError] = []
    with SessionStore(tmp_path / "sessions.db", on_lost=lost.append) as store:
        session = begin(store, "Hi")
        store._database.rows("PRAGMA max_page_count = 12")  # as if it were full
        session.conversation.ask("x" * 100_000)
        session.conversation.ask("And?")
    assert len(session.conversation.path()) == 3
    assert [error.message.split(": ")[-1] for error in lost] == ["the drive is full"]
    with open_store(tmp_path / "sessions.db") as store:
        assert len(store.load(session.id).conversation.path()) == 1


def test_a_program_that_holds_the_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_S", 0.01)
    lost: list[SessionError] = []
    with (
        open_store(tmp_path / "sessions.db") as holder,
        SessionStore(tmp_path / "sessions.db", on_lost=lost.append) as store,
        holder._database.writing(),
    ):
        begin(store, "Hi")
    assert len(lost) == 1 and "another program holds" in lost[0].message


def test_a_transaction_that_fails_leaves_nothing(tmp_path: Path) -> None:
    file = Database(tmp_path / "sessions.db")
    with pytest.raises(SessionError), file.writing() as connection:
        connection.execute("INSERT INTO pieces (message_id, text) VALUES ('', '')")
        raise sqlite3.OperationalError("made up")
    assert file.rows("SELECT count(*) FROM pieces") == [(0,)]
    file.close()


def _open_and_ask(path: Path) -> str:
    with open_store(path) as store:
        return begin(store, *(["Hi", "Hello"] * 10)).id


def test_many_programs_begin_with_the_same_new_file(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        ids = list(pool.map(_open_and_ask, [path] * 8))
    with open_store(path) as store:
        assert {info.id for info in store.list()} == set(ids)
        assert {info.n_messages for info in store.list()} == {20}


WRITER = """
import sys, time
from pathlib import Path
from tests.chat.test_database import open_store
from tests.chat.test_sessions import begin

store = open_store(Path(sys.argv[1]))
conversation = begin(store).conversation
for turn in range(1000):
    conversation.ask(f"question {turn}")
    answer = conversation.begin_answer()
    for token in range(150):
        before = time.monotonic()
        conversation.extend(answer.id, f"{token} ")
        print(turn, token, before, time.monotonic(), flush=True)
        time.sleep(0.002)
    conversation.finish(answer.id, "complete")
"""


def test_a_kill_at_any_moment_loses_a_tenth_of_a_second_at_most(
    tmp_path: Path,
) -> None:
    random = Random(7)
    for attempt in range(4):
        path = tmp_path / f"{attempt}.db"
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert writer.stdout is not None
        printed = [writer.stdout.readline()]
        time.sleep(random.uniform(0.1, 0.6))
        writer.send_signal(signal.SIGKILL)
        printed += writer.stdout.readlines()
        writer.wait()
        writer.stdout.close()
        _check(path, [line for line in printed if line.endswith("\n")])


def _check(path: Path, printed: list[str]) -> None:
    """All that was said 100 ms before the last sign of life must be there."""
    died_at = float(printed[-1].split()[2])
    old = [line.split() for line in printed if float(line.split()[3]) < died_at - 0.1]
    with open_store(path) as store:
        session = store.newest()
    assert session is not None
    answers = {
        message.parent_id: message
        for message in session.conversation.messages()
        if message.role == "assistant"
    }
    by_turn = {
        int(message.text.split()[1]): answers[message.id].text.split()
        for message in session.conversation.messages()
        if message.role == "user" and message.id in answers
    }
    assert all(token in by_turn[int(turn)] for turn, token, *_ in old)
    *before, newest = session.conversation.path()
    assert {message.status for message in before} <= {"complete"}
    assert newest.status in ("cut", "complete")
