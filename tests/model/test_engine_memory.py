"""What an engine tells of its memory, and memories that are exchanged under it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engram_local.compare import compare
from engram_local.engine import Engine
from engram_local.errors import (
    FileError,
    FitError,
    MismatchError,
    UnsupportedError,
    UsageError,
)
from engram_local.events import ArmStarted, Compared, Finished
from engram_local.formats.engram_gguf import read_memory
from engram_local.formats.engram_writer import write_memory
from engram_local.formats.header import read_header
from engram_local.llama import runtime
from engram_local.memory import reference, table
from engram_local.settings import Settings
from tests.model.conftest import EXACT

pytestmark = pytest.mark.model

WHALE = [{"role": "user", "content": "What is a whale?"}]
SHORT = replace(EXACT, max_tokens=12)


@pytest.fixture(scope="module")
def memory(adapter: Callable[[str], Path]) -> Path:
    return adapter("peft_a")


@pytest.fixture(scope="module")
def other(adapter: Callable[[str], Path]) -> Path:
    return adapter("peft_b")


@pytest.fixture(scope="module")
def engine(quantized: Path, memory: Path) -> Iterator[Engine]:
    with Engine.open(quantized, memory=memory, settings=EXACT) as engine:
        yield engine


def finish(engine: Engine, prompt: object = WHALE, **changes: object) -> Finished:
    settings = replace(SHORT, **changes)  # type: ignore[arg-type]
    *_, last = engine.generate(prompt, settings=settings)  # type: ignore[arg-type]
    assert isinstance(last, Finished)
    return last


def path_of(engine: Engine) -> Path | None:
    return None if engine.memory is None else engine.memory.module.path


# --- answers that are gone on with ----------------------------------------------------


def test_an_answer_that_was_cut_is_gone_on_with(engine: Engine) -> None:
    whole = finish(engine, max_tokens=24)
    cut = finish(engine, max_tokens=9)
    begun = {"role": "assistant", "content": cut.text}
    rest = finish(engine, [*WHALE, begun], max_tokens=15)
    assert rest.n_cached >= cut.n_prompt  # the prompt is a beginning of the new one
    assert engine.encode([*WHALE, begun]) == [*engine.encode(WHALE), *cut.token_ids]
    assert cut.text + rest.text == whole.text


# --- traces ---------------------------------------------------------------------------


def test_a_trace_has_the_tokens_and_their_gates(engine: Engine) -> None:
    answer = finish(engine)
    first, layer_ids, tokens = engine.trace()
    assert first == answer.n_prompt
    assert engine.memory is not None
    assert layer_ids == engine.memory.layer_ids
    assert tuple(token.token_id for token in tokens) == answer.token_ids
    assert "".join(token.text for token in tokens) == answer.text
    *evaluated, last = tokens
    assert last.gates == ()
    gates = engine.memory.gates(first, first + len(evaluated))
    assert gates.shape == (len(layer_ids), len(evaluated))
    np.testing.assert_array_equal([token.gates for token in evaluated], gates.T)
    assert 0 < gates.min() < gates.max() < 1


def test_a_trace_stays_until_the_next_answer(engine: Engine) -> None:
    finish(engine)
    before = engine.trace()
    engine.score(engine.encode("something else altogether"))
    assert engine.trace() == before
    list(engine.generate(WHALE, settings=replace(SHORT, max_tokens=1)))
    assert [token.gates for token in engine.trace().tokens] == [()]


def test_gates_are_those_of_the_reference(exact: Path, memory: Path) -> None:
    traces = []
    for reference_runs in (True, False):
        settings = replace(EXACT, reference=reference_runs, memory_weights="f32")
        with Engine.open(exact, memory=memory, settings=settings) as engine:
            assert engine.trace().tokens == ()
            finish(engine)
            traces.append(engine.trace().tokens)
    for one, wanted in zip(*traces, strict=True):
        assert one.token_id == wanted.token_id
        assert one.gates == pytest.approx(wanted.gates, rel=1e-4)


def test_without_memory_there_are_no_gates(engine: Engine) -> None:
    engine.use_memory(False)
    try:
        finish(engine)
        trace = engine.trace()
        assert trace.layer_ids == ()
        assert all(token.gates == () for token in trace.tokens)
        with pytest.raises(UsageError, match="no memory is in use"):
            engine.rows_of(0)
    finally:
        engine.use_memory(True)


def test_rows_of_a_token_are_those_that_are_hashed(engine: Engine) -> None:
    answer = finish(engine)
    assert engine.memory is not None
    module = engine.memory.module
    ids = [*engine.encode(WHALE), *answer.token_ids]
    canonical_ids = module.canonical_ids(ids).tolist()
    wanted = [reference.row_ids(canonical_ids, one.hash) for one in module.spec.layers]
    for position in (0, 1, len(ids) - 2):
        rows = engine.rows_of(position)
        assert [row.row_id for row in rows] == [
            row_id for one in wanted for row_id in one[position]
        ]
    assert rows[-1].token_ids == tuple(ids[-4:-1])
    assert "<|im_start|>" in engine.rows_of(2)[-1].texts
    for position in (-1, len(ids) - 1):  # the last token is never evaluated
        with pytest.raises(UsageError, match="have been evaluated"):
            engine.rows_of(position)


def test_native_models_tell_rows_and_no_gates(native_model: Path) -> None:
    with Engine.open(native_model, settings=replace(EXACT, n_ctx=64)) as engine:
        *_, last = engine.generate("a b c", settings=replace(SHORT, max_tokens=4))
        assert isinstance(last, Finished)
        assert all(token.gates == () for token in engine.trace().tokens)
        assert engine.trace().layer_ids == ()
        assert engine.memory is not None
        (layer,) = engine.memory.module.spec.layers
        wanted = reference.row_ids(engine._sequence.token_ids, layer.hash)
        for position, row_ids in enumerate(wanted):
            assert [row.row_id for row in engine.rows_of(position)] == row_ids
        (strip,) = engine.table_map(4).strips
        assert len(strip.resident) == 4
        totals = engine.memory_totals()
        assert totals.rows_read == len(wanted) * layer.hash.n_slots
        assert (totals.n_steps, totals.stall_ms) == (0, 0)
        with pytest.raises(UsageError, match="part of this model"):
            engine.choose_memory(None)


# --- running totals -------------------------------------------------------------------


def test_totals_grow_and_take_nothing_from_an_answer(engine: Engine) -> None:
    before = engine.memory_totals()
    events, seen = [], []
    for event in engine.generate(WHALE, settings=SHORT):
        events.append(event)
        seen.append(engine.memory_totals())
    last = events[-1]
    assert isinstance(last, Finished)
    stats, after = last.memory, engine.memory_totals()
    assert stats is not None and stats.stall is not None
    rows = [totals.rows_read for totals in seen]
    assert rows == sorted(rows) and rows[0] > before.rows_read
    assert after.rows_read - before.rows_read == stats.rows_read
    assert after.bytes_read - before.bytes_read == stats.bytes_read
    assert after.n_ready - before.n_ready == stats.n_ready
    assert after.n_late - before.n_late == stats.n_late
    assert after.stall_ms - before.stall_ms == pytest.approx(stats.stall.total_ms)
    n_steps = after.n_steps - before.n_steps
    assert n_steps == sum(stats.stall_counts) == len(last.token_ids)
    assert sum(after.stall_counts) == after.n_steps


# --- memories exchanged ---------------------------------------------------------------


def test_memories_are_exchanged_without_the_backbone(
    quantized: Path, memory: Path, other: Path
) -> None:
    wanted = {}
    for path in (None, memory, other):
        with Engine.open(quantized, memory=path, settings=EXACT) as fresh:
            wanted[path] = finish(fresh).token_ids
    assert len(set(wanted.values())) == 3
    with Engine.open(quantized, memory=None, settings=EXACT, swappable=True) as engine:
        n_threads = threading.active_count()
        for path in (None, memory, other, memory, None, other):
            engine.choose_memory(path)
            assert path_of(engine) == path
            assert finish(engine).token_ids == wanted[path]
        engine.choose_memory(None)
        assert threading.active_count() == n_threads
        assert engine.memory_totals().rows_read > 0  # of those that are gone
        with pytest.raises(UsageError, match="without a memory"):
            engine.table_map(3)
        with pytest.raises(UsageError, match="without a memory"):
            engine.use_memory(True)


def test_the_tier_is_switched(quantized: Path, memory: Path) -> None:
    told: list[tuple[str, float]] = []
    with Engine.open(quantized, memory=memory, settings=EXACT) as engine:
        wanted = finish(engine).token_ids
        for tier in ("ram", "mmap", "auto"):
            engine.choose_memory(
                memory, tier=tier, progress=lambda *call: told.append(call)
            )
            assert engine.memory is not None
            assert engine.memory.tier == tier.replace("auto", "mmap")
            assert finish(engine).token_ids == wanted
        assert told[-1] == ("reading the table", 1.0)
        assert {cell for one in engine.table_map(3).strips for cell in one.resident}
        engine.use_memory(False)
        with pytest.raises(UsageError, match="memory_tier"):
            engine.choose_memory(memory, tier="drive")
        assert engine.memory is None  # as it was
        engine.choose_memory(memory)
        assert engine.memory is not None


@pytest.mark.parametrize("on", [True, False])
def test_what_cannot_be_loaded_leaves_the_memory_before(
    on: bool,
    engine: Engine,
    memory: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine.use_memory(on)
    wanted, before = finish(engine).token_ids, engine._loaded_memory
    module = read_memory(read_header(memory))
    fingerprint = replace(module.fingerprint, block_count=31)
    rows = [
        np.zeros((layer.table.n_rows, layer.table.width), np.float32)
        for layer in module.spec.layers
    ]
    foreign, damaged = tmp_path / "foreign.gguf", tmp_path / "damaged.gguf"
    write_memory(
        foreign, replace(module, fingerprint=fingerprint), rows, architecture="llama"
    )
    damaged.write_bytes(b"GGUF")
    for path, error in (
        (tmp_path / "none.gguf", FileError),
        (damaged, FileError),
        (foreign, MismatchError),
    ):
        with pytest.raises(error):
            engine.choose_memory(path)
    with monkeypatch.context() as patch:
        patch.setattr(runtime, "node_names", lambda layer_id: (b"no_such_node",))
        with pytest.raises(UnsupportedError):
            engine.choose_memory(memory)
    with monkeypatch.context() as patch:
        patch.setattr(table, "_read", no_room)
        with pytest.raises(FitError):
            engine.choose_memory(memory, tier="ram")
    assert engine._loaded_memory is before
    assert (engine.memory is not None) == on
    assert finish(engine).token_ids == wanted
    engine.use_memory(True)


def no_room(*_: object) -> None:
    raise FitError("no room")


def test_a_backbone_that_cannot_be_hooked_says_so(
    quantized: Path, memory: Path
) -> None:
    with Engine.open(quantized, memory=None, settings=EXACT) as engine:
        engine.choose_memory(None)
        with pytest.raises(UsageError, match="opened without a memory"):
            engine.choose_memory(memory)
        assert finish(engine).token_ids


# --- the table in the page cache ------------------------------------------------------


def test_a_table_is_warmed_until_it_is_cancelled(engine: Engine, memory: Path) -> None:
    parts: list[float] = []
    engine.warm_table(lambda _, part: parts.append(part))
    assert parts[-1] == 1.0
    for strip in engine.table_map(5).strips:
        assert set(strip.resident) <= {1.0, None}
    parts.clear()

    def cancel(_what: str, part: float) -> None:
        parts.append(part)
        engine.cancel()

    engine.warm_table(cancel)
    assert len(parts) == 1
    engine.evict_table()
    assert finish(engine).finish_reason == "length"


# --- compared -------------------------------------------------------------------------


def test_answers_are_compared_and_scored_both_ways(engine: Engine) -> None:
    settings = replace(SHORT, temperature=0.8)
    *events, last = compare(engine, WHALE, settings)
    assert isinstance(last, Compared)
    started = [event for event in events if isinstance(event, ArmStarted)]
    assert [event.memory_on for event in started] == [True, False]
    finished = [event for event in events if isinstance(event, Finished)]
    assert [arm.finished for arm in last.arms] == finished
    assert [arm.memory_on for arm in last.arms] == [True, False]
    prompt_ids = engine.encode(WHALE)
    for arm in last.arms:
        token_ids = [*prompt_ids, *arm.finished.token_ids]
        for on, found in ((True, arm.nll_on), (False, arm.nll_off)):
            engine.use_memory(on)
            nll = engine.score(token_ids)[len(prompt_ids) - 1 :]
            assert len(nll) == len(arm.finished.token_ids)
            assert found == pytest.approx(np.mean(nll), rel=1e-2)
        assert arm.nll_on != pytest.approx(arm.nll_off, rel=1e-3)
    engine.use_memory(True)


def test_a_memory_of_zeros_changes_nothing(
    quantized: Path, memory: Path, tmp_path: Path
) -> None:
    module = read_memory(read_header(memory))
    rows = [
        np.zeros((layer.table.n_rows, layer.table.width), np.float32)
        for layer in module.spec.layers
    ]
    path = tmp_path / "zeros.gguf"
    write_memory(path, module, rows, architecture="llama")
    with Engine.open(quantized, memory=path, settings=EXACT) as engine:
        *_, last = compare(engine, WHALE, replace(SHORT, temperature=0.8))
    assert isinstance(last, Compared)
    one, other = last.arms
    assert one.finished.token_ids == other.finished.token_ids
    assert one.nll_on == pytest.approx(one.nll_off, rel=1e-4)
    assert one.nll_on == pytest.approx(other.nll_off, rel=1e-4)


def test_the_default_memory_changes_what_an_answer_costs() -> None:
    with Engine.open(settings=Settings(n_ctx=512, seed=1)) as engine:
        engine.use_memory(False)
        settings = Settings(max_tokens=16, seed=1)
        *_, last = compare(engine, WHALE, settings)
        assert engine.memory is None  # as it was
    assert isinstance(last, Compared)
    for arm in last.arms:
        assert arm.nll_on is not None and arm.nll_off is not None
        assert abs(arm.nll_on - arm.nll_off) > 0.01
