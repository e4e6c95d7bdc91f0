"""The chat app in a terminal, with the default model: keys, kills, what is kept."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest

from engram_local.chat.conversation import Conversation, Message
from engram_local.chat.sessions import SessionStore, default_path
from engram_local.engine import Engine
from engram_local.events import Finished
from engram_local.settings import Settings

pytest.importorskip("textual")
if sys.platform == "win32":
    pytest.skip("no pseudo-terminals", allow_module_level=True)

from tests.terminal import PATIENCE_S, Terminal

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("quantized")]

WHALE = "What is a whale?"
STORY = "Write a story about a fox and a crow."
N_TOKENS = 300
"""More of the story than is told before somebody kills."""

N_BEGUN = 60
"""Characters of the story by which it is in full flow."""

FLAGS = ("-t", "1", "--temp", "0", "-c", "1024", "-n", str(N_TOKENS))
READY = "· memory mmap"
"""Stands in the status line once the model is loaded."""


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """An engine as the app's is."""
    settings = Settings(n_ctx=1024, n_threads=1, temperature=0.0, max_tokens=N_TOKENS)
    with Engine.open(settings=settings) as engine:
        yield engine


@pytest.fixture(scope="module")
def story(engine: Engine) -> str:
    """What the app tells when nobody kills it."""
    return answer(engine, STORY)


@pytest.fixture
def app() -> Iterator[Callable[..., Terminal]]:
    """Start an app in a terminal; all of it is gone at the end."""
    terminals: list[Terminal] = []

    def start(*flags: str, **environ: str) -> Terminal:
        words = (sys.executable, "-m", "engram_local", "tui", *FLAGS, *flags)
        terminal = Terminal(*words, environ=environ)
        terminals.append(terminal)
        terminal.wait_for("Ask something")
        return terminal

    yield start
    for terminal in terminals:
        terminal.close()


def answer(engine: Engine, *said: str) -> str:
    """Return the answer to the last of questions and answers in turn."""
    roles = ("user", "assistant") * len(said)
    pairs = zip(roles, said, strict=False)
    prompt = [{"role": role, "content": text} for role, text in pairs]
    engine.use_memory(True)  # forgets what it has read: the app's engine is a new one
    *_, last = engine.generate(prompt)
    assert isinstance(last, Finished)
    return last.text


def ask(terminal: Terminal, text: str) -> None:
    """Type a line and send it."""
    terminal.press(text, "enter")


def tell_story(terminal: Terminal) -> None:
    """Let an answer come that takes a while, and wait until it is under way."""
    ask(terminal, STORY)
    terminal.wait_until(lambda: len(kept()) > N_BEGUN, "the story has begun")


def worker(terminal: Terminal) -> psutil.Process:
    """Return the engine's process."""
    found: list[psutil.Process] = []

    def is_there() -> bool:
        children = psutil.Process(terminal.pid).children()
        found[:] = [one for one in children if "engram_local.worker.child" in line(one)]
        return bool(found)

    terminal.wait_until(is_there, "the engine's process is there")
    return found[0]


def line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it ended meanwhile
        return ""


def assert_ended(*processes: psutil.Process) -> None:
    """Assert that processes are no more, or soon."""
    _, alive = psutil.wait_procs(processes, timeout=PATIENCE_S)
    assert [one for one in alive if one.status() != psutil.STATUS_ZOMBIE] == []


def rows(query: str) -> list[Any]:
    """Look into the sessions without changing them, as `SessionStore.load` does."""
    if not default_path().exists():
        return []
    with closing(sqlite3.connect(default_path(), timeout=PATIENCE_S)) as connection:
        return connection.execute(query).fetchall()


def kept() -> str:
    """Return what is in the file of the answer that comes."""
    pieces = rows("SELECT text FROM pieces ORDER BY number")
    return "".join(text for (text,) in pieces)


def n_answers() -> int:
    """Return how many answers have ended."""
    return len(
        rows("SELECT 1 FROM messages WHERE role='assistant' AND status!='partial'")
    )


def wait_for_answers(terminal: Terminal, count: int) -> None:
    terminal.wait_until(lambda: n_answers() == count, f"{count} answers have ended")


def conversation() -> Conversation:
    """Return the session that was used last."""
    with SessionStore(default_path(), on_lost=pytest.fail) as store:
        session = store.newest()
        assert session is not None
        return session.conversation


def last_answer() -> Message:
    found = conversation().last_answer()
    assert found is not None
    return found


def assert_restored(terminal: Terminal) -> None:
    """Assert that the terminal is as it was: echo, the cursor, the first screen."""
    assert terminal.modes() == terminal.modes_before
    for mode, at_the_end in ((1049, b"l"), (25, b"h"), (1000, b"l"), (2004, b"l")):
        switches = terminal.output.split(b"\x1b[?%d" % mode)
        assert len(switches) > 1 and switches[-1][:1] == at_the_end, mode


def assert_cut(story: str) -> Message:
    """Assert that the session holds the begin of the story; return it."""
    cut = last_answer()
    assert cut.status == "cut"
    assert len(cut.text) > N_BEGUN
    assert story.startswith(cut.text) and cut.text != story
    return cut


