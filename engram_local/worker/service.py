"""Requests -> an engine's methods -> events."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from engram_local.attachment import MemoryChoice
from engram_local.chat.context import fit
from engram_local.chat.conversation import ChatMessage
from engram_local.compare import compare
from engram_local.engine import Engine
from engram_local.errors import EngramError, UsageError
from engram_local.events import PromptProgress, TextChunk
from engram_local.kernels import report_compiling
from engram_local.llama import interrupt
from engram_local.llama.chat_template import Message
from engram_local.opening import open_engine
from engram_local.worker.call import Call
from engram_local.worker.describe import describe_model, memory_changed
from engram_local.worker.meter import Meter
from engram_local.worker.protocol import (
    AnswerTrace,
    ChooseMemory,
    Compare,
    ContextUse,
    Event,
    EvictTable,
    ExplainToken,
    Generate,
    LookAtTable,
    Open,
    Opened,
    Request,
    TokenRows,
    TraceAnswer,
    UseMemory,
    WarmTable,
)


class Service:
    """One engine at a time. For one thread, except `interrupt`."""

    def __init__(self) -> None:
        self._engine: Engine | None = None
        self._meter: Meter | None = None

    def do(self, request: Request, call: Call) -> None:
        """Do a request; say its events, and at last a Status. Raises EngramError."""
        try:
            if isinstance(request, Open):
                self._open(request, call)
            else:
                self._use(self._opened(), request, call)
        finally:  # also what failed has changed numbers, and ended rates
            if self._meter is not None:
                call.say(self._meter.end())

    def interrupt(self) -> None:
        """End what is being done, if anything is. Safe from any thread."""
        if (engine := self._engine) is not None:
            engine.cancel()
        interrupt.request()

    def close(self) -> None:
        """Free the engine, if there is one."""
        engine, self._engine, self._meter = self._engine, None, None
        if engine is not None:
            engine.close()

    def _opened(self) -> Engine:
        if self._engine is None:
            raise UsageError("no model is loaded", hint="load one first")
        return self._engine

    def _open(self, request: Open, call: Call) -> None:
        was_open = self._engine is not None
        self.close()  # two models may not fit into memory
        report_compiling(partial(call.tell, "compiling, once on this machine"))
        try:
            self._load(request, call)
        except BaseException as error:
            self.close()
            if was_open and isinstance(error, EngramError):
                nothing = "the model before is not loaded any more"
                error.hint = f"{error.hint}; {nothing}" if error.hint else nothing
            raise
        finally:
            report_compiling(None)

    def _load(self, request: Open, call: Call) -> None:
        opening = open_engine(
            None if request.model is None else Path(request.model),
            memory=_choice(request.memory),
            settings=request.settings,
            fit=request.fit,
            swappable=True,
            progress=call.progress,
        )
        self._engine = opening.engine
        call.check()
        if not request.memory_on and opening.engine.can_leave_out_memory:
            opening.engine.use_memory(False)
        self._meter = Meter(opening.engine)
        call.say(Opened(model=describe_model(opening)))

    def _use(self, engine: Engine, request: Request, call: Call) -> None:
        match request:
            case Generate() | Compare():
                self._answer(engine, request, call)
            case UseMemory():
                engine.use_memory(request.on)
                call.say(memory_changed(engine))
            case ChooseMemory():
                choice = _choice(request.memory)
                engine.choose_memory(choice, tier=request.tier, progress=call.progress)
                call.say(memory_changed(engine))
            case TraceAnswer():
                trace = engine.trace()
                call.say(AnswerTrace(**trace._asdict()))
            case ExplainToken():
                rows = engine.rows_of(request.position)
                call.say(TokenRows(position=request.position, rows=rows))
            case LookAtTable():
                call.say(engine.table_map(request.n_cells))
            case WarmTable():
                engine.warm_table(call.progress)
                call.say(engine.table_map(request.n_cells))
            case EvictTable():
                engine.evict_table()
                call.say(engine.table_map(request.n_cells))
            case _:
                raise UsageError(f"{type(request).__name__} is for the reading thread")

    def _answer(self, engine: Engine, request: Generate | Compare, call: Call) -> None:
        def count(messages: Sequence[ChatMessage]) -> int:
            return len(engine.encode(_plain(messages)))

        seen, n_left_out = fit(request.messages, count, engine.n_ctx)
        call.say(
            ContextUse(n_prompt=count(seen), n_ctx=engine.n_ctx, n_left_out=n_left_out)
        )
        prompt, settings = _plain(seen), request.settings
        events: Iterable[Event] = (
            compare(engine, prompt, settings, check=call.check)
            if isinstance(request, Compare)
            else engine.generate(prompt, settings=settings)
        )
        self._pass_on(engine, events, call)

    def _pass_on(self, engine: Engine, events: Iterable[Event], call: Call) -> None:
        assert self._meter is not None
        self._meter.begin()
        if call.is_cancelled():  # `interrupt` may have come before `generate`
            engine.cancel()
        for event in events:
            call.say(event)
            self._meter.note(event)
            if call.is_cancelled():  # or before that of another arm
                engine.cancel()
            if isinstance(event, PromptProgress | TextChunk) and self._meter.is_due():
                call.say(self._meter.status())


def _plain(messages: Sequence[ChatMessage]) -> list[Message]:
    return [{"role": one.role, "content": one.content} for one in messages]


def _choice(memory: str | None) -> MemoryChoice:
    """Return a memory in the words of `Engine.open`."""
    if memory is None:
        return None
    auto: Literal["auto"] = "auto"
    return auto if memory == auto else Path(memory)
