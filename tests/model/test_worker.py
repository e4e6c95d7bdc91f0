"""The engine's process with the default model: answers, cancels, dies, starts again."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from engram_local.chat.conversation import ChatMessage
from engram_local.engine import Engine
from engram_local.errors import EngramError, WorkerLostError
from engram_local.events import Finished, PromptProgress, TextChunk
from engram_local.settings import Settings
from engram_local.worker.client import EngineClient
from engram_local.worker.protocol import (
    AnswerTrace,
    ChooseMemory,
    Compare,
    Compared,
    ContextUse,
    Event,
    ExplainToken,
    Generate,
    Loading,
    LookAtTable,
    MemoryChanged,
    Open,
    Opened,
    Request,
    Status,
    TokenRows,
    TraceAnswer,
    UseMemory,
)

pytestmark = pytest.mark.model

PATIENCE_S = 300
SETTINGS = Settings(n_ctx=512, n_threads=1, temperature=0.0, max_tokens=12)
ENDLESS = replace(SETTINGS, max_tokens=-1)
LONG = "Write a very long story about a lemur in a library."
OPEN = Open(model=None, memory="auto", settings=SETTINGS)


def ask_for(text: str, settings: Settings = SETTINGS, *before: ChatMessage) -> Generate:
    """Return a request for an answer."""
    messages = (*before, ChatMessage(role="user", content=text))
    return Generate(messages=messages, settings=settings)


async def hear(client: EngineClient, request: Request) -> list[Event]:
    """Ask and return all events."""
    return [event async for event in client.ask(request)]


async def answer(client: EngineClient, request: Request) -> Finished:
    """Ask and return how it ended."""
    (finished,) = (e for e in await hear(client, request) if isinstance(e, Finished))
    return finished


@asynccontextmanager
async def opened(*, memory: str | None = "auto") -> AsyncIterator[EngineClient]:
    """Give a client with the default model."""
    client = EngineClient(on_log=lambda line: None)
    try:
        await client.start()
        await hear(client, replace(OPEN, memory=memory))
        yield client
    finally:
        await client.close()


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Run a test in a loop of its own."""

    async def limited() -> None:
        await asyncio.wait_for(test(), PATIENCE_S)

    asyncio.run(limited())


@pytest.fixture(scope="module")
def plain(quantized: Path) -> str:
    """The answer of an engine in this process."""
    with Engine.open(settings=SETTINGS) as engine:
        *_, finished = engine.generate(
            [{"role": "user", "content": "What is a lemur?"}]
        )
    assert isinstance(finished, Finished)
    return finished.text


def test_it_says_what_an_engine_says(plain: str) -> None:
    async def test() -> None:
        client = EngineClient(on_log=lambda line: None)
        await client.start()
        *loading, ready, status = await hear(client, OPEN)
        assert {type(event) for event in loading} <= {Loading}
        assert isinstance(ready, Opened) and isinstance(status, Status)
        model = ready.model
        assert (model.n_ctx, model.n_threads, model.n_layers) == (512, 1, 30)
        assert model.memory is not None and model.memory.path in model.memories
        assert model.memory_on and model.can_leave_out_memory
        assert sum(part.ram_bytes for part in model.parts) > 0
        request = ask_for("What is a lemur?")
        context, *events, last = await hear(client, request)
        texts = [event.text for event in events if isinstance(event, TextChunk)]
        assert "".join(texts) == plain
        assert context == ContextUse(n_prompt=36, n_ctx=512, n_left_out=0)
        assert any(isinstance(event, PromptProgress) for event in events)
        assert isinstance(last, Status) and last.tokens_per_s is None
        assert last.rows_read > 0 and sum(last.stall_counts) > 0
        assert last.n_tokens == 36 + 12 - 1
        await client.close()
        assert any("llama.cpp" in line for line in client.log)

    run(test)


def test_what_is_cancelled_is_kept_and_gone_on_with(quantized: Path) -> None:
    async def test() -> None:
        async with opened() as client:
            said: list[Event] = []
            async for event in client.ask(ask_for(LONG, ENDLESS)):
                said.append(event)
                if sum(isinstance(one, TextChunk) for one in said) == 5:
                    client.cancel()
            (finished,) = (one for one in said if isinstance(one, Finished))
            assert finished.finish_reason == "cancelled"
            assert any(isinstance(one, Status) for one in said[:-1]) or len(said) < 50
            question = ChatMessage(role="user", content=LONG)
            begun = ChatMessage(role="assistant", content=finished.text)
            request = Generate(messages=(question, begun), settings=SETTINGS)
            more = await answer(client, request)
            assert more.text and more.finish_reason == "length"
            assert more.n_cached > 0

    run(test)


def test_a_long_prompt_is_cancelled_at_once(quantized: Path) -> None:
    async def test() -> None:
        async with opened() as client:
            reasons = []
            async for event in client.ask(ask_for("word " * 300)):
                if isinstance(event, ContextUse):
                    client.cancel()
                if isinstance(event, Finished):
                    reasons.append(event.finish_reason)
            assert reasons == ["cancelled"]

    run(test)


