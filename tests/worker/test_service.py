"""Requests to a service, with engines that take no time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engram_local.answer import Trace
from engram_local.errors import EngramError, FileError, UsageError
from engram_local.events import (
    Finished,
    MemoryTotals,
    PromptProgress,
    TextChunk,
)
from engram_local.settings import Settings
from engram_local.spec import BackboneSpec, Fingerprint
from engram_local.worker import meter, service
from engram_local.worker.call import Call
from engram_local.worker.protocol import (
    AnswerTrace,
    Cancel,
    ChooseMemory,
    ContextUse,
    Event,
    Generate,
    Loading,
    MemoryChanged,
    Open,
    Opened,
    Request,
    Status,
    TraceAnswer,
    UseMemory,
)
from engram_local.worker.service import Service
from tests.worker.samples import FINISHED, say

OPEN = Open(model="/models/a.gguf", memory=None, settings=Settings())
SPEC = BackboneSpec(
    architecture="llama",
    name="fake",
    n_params=1,
    file_bytes=1000,
    context_length=2048,
    fingerprint=Fingerprint(
        embedding_length=4, block_count=30, vocab_size=50, tokens_sha256="0"
    ),
)


@dataclass
class FakeEngine:
    """Says three words; a token is a word, and takes 0.1 s of a clock that is ours."""

    clock: list[float]
    closed: bool = False
    cancelled: bool = False
    n_tokens: int = 0
    path: Path = Path("/models/a.gguf")
    spec: BackboneSpec = SPEC
    n_ctx: int = 64
    n_vocab: int = 50
    settings: Settings = field(default_factory=Settings)
    can_leave_out_memory: bool = False
    memory: Any = None
    loaded_memory: Any = None
    n_words: int = 3
    totals: MemoryTotals = field(default_factory=MemoryTotals)

    def encode(self, messages: Sequence[dict[str, str]]) -> list[int]:
        """One token per word."""
        return [1] * sum(len(one["content"].split()) for one in messages)

    def generate(self, messages: Any, *, settings: Settings) -> Iterator[Any]:
        """Answer until cancelled."""
        self.cancelled = False
        self.n_tokens = len(self.encode(messages))
        yield PromptProgress(n_done=self.n_tokens, n_total=self.n_tokens)
        for _ in range(self.n_words):
            if self.cancelled:
                break
            self.clock[0] += 0.1
            self.n_tokens += 1
            self.totals = MemoryTotals(
                rows_read=self.totals.rows_read + 16,
                n_steps=self.totals.n_steps + 1,
                stall_ms=self.totals.stall_ms + 2.0,
            )
            yield TextChunk(text="word ")
        yield FINISHED

    def cancel(self) -> None:
        """End the answer."""
        self.cancelled = True

    def use_memory(self, on: bool) -> None:
        """There is none."""
        raise UsageError("this engine was opened without a memory")

    def choose_memory(self, choice: Any, *, tier: str, progress: Any) -> None:
        """Load one."""
        progress("reading the table", 0.5)
        table = SimpleNamespace(n_rows=10, row_bytes=34)
        spec = SimpleNamespace(
            layers=[SimpleNamespace(table=table)], table_bytes=340, rows_per_token=16
        )
        self.loaded_memory = self.memory = SimpleNamespace(
            kind="attached",
            tier=tier,
            layer_ids=(2,),
            resident_bytes=None,
            module=SimpleNamespace(path=choice, spec=spec),
        )

    def trace(self) -> Trace:
        """Nothing was said."""
        return Trace(first=3, layer_ids=(), tokens=())

    def memory_totals(self) -> MemoryTotals:
        """As counted."""
        return self.totals

    def close(self) -> None:
        """Write it down."""
        self.closed = True


class Served:
    """A service that opens fakes, and what it says."""

    def __init__(self, clock: list[float]) -> None:
        self.service = Service()
        self.clock = clock
        self.engines: list[FakeEngine] = []
        self.problem: Exception | None = None
        self.is_cancelled: Callable[[], bool] = lambda: False
        self.said: list[Event] = []

    def open_engine(self, model: Path | None, **options: Any) -> Any:
        """In place of opening.open_engine."""
        options["progress"]("loading the model", 0.5)
        if self.problem is not None:
            raise self.problem
        self.engines.append(FakeEngine(self.clock))
        return SimpleNamespace(engine=self.engines[-1], notes=("a note",), parts=())

    def __call__(self, request: Request) -> list[Event]:
        """Do a request."""
        self.said = []
        self.service.do(request, Call(self.said.append, lambda: self.is_cancelled()))
        return self.said


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Served:
    """A service on a machine without GPUs, whose clock only engines move."""
    clock = [100.0]
    served = Served(clock)
    monkeypatch.setattr(service, "open_engine", served.open_engine)
    monkeypatch.setattr(meter, "_gpus", tuple)
    monkeypatch.setattr(meter, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    return served


def statuses(events: list[Event]) -> list[Status]:
    return [event for event in events if isinstance(event, Status)]


def test_a_model_is_described(served: Served) -> None:
    loading, opened, status = served(OPEN)
    assert loading == Loading(what="loading the model", part=0.5)
    assert isinstance(opened, Opened) and isinstance(status, Status)
    model = opened.model
    assert (model.name, model.n_layers, model.n_ctx_train) == ("a", 30, 2048)
    assert (model.memory, model.memory_on, model.notes) == (None, False, ("a note",))


def test_the_old_model_is_freed_before_the_new_one_is_loaded(served: Served) -> None:
    served(OPEN)
    old = served.engines[0]
    served.problem = FileError("gone", hint="look")
    with pytest.raises(FileError) as caught:
        served(OPEN)
    assert old.closed
    assert caught.value.hint == "look; the model before is not loaded any more"
    with pytest.raises(UsageError, match="no model is loaded"):
        served(TraceAnswer())
    served.problem = None
    served(OPEN)
    assert served(TraceAnswer())[0] == AnswerTrace(first=3, layer_ids=(), tokens=())


def test_a_bug_while_a_model_is_opened_leaves_none(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "describe_model", lambda _: {}["name"])
    with pytest.raises(KeyError):
        served(OPEN)
    assert served.engines[0].closed
    with pytest.raises(UsageError, match="no model is loaded"):
        served(TraceAnswer())


def test_what_fails_ends_the_rates(served: Served) -> None:
    served(OPEN)
    with pytest.raises(UsageError):
        served(UseMemory(on=True))
    (status,) = statuses(served.said)
    assert status.tokens_per_s is None


def test_what_fails_at_first_says_nothing_of_a_model_before(served: Served) -> None:
    served.problem = FileError("gone")
    with pytest.raises(FileError) as caught:
        served(OPEN)
    assert caught.value.hint is None


def test_a_load_that_was_cancelled_too_late_is_freed(served: Served) -> None:
    served.is_cancelled = lambda: bool(served.engines)
    with pytest.raises(EngramError) as caught:
        served(OPEN)
    assert caught.value.code == "interrupted"
    assert served.engines[0].closed


def test_an_answer_is_passed_on_with_its_context(served: Served) -> None:
    served(OPEN)
    context, *events, status = served(say("two words"))
    assert context == ContextUse(n_prompt=2, n_ctx=64, n_left_out=0)
    assert [event for event in events if not isinstance(event, Status)] == [
        PromptProgress(n_done=2, n_total=2),
        *[TextChunk(text="word ")] * 3,
        FINISHED,
    ]
    assert isinstance(status, Status) and status.tokens_per_s is None
    assert status.rows_read == 48


def test_rates_are_told_four_times_a_second(served: Served) -> None:
    served(OPEN)
    (engine,) = served.engines
    engine.n_words = 20  # 2 s
    engine.memory = engine.loaded_memory = SimpleNamespace(resident_bytes=5)
    *during, last = statuses(served(say("two words")))
    assert len(during) == 6  # each after 3 words
    for status in during:
        assert status.tokens_per_s == pytest.approx(10.0)
        assert status.rows_per_s == pytest.approx(160.0)
        assert status.stall_ms == pytest.approx(2.0)
    assert last.rows_per_s is last.tokens_per_s is None
    assert (last.rows_read, last.resident_bytes) == (320, 5)


def test_a_table_that_takes_long_to_look_at_is_looked_at_rarely(
    served: Served,
) -> None:
    class Slow:
        n_looks = 0

        @property
        def resident_bytes(self) -> int:
            served.clock[0] += 0.02
            self.n_looks += 1
            return self.n_looks

    served(OPEN)
    (engine,) = served.engines
    engine.n_words = 60  # 6 s, and looks are 2 s apart
    engine.memory = engine.loaded_memory = Slow()
    seen = [status.resident_bytes for status in statuses(served(say("two words")))]
    assert len(seen) > 20
    assert sorted(set(seen)) == [1, 2, 3]
    engine.loaded_memory = Slow()  # another one
    assert statuses(served(TraceAnswer()))[0].resident_bytes == 1


def test_a_cancel_before_the_answer_began_counts(served: Served) -> None:
    """The engine forgets it when it begins."""
    served(OPEN)
    served.engines[0].n_words = 1000
    served.is_cancelled = lambda: True
    events = served(say("two words"))
    assert sum(isinstance(event, TextChunk) for event in events) == 0
    assert any(isinstance(event, Finished) for event in events)


def test_an_interrupt_reaches_the_engine(served: Served) -> None:
    served.service.interrupt()
    served(OPEN)
    served.service.interrupt()
    assert served.engines[0].cancelled


def test_what_does_not_fit_is_left_out(served: Served) -> None:
    served(OPEN)
    old, new = say("old " * 60).messages, say("new").messages
    context, *_ = served(Generate(messages=(*old, *new), settings=Settings()))
    assert context == ContextUse(n_prompt=1, n_ctx=64, n_left_out=1)


def test_a_memory_is_exchanged(served: Served) -> None:
    served(OPEN)
    with pytest.raises(UsageError):
        served(UseMemory(on=True))
    loading, changed, _ = served(ChooseMemory(memory="/models/b.gguf", tier="ram"))
    assert isinstance(loading, Loading) and isinstance(changed, MemoryChanged)
    assert changed.memory is not None and changed.memory_on
    memory = changed.memory
    assert (memory.name, memory.path, memory.tier) == ("b", "/models/b.gguf", "ram")
    assert (memory.n_rows, memory.row_bytes, memory.rows_per_token) == (10, 34, 16)


def test_a_cancel_is_not_for_the_thread_that_works(served: Served) -> None:
    served(OPEN)
    with pytest.raises(UsageError, match="Cancel"):
        served(Cancel())


def test_closing_frees_the_engine(served: Served) -> None:
    served(OPEN)
    served.service.close()
    served.service.close()
    assert served.engines[0].closed


@pytest.mark.parametrize("can_be", [True, False])
def test_a_memory_is_left_out_from_the_begin_if_it_can_be(
    can_be: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a question that waits would be answered before it is switched off."""
    switched = []
    engine = FakeEngine([0.0], can_leave_out_memory=can_be)
    monkeypatch.setattr(engine, "use_memory", switched.append)
    opening = SimpleNamespace(engine=engine, parts=(), notes=())
    monkeypatch.setattr(
        "engram_local.worker.service.open_engine", lambda *args, **flags: opening
    )
    Service().do(
        replace(OPEN, memory_on=False), Call(lambda event: None, lambda: False)
    )
    assert switched == ([False] if can_be else [])