def test_a_question_is_answered_and_all_is_put_back(
    app: Callable[..., Terminal], engine: Engine
) -> None:
    terminal = app()
    child = worker(terminal)
    assert terminal.modes() != terminal.modes_before
    ask(terminal, WHALE)
    wait_for_answers(terminal, 1)
    terminal.press("ctrl+q")
    assert terminal.exit_code() == 0
    assert_restored(terminal)
    assert_ended(child)
    question, answered = conversation().path()
    assert (question.text, answered.text) == (WHALE, answer(engine, WHALE))
    assert answered.status == "complete"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT])
def test_an_engine_that_is_killed_takes_nothing_with_it(
    number: signal.Signals, app: Callable[..., Terminal], story: str, engine: Engine
) -> None:
    terminal = app()
    tell_story(terminal)
    before = kept()
    worker(terminal).send_signal(number)
    terminal.wait_for(f"was killed by {number.name}")
    terminal.wait_for("F9")
    wait_for_answers(terminal, 1)
    drawn = terminal.shown()
    terminal.press("f9")
    ask(terminal, WHALE)
    wait_for_answers(terminal, 2)
    terminal.press("ctrl+q")
    assert terminal.exit_code() == 0
    _, cut, _, answered = conversation().path()
    assert cut.status == "cut" and story.startswith(cut.text)
    assert cut.text.startswith(before)
    assert set(cut.text.split()) <= set(drawn.split())
    assert answered.text == answer(engine, STORY, cut.text, WHALE)


def test_what_the_engine_said_last_is_shown(app: Callable[..., Terminal]) -> None:
    terminal = app()
    terminal.wait_for(READY)
    child = worker(terminal)
    Path(f"/proc/{child.pid}/fd/2").write_text("GGML_ASSERT(a lemur) failed\n")
    child.send_signal(signal.SIGABRT)
    terminal.wait_for("was killed by SIGABRT")
    terminal.wait_for("GGML_ASSERT(a lemur) failed")


def is_there(process: psutil.Process) -> bool:
    return process.is_running()


def loads(process: psutil.Process) -> bool:
    """Return whether a process has a model mapped."""
    return ".gguf" in Path(f"/proc/{process.pid}/maps").read_text()


@pytest.mark.parametrize("moment", [is_there, loads])
def test_an_engine_that_is_killed_while_it_loads_is_started_again(
    moment: Callable[[psutil.Process], bool],
    app: Callable[..., Terminal],
    engine: Engine,
) -> None:
    terminal = app()
    child = worker(terminal)
    terminal.wait_until(lambda: moment(child), moment.__name__)
    child.kill()
    terminal.wait_for("was killed by SIGKILL")
    ask(terminal, WHALE)
    terminal.wait_for("waits for its turn")
    terminal.press("f9")
    wait_for_answers(terminal, 1)
    assert last_answer().text == answer(engine, WHALE)


def test_an_idle_engine_that_is_killed_is_missed_at_once(
    app: Callable[..., Terminal], engine: Engine
) -> None:
    terminal = app()
    terminal.wait_for(READY)
    worker(terminal).kill()
    ask(terminal, WHALE)
    terminal.wait_for("was killed by SIGKILL")
    terminal.press("f9")
    terminal.wait_for(READY)
    ask(terminal, WHALE)
    terminal.wait_until(lambda: last_status() == "complete", "it is answered")
    assert last_answer().text == answer(engine, WHALE)


def last_status() -> str | None:
    """Return how the newest answer has ended, or that it has not."""
    found = rows("SELECT status FROM messages ORDER BY number DESC LIMIT 1")
    return str(found[0][0]) if found else None


def test_an_app_that_is_killed_is_gone_on_with(
    app: Callable[..., Terminal], story: str, engine: Engine
) -> None:
    terminal = app()
    tell_story(terminal)
    child, before = worker(terminal), kept()
    os.kill(terminal.pid, signal.SIGKILL)
    assert terminal.exit_code() == -signal.SIGKILL
    assert_ended(child)

    again = app("-C", "-n", "48")
    again.wait_for("cut off")
    cut = assert_cut(story)
    assert cut.text.startswith(before)
    again.wait_for(READY)
    ask(again, "/continue")
    again.wait_until(lambda: last_status() == "partial", "it goes on")
    again.wait_until(lambda: last_status() != "partial", "it has ended")
    again.press("ctrl+q")
    assert again.exit_code() == 0
    whole = last_answer()
    assert whole.id == cut.id
    assert whole.text.startswith(cut.text)
    # Not always the story as it would have been: a text that is read at once has other
    # roundings than one that is written word by word, and two words may be as likely.
    rest = answer(engine, STORY, cut.text)
    assert len(whole.text) > len(cut.text) + N_BEGUN
    assert (cut.text + rest).startswith(whole.text)


def close_window(terminal: Terminal) -> None:
    terminal.hang_up()


def terminate(terminal: Terminal) -> None:
    os.kill(terminal.pid, signal.SIGTERM)