def test_killed_in_mid_answer_and_started_again(plain: str) -> None:
    async def test() -> None:
        async with opened() as client:
            texts: list[str] = []
            with pytest.raises(WorkerLostError, match="killed by SIGKILL") as caught:
                async for event in client.ask(ask_for(LONG, ENDLESS)):
                    if isinstance(event, TextChunk):
                        texts.append(event.text)
                        assert client.pid is not None
                        os.kill(client.pid, signal.SIGKILL)
            assert texts and caught.value.log
        async with opened() as client:
            assert (await answer(client, ask_for("What is a lemur?"))).text == plain

    run(test)


def test_the_memory_is_switched_and_exchanged(plain: str) -> None:
    async def test() -> None:
        async with opened() as client:
            off, _ = await hear(client, UseMemory(on=False))
            assert isinstance(off, MemoryChanged)
            assert not off.memory_on and off.memory is not None
            without = await answer(client, ask_for("What is a lemur?"))
            assert without.memory is None
            events = await hear(client, ChooseMemory(memory="auto", tier="ram"))
            changed = events[-2]
            assert isinstance(changed, MemoryChanged) and changed.memory_on
            assert changed.memory is not None and changed.memory.tier == "ram"
            again = await answer(client, ask_for("What is a lemur?"))
            assert again.text == plain and again.memory is not None
            none, _ = await hear(client, ChooseMemory(memory=None, tier="auto"))
            assert none == MemoryChanged(memory=None, memory_on=False)
            with pytest.raises(EngramError, match="without a memory"):
                await hear(client, UseMemory(on=True))

    run(test)


def test_traces_rows_and_residency(quantized: Path) -> None:
    async def test() -> None:
        async with opened() as client:
            finished = await answer(client, ask_for("What is a lemur?"))
            trace, _ = await hear(client, TraceAnswer())
            assert isinstance(trace, AnswerTrace)
            assert [one.token_id for one in trace.tokens] == list(finished.token_ids)
            assert len(trace.tokens[0].gates) == len(trace.layer_ids) > 0
            rows, _ = await hear(client, ExplainToken(position=trace.first))
            assert isinstance(rows, TokenRows) and len(rows.rows) > 0
            with pytest.raises(EngramError, match="there is no token 10000"):
                await hear(client, ExplainToken(position=10_000))
            table, _ = await hear(client, LookAtTable(n_cells=8))
            assert [len(strip.resident) for strip in table.strips] == [8] * len(  # type: ignore[union-attr]
                trace.layer_ids
            )

    run(test)


def test_both_answers_of_a_comparison(plain: str) -> None:
    async def test() -> None:
        async with opened() as client:
            question = ask_for("What is a lemur?")
            request = Compare(messages=question.messages, settings=SETTINGS)
            *_, compared, _status = await hear(client, request)
            assert isinstance(compared, Compared)
            assert [arm.memory_on for arm in compared.arms] == [True, False]
            assert compared.arms[0].finished.text == plain

    run(test)


def test_what_does_not_fit_is_left_out(quantized: Path) -> None:
    async def test() -> None:
        async with opened() as client:
            old = ChatMessage(role="user", content="word " * 300)
            reply = ChatMessage(role="assistant", content="Yes. " * 100)
            context, *_ = await hear(client, ask_for("And?", SETTINGS, old, reply))
            assert isinstance(context, ContextUse) and context.n_left_out == 2
            with pytest.raises(EngramError) as caught:
                await hear(client, ask_for("word " * 600))
            assert caught.value.code == "does-not-fit"
            assert (await answer(client, ask_for("And?"))).text

    run(test)


def test_a_load_is_cancelled_and_leaves_nothing(quantized: Path) -> None:
    async def test() -> None:
        async with opened() as client:
            with pytest.raises(EngramError) as caught:
                async for _ in client.ask(OPEN):
                    client.cancel()
            assert caught.value.code == "interrupted"
            assert caught.value.hint == "the model before is not loaded any more"
            with pytest.raises(EngramError, match="no model is loaded"):
                await hear(client, TraceAnswer())
            await hear(client, OPEN)
            assert (await answer(client, ask_for("And?"))).text

    run(test)


def test_a_model_that_is_not_there(quantized: Path, tmp_path: Path) -> None:
    async def test() -> None:
        async with opened(memory=None) as client:
            missing = replace(OPEN, model=str(tmp_path / "missing.gguf"))
            with pytest.raises(EngramError) as caught:
                await hear(client, missing)
            assert caught.value.code == "bad-file"

    run(test)


PARENT = """
import asyncio
from tests.model.test_worker import ENDLESS, LONG, ask_for, opened

async def main():
    async with opened() as client:
        async for event in client.ask(ask_for(LONG, ENDLESS)):
            print(client.pid, flush=True)

asyncio.run(main())
"""


def test_it_does_not_outlive_its_parent_in_mid_answer(quantized: Path) -> None:
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    _, alive = psutil.wait_procs([child], timeout=30)
    assert [one for one in alive if one.status() != psutil.STATUS_ZOMBIE] == []
