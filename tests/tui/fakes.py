"""Engines without a process: answers are scripted; slow, dying and failing ones too."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engram_local import __version__
from engram_local.errors import EngramError, WorkerLostError
from engram_local.events import (
    Finished,
    FinishReason,
    MemoryStats,
    PromptProgress,
    TextChunk,
    Timing,
)
from engram_local.settings import Settings
from engram_local.worker.protocol import (
    PROTOCOL,
    ChooseMemory,
    ContextUse,
    Event,
    Generate,
    Hello,
    Loading,
    MemoryChanged,
    MemoryInfo,
    MemoryPart,
    ModelInfo,
    Open,
    Opened,
    Request,
    Status,
    UseMemory,
)
from tui.app import EngramApp
from tui.engine_link import MakePort
from tui.options import TuiOptions

MEMORY = MemoryInfo(
    name="wordnet",
    path="/models/wordnet.gguf",
    kind="attached",
    tier="mmap",
    layer_ids=(2, 15),
    table_bytes=8_000_000,
    n_rows=40_000,
    row_bytes=200,
    rows_per_token=8,
)
MODEL = ModelInfo(
    name="SmolLM2 135M Instruct",
    path="/models/smollm2.gguf",
    architecture="llama",
    file_bytes=144_000_000,
    n_layers=30,
    n_vocab=49_152,
    n_ctx=4096,
    n_ctx_train=8192,
    n_threads=2,
    memory=MEMORY,
    memory_on=True,
    can_leave_out_memory=True,
    memories=(MEMORY.path,),
    parts=(
        MemoryPart(name="weights", vram_bytes=0, ram_bytes=139_000_000),
        MemoryPart(name="KV cache", vram_bytes=0, ram_bytes=94_000_000),
        MemoryPart(name="compute buffers", vram_bytes=0, ram_bytes=98_000_000),
        MemoryPart(name="n-gram table", vram_bytes=0, ram_bytes=8_000_000),
    ),
    notes=(),
)
STATUS = Status(
    n_tokens=1556,
    tokens_per_s=41.2,
    rows_per_s=329.6,
    stall_ms=0.04,
    stall_counts=(3, 40, 12, 2, 0, 0, 0, 0, 0, 0),
    n_ready=100,
    n_late=14,
    rows_read=912,
    bytes_read=182_400,
    resident_bytes=2_400_000,
    gpus=(),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the fake says to one Generate."""

    chunks: tuple[str, ...] = ("A lemur ", "is a primate.")
    reason: FinishReason = "stop"
    delay_s: float = 0.0
    """Before every chunk."""

    waits: bool = False
    """True: after the chunks it goes on without a word until it is cancelled."""

    dies: bool = False
    """True: the process ends after the chunks."""

    error: EngramError | None = None
    """Raised in place of everything."""

    n_left_out: int = 0


Reply = Sequence[Event] | Callable[[Any], Sequence[Event]]


