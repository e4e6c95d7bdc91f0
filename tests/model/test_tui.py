"""The chat app as it is used: in a terminal, with the default model, and killed."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from engram_local.engine import Engine
from engram_local.events import Finished
from engram_local.formats.header import Header
from engram_local.settings import Settings
from tests.terminal import Terminal

pytestmark = pytest.mark.model

N_TOKENS = 300
QUESTION = "Tell me a long story about a lighthouse keeper and the sea."
FLAGS = ["-t", "1", "--temp", "0", "-n", str(N_TOKENS)]
F3, F4, F5, F6, F8, F9 = (
    f"\x1b{end}" for end in ("OR", "OS", "[15~", "[17~", "[19~", "[20~")
)
ENTER, ESCAPE, CTRL_C, CTRL_Q, CTRL_R = "\r", "\x1b", "\x03", "\x11", "\x12"

Kept = list[tuple[str, str]]
"""Texts of messages and their states."""


class App:
    """Starts the app with sessions and settings in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, *flags: str) -> Terminal:
        places = {"XDG_DATA_HOME": "data", "XDG_CONFIG_HOME": "config"}
        folders = {name: str(self._folder / own) for name, own in places.items()}
        command = [sys.executable, "-m", "engram_local", "tui", *FLAGS, *flags]
        terminal = Terminal(command, {**os.environ, **folders})
        try:
            terminal.wait_for("· memory mmap")  # of the model that is loaded
        except BaseException:
            terminal.__exit__()
            raise
        return terminal

    def kept(self) -> Kept:
        """Return all messages that were written down, oldest first."""
        path = self._folder / "data" / "engram-local" / "sessions.db"
        if not path.exists():
            return []
        # Read only: whoever loads a session ends its unfinished answers.
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            pieces = "SELECT group_concat(text, '') FROM pieces WHERE message_id = id"
            query = f"SELECT text || ifnull(({pieces}), ''), status FROM messages"
            return connection.execute(f"{query} ORDER BY number").fetchall()

    def has(self, n_messages: int, status: str) -> Callable[[], bool]:
        """Return a test whether the newest of so many messages is in a state."""

        def is_so() -> bool:
            kept = self.kept()
            return len(kept) == n_messages and kept[-1][1] == status

        return is_so

    def has_begun(self) -> bool:
        """Return whether the newest message is an answer that is being written."""
        kept = self.kept()
        return len(kept) > 1 and kept[-1][1] == "partial" and len(kept[-1][0]) > 40


@pytest.fixture
def app(tmp_path: Path, smollm2: Header) -> App:
    return App(tmp_path)


@pytest.fixture(scope="module")
def answer(smollm2: Header) -> str:
    """What the model answers when nothing disturbs it."""
    settings = Settings(n_threads=1, temperature=0, max_tokens=N_TOKENS)
    with Engine.open(smollm2.path, settings=settings) as engine:
        *_, finished = engine.generate([{"role": "user", "content": QUESTION}])
    assert isinstance(finished, Finished)
    assert len(finished.text) > 400
    return finished.text


def ask(terminal: Terminal, text: str) -> None:
    """Type a text and send it."""
    terminal.press(text, ENTER)


def engine_of(terminal: Terminal) -> psutil.Process:
    """Return the engine's process."""
    (engine,) = terminal.children()
    return engine


def test_it_is_driven_by_keys(app: App, answer: str) -> None:
    with app() as terminal:
        ask(terminal, QUESTION)
        terminal.wait(app.has(2, "cut"))  # by -n
        assert app.kept()[1][0] == answer
        terminal.press(CTRL_R)
        terminal.wait(app.has(3, "partial"))
        terminal.wait(app.has_begun)
        terminal.press(ESCAPE)
        terminal.wait(app.has(3, "cut"))
        assert answer.startswith(app.kept()[2][0])
        ask(terminal, "/memory off")
        terminal.wait_for("· memory off")
        for key, words in ((F3, "table in RAM"), (F4, "seed"), (F5, "MEMORY")):
            terminal.press(key)
            terminal.wait_for(words)
        for key, words in ((F6, "SmolLM2-135M"), (F8, "llama.cpp")):
            terminal.press(key)
            terminal.wait_for(words)
        terminal.resize(80, 24)
        terminal.press(F3)
        terminal.wait_for("waiting for rows")
        terminal.resize(120, 40)
        terminal.press(CTRL_Q)
        assert terminal.exit_code() == 0
        assert terminal.children() == []
    shown_again = ("\x1b[?1049l", "\x1b[?25h")
    assert all(code in terminal.written for code in shown_again)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT])
def test_an_engine_that_dies_is_started_again(
    app: App, answer: str, number: signal.Signals
) -> None:
    with app() as terminal:
        ask(terminal, QUESTION)
        terminal.wait(app.has_begun)
        engine_of(terminal).send_signal(number)
        terminal.wait_for(number.name)
        terminal.wait(app.has(2, "cut"))
        text = app.kept()[1][0]
        assert text and answer.startswith(text)
        begin = len(terminal.text)
        terminal.press(F9)
        terminal.wait(lambda: "· memory mmap" in terminal.text[begin:])
        terminal.press(CTRL_R)
        terminal.wait(app.has(3, "cut"))
        assert app.kept()[2][0] == answer
        terminal.press(CTRL_Q)
        assert terminal.exit_code() == 0
        assert terminal.children() == []


def test_an_app_that_is_killed_leaves_nothing_running_and_goes_on(
    app: App, answer: str
) -> None:
    with app() as terminal:
        ask(terminal, QUESTION)
        terminal.wait(app.has_begun)
        engine = engine_of(terminal)
        terminal.process.kill()
        engine.wait(20)
        assert terminal.exit_code() == 128 + signal.SIGKILL
    before = app.kept()
    assert before[0] == (QUESTION, "complete")
    assert answer.startswith(before[1][0])
    with app("-C") as terminal:
        assert app.kept()[1] == (before[1][0], "cut")
        ask(terminal, "/continue")
        terminal.wait(app.has(2, "partial"))
        terminal.wait(app.has(2, "cut"))
        after = app.kept()[1][0]
        assert after.startswith(before[1][0])
        assert len(after) > len(before[1][0])
        terminal.press(CTRL_C, CTRL_C)
        assert terminal.exit_code() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_keeps_what_was_said(
    app: App, answer: str, number: signal.Signals
) -> None:
    with app() as terminal:
        ask(terminal, QUESTION)
        terminal.wait(app.has_begun)
        engine = engine_of(terminal)
        terminal.process.send_signal(number)
        assert terminal.exit_code() == 128 + number
        engine.wait(20)
    (_, (text, status)) = app.kept()
    assert status == "cut" and answer.startswith(text)


def test_a_closed_terminal_leaves_nothing_running(app: App, answer: str) -> None:
    with app() as terminal:
        ask(terminal, QUESTION)
        terminal.wait(app.has_begun)
        engine, process = engine_of(terminal), terminal.process
        terminal.hang_up()
        terminal.exit_code()
        engine.wait(20)
        assert not process.is_running()
    assert answer.startswith(app.kept()[1][0])
