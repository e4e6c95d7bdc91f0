"""The child's side: what ends it, what it survives, what is written where."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from engram_local.errors import EngramError
from engram_local.events import Finished, TextChunk
from engram_local.worker import codec
from engram_local.worker.protocol import (
    PROTOCOL,
    Cancel,
    Done,
    Event,
    Failed,
    Hello,
    Loading,
    Request,
)
from tests.worker.samples import say

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "tests.worker.fake_service"]
PATIENCE_S = 30


class Child:
    """A child process with a parent that takes one line after the other."""

    def __init__(self, fake: str = "") -> None:
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "FAKE": fake}
        self.process = subprocess.Popen(
            COMMAND,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        # Who waits for an event that never comes finds the end of the pipe.
        self.last = threading.Timer(PATIENCE_S, self.process.kill)
        self.last.start()
        number, hello = self.hear()
        assert number == 0 and isinstance(hello, Hello)
        self.hello = hello

    def write(self, *parts: bytes) -> None:
        """Send bytes."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"".join(parts))
        self.process.stdin.flush()

    def ask(self, number: int, *requests: Request) -> None:
        """Send requests under one number."""
        self.write(*[codec.encode(number, request) for request in requests])

    def hear(self) -> tuple[int, Event]:
        """Return the next event."""
        assert self.process.stdout is not None
        return codec.decode_event(self.process.stdout.readline())

    def end(self) -> tuple[int, str]:
        """Close its stdin; return exit code and log."""
        _, err = self.process.communicate(timeout=PATIENCE_S)
        self.last.cancel()
        return self.process.returncode, err.decode()


@pytest.fixture
def child() -> Iterator[Child]:
    """A child that is not left running."""
    child = Child()
    yield child
    child.process.kill()
    child.last.cancel()
    with suppress(ValueError):  # closed by the test
        child.process.communicate()


def test_it_says_hello_and_ends_with_its_stdin(child: Child) -> None:
    hello = child.hello
    assert (hello.protocol, hello.pid) == (PROTOCOL, child.process.pid)
    code, log = child.end()
    assert code == 0
    assert log.endswith(" INFO engram_local.x: closed\n")


def test_requests_are_done_in_order(child: Child) -> None:
    child.write(*[codec.encode(i, say(f"{i}")) for i in (5, 6)])
    heard = [child.hear() for _ in range(4)]
    chunks = [TextChunk(text="5"), TextChunk(text="6")]
    assert heard == [(5, chunks[0]), (5, Done()), (6, chunks[1]), (6, Done())]


def test_cancel_overtakes(child: Child) -> None:
    child.ask(1, say("until cancelled"))
    assert child.hear() == (1, TextChunk(text="until cancelled"))
    child.ask(1, Cancel())
    number, finished = child.hear()
    assert number == 1 and isinstance(finished, Finished)
    assert child.hear() == (1, Done())


def test_progress_is_where_a_load_ends(child: Child) -> None:
    child.ask(1, say("progress"))
    child.hear()
    assert child.hear() == (1, Loading(what="loading", part=0.5))
    child.ask(1, Cancel())
    while isinstance(event := child.hear()[1], Loading):
        pass
    assert isinstance(event, Failed) and event.code == "interrupted"


def test_a_request_that_was_cancelled_before_does_not_begin(child: Child) -> None:
    child.ask(1, say("until cancelled"))
    heard = [child.hear()]
    child.ask(2, say("two"), Cancel())
    child.ask(3, say("three"))
    child.ask(1, Cancel())
    heard += [child.hear() for _ in range(5)]
    assert [number for number, _ in heard] == [1, 1, 1, 2, 3, 3]
    failed = heard[3][1]
    assert isinstance(failed, Failed) and failed.code == "interrupted"
    assert heard[4:] == [(3, TextChunk(text="three")), (3, Done())]


def test_a_cancel_that_is_late_ends_nothing_else(child: Child) -> None:
    child.ask(1, say("one"))
    assert [child.hear()[1] for _ in range(2)][-1] == Done()
    child.ask(1, Cancel())
    child.ask(2, say("two"))
    assert [child.hear() for _ in range(2)][-1] == (2, Done())