class FakeEngine:
    """An EnginePort. `requests` holds what it was asked.

    replies: what is said to requests of other classes, in place of nothing; may depend
    on the request.
    """

    pid: int | None = None

    def __init__(
        self,
        *answers: Answer,
        model: ModelInfo = MODEL,
        open_error: EngramError | None = None,
        loads_until: asyncio.Event | None = None,
        replies: dict[type[Request], Reply] | None = None,
    ) -> None:
        self.requests: list[Request] = []
        self.log: deque[str] = deque(maxlen=500)
        self.on_log: Callable[[str], None] = lambda line: None
        self.is_closed = False
        self._answers = deque(answers)
        self._model = model
        self._open_error = open_error
        self._loads_until = loads_until
        self._replies = replies or {}
        self._cancelled = asyncio.Event()
        self._turn = asyncio.Lock()

    async def start(self) -> Hello:
        self.say("llama_model_loader: loaded")
        return Hello(protocol=PROTOCOL, version=__version__, pid=1)

    def say(self, line: str) -> None:
        """Write a line into the log."""
        self.log.append(line)
        self.on_log(line)

    async def ask(self, request: Request) -> AsyncIterator[Event]:
        self.requests.append(request)
        async with self._turn:
            self._cancelled.clear()
            async for event in self._events(request):
                await asyncio.sleep(0)
                yield event

    def cancel(self) -> None:
        self._cancelled.set()

    async def close(self) -> None:
        self.is_closed = True

    async def _events(self, request: Request) -> AsyncIterator[Event]:
        match request:
            case Open():
                is_on = request.memory_on and self._model.memory is not None
                self._model = replace(self._model, memory_on=is_on)
                async for event in self._open():
                    yield event
            case Generate():
                async for event in self._answer(request):
                    yield event
            case UseMemory():
                self._model = replace(self._model, memory_on=request.on)
                yield self._memory_changed()
            case ChooseMemory():
                yield Loading(what="memory", part=0.5)
                memory = replace(MEMORY, tier=request.tier)
                self._model = replace(
                    self._model, memory=memory if request.memory else None
                )
                yield self._memory_changed()
        reply = self._replies.get(type(request), ())
        for event in reply(request) if callable(reply) else reply:
            yield event

    async def _open(self) -> AsyncIterator[Event]:
        yield Loading(what="loading", part=0.0)
        if self._loads_until is not None:
            yield Loading(what="loading", part=0.42)
            await self._loads_until.wait()
        if self._open_error is not None:
            raise self._open_error
        yield Opened(model=self._model)

    def _memory_changed(self) -> MemoryChanged:
        return MemoryChanged(memory=self._model.memory, memory_on=self._model.memory_on)

    async def _answer(self, request: Generate) -> AsyncIterator[Event]:
        answer = self._answers.popleft() if self._answers else Answer()
        if answer.error is not None:
            raise answer.error
        n_prompt = sum(len(one.content.split()) for one in request.messages)
        yield ContextUse(
            n_prompt=n_prompt, n_ctx=self._model.n_ctx, n_left_out=answer.n_left_out
        )
        yield PromptProgress(n_done=n_prompt, n_total=n_prompt)
        said = ""
        for chunk in answer.chunks:
            await asyncio.sleep(answer.delay_s)
            if self._cancelled.is_set():
                break
            said += chunk
            yield TextChunk(text=chunk)
        if answer.dies:
            self.say("GGML_ASSERT(false) failed")
            raise lost(self.log)
        if answer.waits:
            await self._cancelled.wait()
        yield STATUS
        reason = "cancelled" if self._cancelled.is_set() else answer.reason
        yield finished(said, reason, n_prompt=n_prompt)


def lost(log: Sequence[str] = ("GGML_ASSERT(false) failed",)) -> WorkerLostError:
    """Return what is raised when the process was killed."""
    return WorkerLostError("the engine was ended by SIGABRT", log=tuple(log))


def finished(
    text: str, reason: FinishReason = "stop", *, n_prompt: int = 12
) -> Finished:
    """Return the end of an answer with round numbers."""
    timing = Timing(total_ms=1000.0, p50_ms=24.0, p95_ms=30.0, max_ms=41.0)
    return Finished(
        text=text,
        token_ids=tuple(range(len(text.split()) + 1)),
        finish_reason=reason,
        n_prompt=n_prompt,
        n_cached=0,
        prompt_s=n_prompt / 340,
        first_token_s=0.12,
        token_ms=timing,
        decode_s=len(text.split()) / 41,
        memory=MemoryStats(
            kind="attached",
            tier="mmap",
            rows_read=8 * n_prompt,
            bytes_read=1600 * n_prompt,
            stall=replace(timing, p50_ms=0.04),
            n_submitted=40,
            n_ready=38,
            n_late=2,
            gate_mean={2: 0.31, 15: 0.12},
        ),
    )


@dataclass(slots=True)
class FakeEngines:
    """Makes the engines of an app: those that are given, in turn, then plain ones."""

    engines: deque[FakeEngine] = field(default_factory=deque)
    made: list[FakeEngine] = field(default_factory=list)

    def __call__(self, on_log: Callable[[str], None]) -> FakeEngine:
        engine = self.engines.popleft() if self.engines else FakeEngine()
        engine.on_log = on_log
        self.made.append(engine)
        return engine


def fake_engines(*engines: FakeEngine) -> FakeEngines:
    """Return what makes these engines."""
    return FakeEngines(deque(engines))


def fake_app(
    *engines: FakeEngine, make_port: MakePort | None = None, theme: str | None = None
) -> EngramApp:
    """Return an app whose engines are these, one after another."""
    options = TuiOptions(
        model=Path(MODEL.path), memory="auto", settings=Settings(), theme=theme
    )
    return EngramApp(options, make_port=make_port or fake_engines(*engines))
