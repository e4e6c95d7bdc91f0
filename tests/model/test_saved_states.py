"""Going back in models that cannot forget a token: the logits of a fresh evaluation.

Of qwen4exp, with KV cache, indexer keys, recurrent states and the table's convolution,
a restored state gives the same bits, as of lfm2 and mamba. Of gemma4, whose sliding
window is restored into other cells, sums run in another order.

Tokens that end the n-grams stand in every window, history crosses chunks, and the rows
of each test with an engine are compared with ours (`verify_rows`).

What cannot occur here, of all that goes wrong with such models elsewhere:
* Rolling back inside a recurrent state: `n_rs_seq` is 0, and llama.cpp refuses.
* Removing from all sequences at once (seq_id -1), copies of a sequence, tokens in
  several of them, another `n_seq_max`: there is one sequence, number 0.
* Holes, jumps and shifts of positions: a batch begins where the last one ended, only
  tails are removed, and a full context ends the answer instead of being shifted.
* Images: every batch is of tokens. A written image token is a token like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import llama_cpp
import numpy as np
import pytest
from numpy.typing import NDArray

from engram_local.engine import Engine
from engram_local.errors import BackboneError
from engram_local.events import Finished, PromptProgress, TextChunk
from engram_local.llama.runtime import Backbone
from engram_local.spec import RowType
from tests.model.conftest import EXACT
from tests.native_models import N_TOKENS, tiny_gemma4, tiny_qwen4exp
from tests.recurrent_models import tiny_lfm2, tiny_mamba

pytestmark = pytest.mark.model

F32 = NDArray[np.float32]

BOUND = 2e-4
WINDOW_BOUND = 2e-3
"""Of the largest difference, relative to the largest logit, where batches are of other
sizes or cells have moved. Measured: 8e-7 in these qwen4exp, 1e-3 in gemma4, whose GELU
is a table of float16 in ggml: two fresh evaluations differ by 2e-4 in it."""

SETTINGS = replace(
    EXACT, n_ctx=1024, n_batch=64, n_ubatch=32, n_threads=1, max_tokens=12
)
EOS = 2


@pytest.fixture(scope="module")
def sparse(quantized: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight layers, an indexer that leaves most of a long text out, 4-grams."""
    path = tmp_path_factory.mktemp("sparse") / "model.gguf"
    return tiny_qwen4exp(
        path, n_layers=8, full_every=4, table_layer=1, indexer_top_k=64, max_ngram=4,
        row_type=RowType.Q8_0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def windowed(quantized: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A window of 16 tokens in three of six layers."""
    path = tmp_path_factory.mktemp("windowed") / "model.gguf"
    return tiny_gemma4(path, n_layers=6, full_every=2, window=16)


MODELS = ["qwen4exp", "sparse", "windowed"]


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> Path:
    """A model with a table of its own; every test runs three times."""
    return Path(request.getfixturevalue(request.param))


@pytest.fixture(scope="module", params=[*MODELS, "lfm2", "lfm2_windowed", "mamba"])
def any_model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The same and one of each other kind of memory that llama.cpp has for models."""
    if request.param in MODELS:
        return Path(request.getfixturevalue(request.param))
    path = tmp_path_factory.mktemp("recurrent") / "model.gguf"
    if request.param == "mamba":
        return tiny_mamba(path)
    return tiny_lfm2(path, window=16 if request.param == "lfm2_windowed" else None)


@pytest.fixture
def pair(any_model: Path) -> Iterator[tuple[Backbone, Backbone]]:
    """One that goes back, and one that is asked for a fresh evaluation."""
    backbones = Backbone(any_model, SETTINGS), Backbone(any_model, SETTINGS)
    yield backbones
    for backbone in backbones:
        backbone.close()


def noise(n_tokens: int, seed: int) -> list[int]:
    """Return tokens; one of eight ends the n-grams."""
    random = np.random.default_rng(seed)
    token_ids = random.integers(0, N_TOKENS, n_tokens)
    token_ids[random.random(n_tokens) < 1 / 8] = EOS
    return list(map(int, token_ids))


def run(
    backbone: Backbone, token_ids: Sequence[int], start: int, size: int = 64
) -> list[F32]:
    """Evaluate tokens from a position on; return the logits after each chunk."""
    found = []
    for first in range(0, len(token_ids), size):
        backbone.decode(token_ids[first : first + size], start + first)
        found.append(backbone.logits().copy())
    return found


def deviation(found: Sequence[F32], wanted: Sequence[F32]) -> float:
    """Return the largest difference, relative to the largest logit."""
    return max(
        float(np.abs(one - other).max() / np.abs(other).max())
        for one, other in zip(found, wanted, strict=True)
    )


def has_window(backbone: Backbone) -> bool:
    """Return whether cells are moved when a state is restored."""
    return bool(llama_cpp.llama_model_n_swa(backbone._model))


def bound_of(backbone: Backbone) -> float:
    """Return what may differ after the same batches."""
    return WINDOW_BOUND if has_window(backbone) else 0.0


# --- the backbone -------------------------------------------------------------


@pytest.mark.parametrize("n_kept", [1, 3, 16, 17, 64, 200])
@pytest.mark.parametrize(("n_more", "size"), [(1, 1), (40, 1), (300, 64)])
def test_a_restored_state_equals_a_fresh_evaluation(
    pair: tuple[Backbone, Backbone], n_kept: int, n_more: int, size: int
) -> None:
    backbone, fresh = pair
    token_ids, other_ids = noise(n_kept + n_more, seed=1), noise(70, seed=2)
    run(backbone, token_ids[:n_kept], 0)
    state = backbone.save()
    run(backbone, token_ids[n_kept:], n_kept, size)
    for chunk in (30, 1, 7):  # the last restore comes after two others
        assert backbone.restore(state, n_kept)
        assert bytes(backbone.save()) == bytes(state)
        found = run(backbone, other_ids, n_kept, chunk)
        fresh.reset()
        run(fresh, token_ids[:n_kept], 0)
        wanted = run(fresh, other_ids, n_kept, chunk)
        assert deviation(found, wanted) <= bound_of(backbone)


def test_another_state_of_the_same_length_is_told_apart(
    pair: tuple[Backbone, Backbone],
) -> None:
    """The comparison above can fail: what is restored matters."""
    backbone, other = pair
    token_ids = noise(200, seed=1)
    run(other, noise(200, seed=3), 0)
    run(backbone, token_ids, 0)
    wanted = run(backbone, token_ids[:20], 200)
    assert backbone.restore(other.save(), 200)
    found = run(backbone, token_ids[:20], 200)
    assert deviation(found, wanted) > 20 * (bound_of(backbone) or BOUND)


def test_several_states_lead_back_one_after_the_other(
    pair: tuple[Backbone, Backbone],
) -> None:
    backbone, fresh = pair
    token_ids, more_ids = noise(400, seed=1), noise(20, seed=2)
    states = {}
    for start in range(0, 400, 50):
        run(backbone, token_ids[start : start + 50], start)
        states[start + 50] = backbone.save()
    for n_kept, state in reversed(states.items()):
        assert backbone.restore(state, n_kept)
        found = run(backbone, more_ids, n_kept, 1)
        fresh.reset()
        run(fresh, token_ids[:n_kept], 0, 50)
        wanted = run(fresh, more_ids, n_kept, 1)
        assert deviation(found, wanted) <= bound_of(backbone)


def test_trim_says_no_where_tokens_cannot_go(pair: tuple[Backbone, Backbone]) -> None:
    backbone, _ = pair
    run(backbone, noise(600, seed=1), 0)
    assert llama_cpp.llama_n_rs_seq(backbone._context) == 0  # never rolled back
    assert not backbone.trim(100)
    assert backbone.trim(600)  # nothing goes
    has_state = [
        llama_cpp.llama_model_is_hybrid(backbone._model),
        llama_cpp.llama_model_is_recurrent(backbone._model),
    ]
    assert backbone.trim(599) is not any(has_state)  # a window has tokens to spare
    assert backbone.needs_saved_states


def test_a_refused_trim_changes_nothing(pair: tuple[Backbone, Backbone]) -> None:
    backbone, fresh = pair
    for one in pair:
        run(one, noise(600, seed=1), 0)
    assert not backbone.trim(100)
    more_ids = noise(20, seed=2)
    assert deviation(run(backbone, more_ids, 600), run(fresh, more_ids, 600)) == 0


def test_a_state_of_something_else_is_refused(pair: tuple[Backbone, Backbone]) -> None:
    backbone, _ = pair
    run(backbone, noise(20, seed=1), 0)
    assert not backbone.restore(np.zeros(100, np.uint8), 10)


def test_a_model_that_keeps_every_token_needs_no_states(quantized: Path) -> None:
    backbone = Backbone(quantized, replace(SETTINGS, n_ctx=64))
    assert not backbone.needs_saved_states
    backbone.close()


def test_a_window_as_long_as_the_context_needs_no_states(windowed: Path) -> None:
    backbone = Backbone(windowed, replace(SETTINGS, n_ctx=16))
    assert backbone.n_ctx > 16  # llama.cpp rounds up
    assert backbone.needs_saved_states
    backbone.close()


# --- the engine ---------------------------------------------------------------

TEXT = "The fox met a whale. " * 20
ASKED = [{"role": "user", "content": TEXT + "What is a whale?"}]
LONG = 300
"""Tokens of an answer after which a window has forgotten its prompt: its cache has 256
cells, whatever the window."""


@pytest.fixture(scope="module")
def engines(model: Path) -> Iterator[tuple[Engine, Engine]]:
    """The same model twice; all rows of its table are compared with ours."""
    settings = replace(SETTINGS, verify_rows=True)
    with (
        Engine.open(model, settings=settings) as engine,
        Engine.open(model, settings=settings) as fresh,
    ):
        yield engine, fresh


def finish(engine: Engine, prompt: object, **changes: object) -> Finished:
    """Run an answer to its end; its progress must agree with what was kept."""
    settings = replace(engine.settings, **changes)  # type: ignore[arg-type]
    *events, last = engine.generate(prompt, settings=settings)  # type: ignore[arg-type]
    assert isinstance(last, Finished)
    done = [event.n_done for event in events if isinstance(event, PromptProgress)]
    assert (
        done == sorted(done) and done[0] > last.n_cached and done[-1] == last.n_prompt
    )
    assert last.memory is not None and last.memory.verified_rows
    return last


def follow_up(text: str) -> list[dict[str, str]]:
    """Return the conversation one turn later."""
    return [
        *ASKED,
        {"role": "assistant", "content": text},
        {"role": "user", "content": "Is it a fish?"},
    ]


def same_text(engine: Engine) -> object:
    """The answer reads as it was written, or nearly so."""
    return follow_up(finish(engine, ASKED).text)


def other_text(engine: Engine) -> object:
    """A template leaves the thoughts out, many of them."""
    finish(engine, ASKED, max_tokens=LONG)
    return follow_up("No.")


def once_more(engine: Engine) -> object:
    """Another answer is wanted."""
    finish(engine, ASKED, max_tokens=LONG)
    return ASKED


def nothing_after_it(engine: Engine) -> object:
    """The prompt is all that was evaluated."""
    finish(engine, ASKED, max_tokens=0)
    return ASKED


def after_cancel(engine: Engine) -> object:
    """The reader stops an answer at its second piece."""
    text = ""
    for event in engine.generate(ASKED, settings=replace(SETTINGS, max_tokens=50)):
        if isinstance(event, TextChunk):
            text += event.text
            engine.cancel()
    return follow_up(text)


def after_closing(engine: Engine) -> object:
    """The reader leaves after the first piece of text."""
    answer = engine.generate(ASKED)
    while not isinstance(next(answer), TextChunk):
        pass
    answer.close()
    return follow_up("No.")


def after_ctrl_c_in_the_prompt(engine: Engine) -> object:
    """It comes in the second half of the second turn's batch."""
    finish(engine, ASKED)
    prompt = follow_up("No. " * 50)
    with aborted_at(engine, n_nodes=60):
        *_, last = engine.generate(prompt)
    assert isinstance(last, Finished) and last.finish_reason == "cancelled"
    assert 0 < len(engine._sequence.token_ids) < len(engine.encode(prompt))
    return prompt


def after_ctrl_c_in_the_answer(engine: Engine) -> object:
    """It comes in the graph of a single token."""
    answer = engine.generate(ASKED, settings=replace(SETTINGS, max_tokens=50))
    while not isinstance(next(answer), TextChunk):
        pass
    with aborted_at(engine, n_nodes=20):
        *_, last = answer
    assert isinstance(last, Finished) and last.finish_reason == "cancelled"
    return follow_up(last.text)


@contextmanager
def aborted_at(engine: Engine, n_nodes: int) -> Iterator[None]:
    """Let llama.cpp give up at a node of the graph, as after Ctrl-C."""
    n_asked = 0

    def give_up(_: object) -> bool:
        nonlocal n_asked
        n_asked += 1
        return n_asked >= n_nodes

    backbone = engine._backbone
    callback = llama_cpp.ggml_abort_callback(give_up)
    llama_cpp.llama_set_abort_callback(backbone._context, callback, None)
    try:
        yield
    finally:
        llama_cpp.llama_set_abort_callback(backbone._context, backbone._abort, None)
    assert n_asked >= n_nodes


REUSES = [
    same_text, other_text, once_more, nothing_after_it, after_cancel, after_closing,
    after_ctrl_c_in_the_prompt, after_ctrl_c_in_the_answer,
]  # fmt: skip


@pytest.fixture
def restored(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the lengths that were gone back to with a saved state, in this test."""
    lengths: list[int] = []
    restore = Backbone.restore

    def spy(backbone: Backbone, data: NDArray[np.uint8], n_tokens: int) -> bool:
        lengths.append(n_tokens)
        return restore(backbone, data, n_tokens)

    monkeypatch.setattr(Backbone, "restore", spy)
    return lengths


@pytest.mark.parametrize("reuse", REUSES)
def test_what_is_kept_equals_a_fresh_evaluation(
    engines: tuple[Engine, Engine],
    reuse: Callable[[Engine], object],
    restored: list[int],
) -> None:
    engine, fresh = engines
    for one in engines:
        one._sequence.reset()
    prompt = reuse(engine)
    kept = finish(engine, prompt, max_tokens=0)
    assert restored or reuse not in (other_text, once_more)
    wanted = finish(fresh, prompt, max_tokens=0)
    n_asked = len(engine.encode(ASKED))
    assert kept.n_cached >= n_asked - 8 > 0 == wanted.n_cached
    logits = [one._backbone.logits().copy() for one in engines]
    assert deviation(logits[:1], logits[1:]) < (bound_of(engine._backbone) or BOUND)
    again = [finish(one, prompt, max_tokens=12).token_ids for one in engines]
    assert again[0] == again[1]


def test_once_more_gives_the_same_bits(
    engines: tuple[Engine, Engine], restored: list[int]
) -> None:
    """The last tokens are a batch of their own, the first time too."""
    engine, _ = engines
    engine._sequence.reset()
    finish(engine, ASKED, max_tokens=0)
    first = engine._backbone.logits().copy()
    finish(engine, ASKED, max_tokens=LONG)
    finish(engine, ASKED, max_tokens=0)
    assert restored
    tolerance = bound_of(engine._backbone)
    assert deviation([engine._backbone.logits()], [first]) <= tolerance


def test_after_an_error_everything_is_evaluated(
    engines: tuple[Engine, Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, _ = engines
    finish(engine, ASKED)

    def broken(*_: object, **__: object) -> None:
        raise BackboneError("broken")

    with monkeypatch.context() as patch:
        patch.setattr(engine._backbone, "decode", broken)
        with pytest.raises(BackboneError):
            finish(engine, ASKED)
    assert finish(engine, ASKED).n_cached == 0


def test_scoring_is_not_led_back(engines: tuple[Engine, Engine]) -> None:
    engine, fresh = engines
    token_ids = engine.encode(ASKED)
    finish(engine, ASKED)
    assert engine.score(token_ids) == fresh.score(token_ids)
    assert finish(engine, ASKED).n_cached in (0, len(token_ids) - 1)  # it saves nothing


def test_a_long_conversation_of_many_turns(engines: tuple[Engine, Engine]) -> None:
    engine, fresh = engines
    engine._sequence.reset()
    messages: list[dict[str, str]] = []
    for turn in range(6):
        messages.append({"role": "user", "content": f"{TEXT[:90]} Question {turn}?"})
        finish(engine, messages)
        messages.append({"role": "assistant", "content": "No. " * turn})  # not as said
        messages.append({"role": "user", "content": "And why?"})
        fresh._sequence.reset()
        finish(fresh, messages, max_tokens=0)
        assert finish(engine, messages, max_tokens=0).n_cached > 0
        logits = [one._backbone.logits().copy() for one in engines]
        assert deviation(logits[:1], logits[1:]) < (bound_of(engine._backbone) or BOUND)
        messages.append({"role": "assistant", "content": "Because."})