@pytest.mark.parametrize(
    ("text", "failed", "in_log"),
    [
        (
            "fail",
            Failed(code="bad-file", exit_code=3, message="gone", hint="look"),
            "",
        ),
        (
            "bug",
            Failed(
                code="internal",
                exit_code=1,
                message="ZeroDivisionError: by nothing",
                hint=None,
            ),
            "Generate failed\nTraceback",
        ),
        (
            "no memory",
            Failed(code="internal", exit_code=1, message="MemoryError: ", hint=None),
            "Traceback",
        ),
    ],
)
def test_what_goes_wrong_ends_the_request_alone(
    child: Child, text: str, failed: Failed, in_log: str
) -> None:
    child.ask(1, say(text))
    assert [child.hear() for _ in range(2)][-1] == (1, failed)
    child.ask(2, say("more"))
    assert [child.hear() for _ in range(2)][-1] == (2, Done())
    code, log = child.end()
    assert code == 0 and in_log in log


def test_stdout_is_for_events_alone(child: Child) -> None:
    child.ask(1, say("print"))
    assert [child.hear() for _ in range(2)][-1] == (1, Done())
    _, log = child.end()
    for line in ("to stdout", "from C", "INFO engram_local.x: a log line"):
        assert f"{line}\n" in log
    assert "of no interest" not in log


def test_ctrl_c_is_not_for_the_child(child: Child) -> None:
    child.ask(1, say("ctrl-c"))
    assert [child.hear() for _ in range(2)][-1] == (1, Done())
    child.process.send_signal(signal.SIGINT)
    child.ask(2, say("more"))
    assert [child.hear() for _ in range(2)][-1] == (2, Done())


def test_sigterm_ends_it_cleanly(child: Child) -> None:
    child.ask(1, say("until cancelled"))
    child.hear()
    child.process.terminate()
    assert child.process.wait(PATIENCE_S) == 0
    assert child.process.stderr is not None
    assert b"closed" in child.process.stderr.read()


def test_the_end_of_stdin_cancels(child: Child) -> None:
    child.ask(1, say("until cancelled"))
    child.ask(2, say("never begun"))
    code, log = child.end()
    assert code == 0 and "closed" in log


@pytest.mark.parametrize("number", [None, signal.SIGTERM])
def test_native_code_that_hangs_ends_with_the_process(
    child: Child, number: signal.Signals | None
) -> None:
    child.ask(1, say("hang"))
    child.hear()
    start = time.monotonic()
    if number is None:
        code, log = child.end()
    else:
        child.process.send_signal(number)
        code, log = child.process.wait(PATIENCE_S), ""
    assert code == 1 and "closed" not in log
    assert time.monotonic() - start < PATIENCE_S / 2


def test_freeing_that_hangs_ends_with_the_process() -> None:
    child = Child(fake="hangs")
    code, log = child.end()
    assert code == 1 and "closed" in log


def test_a_parent_that_reads_no_more_is_gone(child: Child) -> None:
    child.ask(1, say("flood"))
    child.hear()
    assert child.process.stdout is not None
    child.process.stdout.close()  # stdin stays open
    assert child.process.wait(PATIENCE_S) == 0
    assert child.process.stderr is not None
    assert b"Traceback" not in child.process.stderr.read()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"\n", "is no JSON"),
        (b"\xff\n", "is no JSON"),
        (b'{"id": 1, "kind": "Format", "value": {}}\n', "is no kind of message"),
        (b'{"id": 1, "ki', "is no JSON"),
    ],
)
def test_a_line_that_is_not_understood_ends_it(
    child: Child, line: bytes, words: str
) -> None:
    child.write(line)
    code, log = child.end()
    assert code == 0
    assert "error[bad-message]" in log and words in log
    assert "Traceback" not in log


def test_settings_that_cannot_be_are_not_understood_either(child: Child) -> None:
    good = codec.encode(1, say("more"))
    child.write(good.replace(b'"n_batch": 512', b'"n_batch": 0'))
    code, log = child.end()
    assert code == 0 and "error[usage]: n_batch is 0" in log
    with pytest.raises(EngramError):
        codec.decode_request(good.replace(b'"n_batch": 512', b'"n_batch": 0'))
