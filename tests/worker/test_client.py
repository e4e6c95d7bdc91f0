"""The parent's side: order, cancelling, every way of losing the process, no orphans."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from engram_local.errors import EngramError, WorkerLostError
from engram_local.events import Finished, TextChunk
from engram_local.worker import client as module
from engram_local.worker.client import EngineClient, EnginePort
from engram_local.worker.protocol import Event
from tests.worker.samples import say

ROOT = Path(__file__).parents[2]
FAKE = (sys.executable, "-m", "tests.worker.fake_child")
PATIENCE_S = 30
BIG = "ä\n" * 200_000
"""Longer than a pipe and than asyncio's usual line."""


@pytest.fixture(autouse=True)
def fake_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake is a module of the tests."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)


async def texts(engine: EnginePort, text: str) -> list[str]:
    """Ask, and return the chunks."""
    events = [event async for event in engine.ask(say(text))]
    return [event.text for event in events if isinstance(event, TextChunk)]


@asynccontextmanager
async def opened(*words: str) -> AsyncIterator[EngineClient]:
    """Give a client whose process runs; end both."""
    lines: list[str] = []
    engine = EngineClient(on_log=lines.append, command=(*FAKE, *words))
    try:
        hello = await engine.start()
        assert hello.pid == engine.pid
        yield engine
    finally:
        await engine.close()
        assert engine.pid is None
        assert lines == list(engine.log)


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Run a test in a loop of its own; nothing may hang."""

    async def limited() -> None:
        await asyncio.wait_for(test(), PATIENCE_S)

    asyncio.run(limited())


def test_answers_come_in_order() -> None:
    async def test() -> None:
        async with opened() as engine:
            assert await texts(engine, "one") == ["one"]
            both = await asyncio.gather(texts(engine, "two"), texts(engine, "three"))
            assert both == [["two"], ["three"]]

    run(test)


def test_a_burst_and_a_long_line_arrive_whole() -> None:
    async def test() -> None:
        async with opened() as engine:
            assert await texts(engine, "burst") == [str(i) for i in range(10_000)]
            assert await texts(engine, BIG) == [BIG]

    run(test)


def test_a_burst_leaves_time_for_others() -> None:
    async def test() -> None:
        async with opened() as engine:
            turns = 0

            async def beside() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    await asyncio.sleep(0)

            task = asyncio.create_task(beside())
            await texts(engine, "burst")
            task.cancel()
            assert turns > 5_000

    run(test)


def test_what_failed_there_fails_here() -> None:
    async def test() -> None:
        async with opened() as engine:
            with pytest.raises(EngramError, match="gone") as caught:
                await texts(engine, "fail")
            error = caught.value
            assert (error.code, error.exit_code, error.hint) == ("bad-file", 3, "look")
            assert await texts(engine, "again") == ["again"]

    run(test)


def test_cancel_ends_what_is_being_done_and_nothing_else() -> None:
    async def test() -> None:
        async with opened() as engine:
            engine.cancel()  # nothing is being done
            events: list[Event] = []
            async for event in engine.ask(say("wait")):
                events.append(event)
                if len(events) == 1:
                    engine.cancel()
            assert isinstance(events[-1], Finished)
            assert events[-1].finish_reason == "cancelled"
            engine.cancel()
            assert await texts(engine, "next") == ["next"]

    run(test)


def test_a_cancelled_task_cancels_its_request() -> None:
    async def test() -> None:
        async with opened() as engine:
            begun = asyncio.Event()

            async def ask() -> None:
                async for _ in engine.ask(say("wait")):
                    begun.set()

            task = asyncio.create_task(ask())
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await texts(engine, "next") == ["next"]

    run(test)


def test_who_stops_listening_cancels_the_request() -> None:
    async def test() -> None:
        async with opened() as engine:
            async for event in engine.ask(say("wait")):
                assert event == TextChunk(text="first")
                break
            assert await texts(engine, "next") == ["next"]

    run(test)


@pytest.mark.parametrize(
    ("text", "words", "last_line"),
    [
        ("kill", "the engine's process was killed by SIGKILL", None),
        ("abort", "was killed by SIGABRT", r"GGML_ASSERT(x \x1b[31m > 0) failed"),
        ("exit", "ended with code 5", "MemoryError: no more"),
        ("half a line", "ended with code 0", None),
        ("garbage", "not understood: b'Loading model...", None),
    ],
)
def test_a_lost_process_is_an_error_that_says_how(
    text: str, words: str, last_line: str | None
) -> None:
    async def test() -> None:
        async with opened() as engine:
            answer = engine.ask(say(text))
            assert await anext(answer) == TextChunk(text=text)
            with pytest.raises(WorkerLostError) as caught:
                await anext(answer)
            assert words in caught.value.message
            assert caught.value.log == tuple(engine.log)[-20:]
            assert (list(engine.log) or [None])[-1] == last_line
            assert engine.pid is None
            engine.cancel()
            with pytest.raises(WorkerLostError):
                await texts(engine, "more")

    run(test)


def test_a_process_that_closes_stdout_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_GRACE_S", 0.05)

    async def test() -> None:
        async with opened() as engine:
            with pytest.raises(WorkerLostError):
                await texts(engine, "close stdout")

    run(test)


def test_all_who_wait_hear_of_it() -> None:
    async def test() -> None:
        async with opened() as engine:
            asked = [texts(engine, text) for text in ("wait", "two", "three")]
            tasks = [asyncio.create_task(one) for one in asked]
            await asyncio.sleep(0)
            assert engine.pid is not None
            psutil.Process(engine.pid).kill()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert [type(one) for one in results] == [WorkerLostError] * 3

    run(test)


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("newer", "speaks protocol 2, this program 1"),
        ("speaks", "began with TextChunk"),
        ("silent", "ended with code 1"),
    ],
)
def test_a_process_that_does_not_start_well(word: str, sentence: str) -> None:
    async def test() -> None:
        engine = EngineClient(on_log=lambda line: None, command=(*FAKE, word))
        with pytest.raises(WorkerLostError, match=sentence) as caught:
            await engine.start()
        assert engine.pid is None
        assert ("ModuleNotFoundError: no engine" in caught.value.log) == (
            word == "silent"
        )
        await engine.close()

    run(test)


def test_a_command_that_is_not_there() -> None:
    async def test() -> None:
        engine = EngineClient(on_log=lambda line: None, command=("/nowhere/python",))
        with pytest.raises(WorkerLostError, match=r"be started: .*No such file"):
            await engine.start()
        await engine.close()

    run(test)


def test_closing_twice_and_asking_afterwards() -> None:
    async def test() -> None:
        async with opened() as engine:
            waiting = asyncio.create_task(texts(engine, "wait"))
            await asyncio.sleep(0)
            await asyncio.gather(engine.close(), engine.close())
            with pytest.raises(WorkerLostError, match="the engine was closed"):
                await waiting
            with pytest.raises(WorkerLostError):
                await texts(engine, "more")

    run(test)


def test_a_process_that_hears_nothing_is_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_GRACE_S", 0.05)

    async def test() -> None:
        async with opened("deaf") as engine:
            assert engine.pid is not None
            process = psutil.Process(engine.pid)
        assert not process.is_running()

    run(test)


def test_a_log_that_nobody_can_show_is_read_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(line: str) -> None:
        raise ZeroDivisionError

    async def test() -> None:
        engine = EngineClient(on_log=fail, command=FAKE)
        await engine.start()
        with pytest.raises(WorkerLostError) as caught:
            await texts(engine, "exit")
        assert caught.value.log[-1] == "MemoryError: no more"
        await engine.close()

    with caplog.at_level(logging.ERROR):
        run(test)
    assert "could not be shown" in caplog.text


PARENT = """
import asyncio, sys
from tests.worker.test_client import FAKE, EngineClient, say

async def main():
    engine = EngineClient(on_log=print, command=FAKE)
    print((await engine.start()).pid, flush=True)
    async for event in engine.ask(say("wait")):
        print("begun", flush=True)
        if "ends" in sys.argv:
            return

asyncio.run(main())
"""


@pytest.mark.parametrize("way", ["killed", "ends"])
def test_no_process_outlives_its_parent(way: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, way],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        assert parent.stdout.readline() == b"begun\n"
        if way == "killed":
            parent.kill()
    _, alive = psutil.wait_procs([child], timeout=PATIENCE_S)
    assert [one for one in alive if one.status() != psutil.STATUS_ZOMBIE] == []
