"""The engine on the default backbone: state, limits, errors, threads."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engram_local.engine import Engine
from engram_local.errors import (
    BackboneError,
    FitError,
    Interrupted,
    MismatchError,
    TableError,
    UnsupportedError,
    UsageError,
)
from engram_local.events import Finished, PromptProgress, TextChunk
from engram_local.formats.engram_gguf import read_memory
from engram_local.formats.engram_writer import write_memory
from engram_local.formats.header import read_header
from engram_local.llama import runtime
from engram_local.memory.attached import AttachedMemory
from tests.model.conftest import EXACT

pytestmark = pytest.mark.model

WHALE = [{"role": "user", "content": "What is a whale?"}]
MACEDON = [{"role": "user", "content": "Who was king of Macedon, and when?"}]
SHORT = replace(EXACT, max_tokens=12)


@pytest.fixture(scope="module")
def memory(adapter: Callable[[str], Path]) -> Path:
    """A memory of two layers with a convolution."""
    return adapter("peft_a")


@pytest.fixture(scope="module")
def engine(exact: Path, memory: Path) -> Iterator[Engine]:
    """The float32 backbone with that memory."""
    with Engine.open(exact, memory=memory, settings=EXACT) as engine:
        yield engine


def finish(engine: Engine, prompt: object, **changes: object) -> Finished:
    """Run an answer to its end."""
    settings = replace(SHORT, **changes)  # type: ignore[arg-type]
    *_, last = engine.generate(prompt, settings=settings)  # type: ignore[arg-type]
    assert isinstance(last, Finished)
    return last


def test_events_come_in_order(engine: Engine) -> None:
    events = list(engine.generate(WHALE, settings=SHORT))
    kinds = [type(event) for event in events]
    assert kinds[0] is PromptProgress
    assert kinds[-1] is Finished
    assert kinds.count(Finished) == 1
    text = "".join(event.text for event in events if isinstance(event, TextChunk))
    assert text == events[-1].text != ""  # type: ignore[union-attr]


def test_default_system_prompt_is_kept(engine: Engine) -> None:
    text = b"".join(
        engine._backbone.piece(i, special=True) for i in engine.encode(WHALE)
    )
    assert b"<|im_start|>system\nYou are a helpful AI assistant" in text


def test_conversations_do_not_leak_into_each_other(engine: Engine) -> None:
    token_ids = engine.encode(WHALE)
    before = engine.score(token_ids)
    finish(engine, MACEDON)
    assert engine.score(token_ids) == before


def test_trim_then_new_tokens_equals_a_fresh_run(engine: Engine) -> None:
    first = finish(engine, WHALE)
    conversation = [
        *WHALE,
        {"role": "assistant", "content": first.text},
        {"role": "user", "content": "Is it a fish?"},
    ]
    settings = replace(SHORT, max_tokens=0)
    second = finish(engine, conversation, max_tokens=0)
    assert second.n_cached > first.n_prompt
    kept = engine._backbone.logits().copy()
    engine._sequence.reset()
    fresh = list(engine.generate(conversation, settings=settings))[-1]
    assert isinstance(fresh, Finished) and fresh.n_cached == 0
    wanted = engine._backbone.logits()
    # One prompt in two batches is rounded otherwise than in one.
    assert np.abs(kept - wanted).max() < 1e-3 * np.abs(wanted).max()


def test_trimming_back_into_the_middle_equals_a_fresh_run(engine: Engine) -> None:
    words = engine.encode("one two three four five six seven eight nine ten eleven")
    other = engine.encode(" zebra zebra zebra")
    engine.replay(words, [])
    assert engine._sequence.rewind([*words[:5], *other]) == 5
    engine._sequence.submit(other)
    engine._step(other)
    kept = engine._backbone.logits().copy()
    engine.replay([*words[:5], *other], [])
    wanted = engine._backbone.logits()
    assert np.abs(kept - wanted).max() < 1e-3 * np.abs(wanted).max()


def test_same_seed_same_text(engine: Engine) -> None:
    once = finish(engine, WHALE, temperature=1.0, seed=5)
    again = finish(engine, WHALE, temperature=1.0, seed=5)
    other = finish(engine, WHALE, temperature=1.0, seed=6)
    assert once.token_ids == again.token_ids
    assert once.token_ids != other.token_ids


def test_prefetch_off_changes_no_token(exact: Path, memory: Path) -> None:
    texts = []
    for prefetch in (True, False):
        settings = replace(EXACT, prefetch=prefetch)
        with Engine.open(exact, memory=memory, settings=settings) as engine:
            texts.append(finish(engine, WHALE, max_tokens=24).token_ids)
    assert texts[0] == texts[1]


def test_a_prompt_in_many_chunks_equals_one_chunk(
    exact: Path, memory: Path, engine: Engine
) -> None:
    settings = replace(EXACT, n_batch=8, n_ubatch=3)
    with Engine.open(exact, memory=memory, settings=settings) as chunked:
        assert finish(chunked, WHALE).token_ids == finish(engine, WHALE).token_ids


def test_rows_and_stalls_are_counted(engine: Engine) -> None:
    engine._sequence.reset()
    stats = finish(engine, WHALE)
    assert stats.memory is not None
    n_evaluated = stats.n_prompt + len(stats.token_ids) - 1
    assert stats.memory.rows_read == 16 * n_evaluated
    n_decodes = 1 + len(stats.token_ids) - 1
    assert stats.memory.n_submitted == 2 * n_decodes
    assert stats.memory.n_ready + stats.memory.n_late == stats.memory.n_submitted
    assert all(0 < gate < 1 for gate in stats.memory.gate_mean.values())


def test_a_replay_counts_prompt_and_tokens_apart(engine: Engine) -> None:
    between: list[int] = []
    finish(engine, WHALE)  # what was counted before is not the replay's
    replay = engine.replay(
        [1, 2, 3],
        [4, 5],
        between=lambda: between.append(len(engine._sequence.token_ids)),
    )
    assert between == [3]
    assert len(replay.token_s) == 2
    assert replay.prompt_memory is not None and replay.token_memory is not None
    assert replay.prompt_memory.rows_read == 16 * 3
    assert replay.token_memory.rows_read == 16 * 2


def test_max_tokens_and_context_end_an_answer(engine: Engine) -> None:
    assert finish(engine, WHALE, max_tokens=3).finish_reason == "length"
    assert finish(engine, WHALE, max_tokens=0).token_ids == ()
    prompt = "word " * 500
    full = finish(engine, prompt, max_tokens=-1)
    assert full.finish_reason in ("context", "stop")
    assert full.n_prompt + len(full.token_ids) <= engine.n_ctx


def test_prompt_longer_than_the_context_is_an_error(engine: Engine) -> None:
    with pytest.raises(FitError, match=r"the prompt is \d+ tokens, .* holds 512"):
        finish(engine, "word " * 600)


def test_empty_prompt_is_an_error(engine: Engine) -> None:
    with pytest.raises(UsageError, match="empty"):
        finish(engine, "")


def test_a_cancel_before_the_first_event_computes_nothing(engine: Engine) -> None:
    events = engine.generate(WHALE, settings=SHORT)
    engine.cancel()
    (event,) = events
    assert isinstance(event, Finished)
    assert (event.finish_reason, event.token_ids) == ("cancelled", ())
    assert event.prompt_tokens_per_s is None


def test_cancel_keeps_the_text_and_the_engine(engine: Engine) -> None:
    events = engine.generate(WHALE, settings=replace(EXACT, max_tokens=200))
    chunks = []
    for event in events:
        if isinstance(event, TextChunk):
            chunks.append(event.text)
            engine.cancel()
        if isinstance(event, Finished):
            assert event.finish_reason == "cancelled"
            assert event.text == "".join(chunks) != ""
    assert finish(engine, WHALE).finish_reason == "length"


def test_closing_mid_answer_leaves_a_sound_sequence(engine: Engine) -> None:
    wanted = finish(engine, MACEDON).token_ids
    answer = engine.generate(WHALE, settings=replace(EXACT, max_tokens=200))
    next(answer)
    next(answer)
    answer.close()
    assert finish(engine, MACEDON).token_ids == wanted


def test_close_leaves_no_thread(quantized: Path, memory: Path) -> None:
    before = threading.active_count()
    with Engine.open(quantized, memory=memory, settings=EXACT) as engine:
        finish(engine, WHALE)
        names = [thread.name for thread in threading.enumerate()]
        assert any(name.startswith("engram-prefetch") for name in names)
    assert threading.active_count() == before
    engine.close()


def test_memory_truncated_during_generation_is_an_error(
    quantized: Path, memory: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "memory.gguf"
    shutil.copyfile(memory, copy)
    with Engine.open(quantized, memory=copy, settings=EXACT) as engine:
        answer = engine.generate(WHALE)
        next(answer)
        with open(copy, "rb+") as file:
            file.truncate(5000)
        with pytest.raises(TableError, match="is 5,000 bytes, its table ends at"):
            list(answer)


def test_memory_of_another_backbone_is_refused(
    quantized: Path, memory: Path, tmp_path: Path
) -> None:
    module = read_memory(read_header(memory))
    fingerprint = replace(module.fingerprint, block_count=31)
    other = replace(module, fingerprint=fingerprint)
    rows = [
        np.zeros((layer.table.n_rows, layer.table.width), np.float32)
        for layer in module.spec.layers
    ]
    path = tmp_path / "other.gguf"
    write_memory(path, other, rows, architecture="llama")
    with pytest.raises(MismatchError, match="block_count 31, this one has 30"):
        Engine.open(quantized, memory=path)


def test_graph_without_the_node_is_refused_at_load(
    quantized: Path, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "node_names", lambda layer_id: (b"no_such_node",))
    with pytest.raises(UnsupportedError, match="no node no_such_node"):
        Engine.open(quantized, memory=memory)


def test_plain_model_runs_without_a_memory(quantized: Path) -> None:
    with Engine.open(quantized, memory=None, settings=EXACT) as engine:
        assert engine.memory is None
        assert finish(engine, WHALE).memory is None
        with pytest.raises(UsageError):
            engine.use_memory(True)


def test_a_second_answer_at_the_same_time_is_refused(engine: Engine) -> None:
    first = engine.generate(WHALE, settings=SHORT)
    next(first)
    with pytest.raises(UsageError, match="still answering"):
        next(engine.generate(MACEDON, settings=SHORT))
    with pytest.raises(UsageError, match="still answering"):
        engine.use_memory(False)
    first.close()
    assert finish(engine, MACEDON).token_ids


def test_a_closed_engine_says_so(quantized: Path) -> None:
    with Engine.open(quantized, memory=None, settings=EXACT) as engine:
        fresh, begun = engine.generate(WHALE), engine.generate(WHALE)
        next(begun)
    for use in (lambda: next(fresh), lambda: next(begun), lambda: engine.score([1])):
        with pytest.raises(UsageError, match="closed"):
            use()


def test_a_hidden_state_that_never_came_is_an_error(engine: Engine) -> None:
    hook, memory = engine._backbone.hook, engine.memory
    assert hook is not None and isinstance(memory, AttachedMemory)
    hook.install([b"l_out-1"], memory)  # without the second layer
    with pytest.raises(BackboneError, match="the memory layers saw"):
        engine.score(engine.encode(WHALE))
    engine._backbone.hook_layers(memory.layer_ids, memory)


def test_ctrl_c_in_a_decode_keeps_the_conversation(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = finish(engine, WHALE).token_ids
    engine._sequence.reset()
    decode = engine._backbone.decode
    calls: list[int] = []

    def interrupted(*args: Any, **options: Any) -> None:
        decode(*args, **options)
        calls.append(1)
        if len(calls) == 4:
            raise Interrupted("the computation was interrupted")

    monkeypatch.setattr(engine._backbone, "decode", interrupted)
    stopped = finish(engine, WHALE)
    assert stopped.finish_reason == "cancelled"
    again = finish(engine, WHALE)
    assert again.n_cached == again.n_prompt - 1
    assert again.token_ids == wanted


def test_progress_can_end_a_load(quantized: Path) -> None:
    parts: list[float] = []

    def end(what: str, part: float) -> None:
        parts.append(part)
        if part > 0.5:
            raise Interrupted("enough")

    with pytest.raises(Interrupted, match="the load was interrupted"):
        Engine.open(quantized, memory=None, progress=end)
    assert 0.5 < parts[-1] < 1.0