def interrupt_twice(terminal: Terminal) -> None:
    terminal.press("ctrl+c", "ctrl+c")


@pytest.mark.parametrize(
    ("end", "code"), [(close_window, 129), (terminate, 143), (interrupt_twice, 0)]
)
def test_whatever_ends_the_app_all_is_kept_and_nothing_left(
    end: Callable[[Terminal], None],
    code: int,
    app: Callable[..., Terminal],
    story: str,
) -> None:
    terminal = app()
    tell_story(terminal)
    child = worker(terminal)
    end(terminal)
    assert terminal.exit_code() == code
    assert_ended(child)
    if end is not close_window:
        assert_restored(terminal)
    statuses = rows("SELECT status FROM messages WHERE role = 'assistant'")
    assert statuses == [("cut",)]
    assert_cut(story)


def test_two_apps_share_the_sessions(
    app: Callable[..., Terminal], story: str, engine: Engine
) -> None:
    one, other = app(), app()
    ask(one, STORY)
    ask(other, WHALE)
    wait_for_answers(one, 2)
    for terminal in (one, other):
        terminal.press("ctrl+q")
        assert terminal.exit_code() == 0
    with SessionStore(default_path(), on_lost=pytest.fail) as store:
        sessions = [store.load(info.id) for info in store.list()]
        texts = {tuple(m.text for m in s.conversation.path()) for s in sessions}
    assert texts == {(STORY, story), (WHALE, answer(engine, WHALE))}


@pytest.fixture
def full_drive(tmp_path: Path) -> Iterator[Path]:
    """A drive of 2 MiB that the test fills."""
    folder = tmp_path / "drive"
    folder.mkdir()
    mount = ("mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder))
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("drives cannot be mounted here")
    yield folder
    subprocess.run(("umount", "--lazy", str(folder)), check=True)


def test_a_full_drive_is_said_and_the_app_goes_on(
    full_drive: Path, app: Callable[..., Terminal]
) -> None:
    terminal = app(XDG_DATA_HOME=str(full_drive))
    terminal.wait_for(READY)
    with open(full_drive / "filler", "wb", buffering=0) as filler:
        while fill(filler):
            pass
    ask(terminal, WHALE)
    terminal.wait_for("not kept")
    terminal.wait_for("first ")
    ask(terminal, "Who are you?")
    terminal.wait_for("first ")
    terminal.press("ctrl+q")
    assert terminal.exit_code() == 0


def fill(file: Any) -> bool:
    """Write a little more; tell whether there was room for it."""
    try:
        return file.write(bytes(4096)) > 0
    except OSError:
        return False


SCREENS = {
    "f1": "app.help",
    "f3": "16 per token",
    "f4": "temperature",
    "f5": "[F5 Size]",
    "f6": "smollm2-135m-wordnet",
    "f7": "Ctrl-R: rename",
    "f8": "llama.cpp:",
    "f2": "tokens per second",
}
"""By key, what stands on it and nowhere else."""


def test_driven_by_keys(app: Callable[..., Terminal]) -> None:
    terminal = app()
    stop_and_answer_again(terminal)
    switch_memory(terminal)
    for key, text in SCREENS.items():
        terminal.press(key)
        terminal.wait_for(text)
        if key in ("f1", "f7"):
            terminal.press("escape")
            terminal.wait_for("tokens per second")
    resize(terminal)
    terminal.press("ctrl+q")
    assert terminal.exit_code() == 0
    assert_restored(terminal)
    answers = conversation().path()[1::2]
    tiers = [one.stats and one.stats.tier for one in answers]
    assert tiers == ["mmap", None, "mmap"]


def stop_and_answer_again(terminal: Terminal) -> None:
    """Stop a story twice: what was told is kept, as variants."""
    tell_story(terminal)
    before = kept()
    terminal.press("escape")
    terminal.wait_for("cancelled")
    terminal.press("ctrl+r")
    terminal.wait_for("2/2")
    terminal.wait_until(lambda: len(kept()) > N_BEGUN, "another story has begun")
    terminal.press("escape")
    terminal.wait_for("cancelled")
    answers = rows("SELECT status, text FROM messages WHERE role = 'assistant'")
    assert [status for status, _ in answers] == ["cut", "cut"]
    assert all(text.startswith(before) for _, text in answers)


def switch_memory(terminal: Terminal) -> None:
    """Ask without the memory and with it again."""
    ask(terminal, "/memory off")
    terminal.wait_for("the memory is off")
    ask(terminal, WHALE)
    wait_for_answers(terminal, 3)
    ask(terminal, "/memory on")
    terminal.wait_for("the memory is on")
    ask(terminal, WHALE)
    wait_for_answers(terminal, 4)


def resize(terminal: Terminal) -> None:
    """Make the terminal small, where there is no room for the sidebar, and back."""
    terminal.resize(80, 24)
    terminal.wait_for("Ask something")
    assert "tokens per second" not in terminal.shown()
    terminal.resize(120, 40)
    terminal.wait_for("tokens per second")
