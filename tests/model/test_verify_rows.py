"""What llama.cpp gathers from a model's own table is what we read, bit for bit."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engram_local import loading
from engram_local.bench.random_bytes import RANDOM_TYPES
from engram_local.cli import main
from engram_local.engine import Engine
from engram_local.errors import Interrupted, RowsDifferError, UsageError
from engram_local.events import Finished, MemoryStats
from engram_local.llama.runtime import Backbone
from engram_local.memory import reference
from engram_local.memory.module import NativeModule
from engram_local.memory.verify import RowVerifier
from engram_local.spec import Boundary, RowType
from tests.model.conftest import EXACT
from tests.native_models import N_TOKENS, module_of, tiny_gemma4, tiny_qwen4exp

pytestmark = pytest.mark.model

SETTINGS = replace(EXACT, n_ctx=2048, n_threads=1, max_tokens=24, verify_rows=True)
TEXT = "Once upon a time a fox met a whale, and the whale said nothing."
EOS = 2
"""Of the default model's vocabulary."""

N_IDS = 1300
"""Tokens of a sequence."""

WAYS: dict[str, tuple[dict[str, int], list[int] | None]] = {
    "at once": ({"n_batch": 2048, "n_ubatch": 2048}, None),
    "in ubatches of 32": ({"n_batch": 512, "n_ubatch": 32}, None),
    "in uneven chunks": ({}, [1, 2, 3, 61, 7, 130]),
    "token by token": ({}, [1]),
}
QWEN_SHAPES: dict[str, dict[str, Any]] = {
    "2-grams": {"max_ngram": 2, "n_heads": 1, "row_type": RowType.Q8_0},
    "3-grams": {},
    "4-grams": {
        "max_ngram": 4,
        "n_heads": 8,
        "wide_multipliers": True,
        "n_layers": 5,
        "full_every": 4,
        "table_layer": 1,
        "image_token_id": 7,
    },
    "8-grams": {"max_ngram": 8, "n_heads": 4, "row_type": RowType.F32},
}
N_SLOTS = {"2-grams": 1, "3-grams": 4, "4-grams": 24, "8-grams": 28, "gemma4": 1}


@pytest.fixture(scope="module")
def models(quantized: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of each shape: NAME.gguf."""
    folder = tmp_path_factory.mktemp("verify")
    for name, shape in QWEN_SHAPES.items():
        tiny_qwen4exp(folder / f"{name}.gguf", **shape)
    tiny_gemma4(folder / "gemma4.gguf")
    return folder


def eos_of(model: Path) -> int:
    return module_of(model).spec.layers[0].hash.fill_id


def token_ids_of(eos: int, n_tokens: int = N_IDS) -> list[int]:
    """Return random tokens of which every sixth is EOS: first, doubled and last too."""
    random = np.random.default_rng(n_tokens)
    token_ids = random.integers(0, N_TOKENS, n_tokens - 5)
    token_ids[random.random(len(token_ids)) < 1 / 6] = eos
    middle = len(token_ids) // 2
    found = token_ids.tolist()
    return [eos, *found[:middle], eos, eos, *found[middle:], eos, eos]


def test_models_cut_at_the_end_of_a_turn(qwen4exp: Path) -> None:
    assert eos_of(qwen4exp) == EOS


def stats_of(engine: Engine) -> MemoryStats:
    stats = engine.take_memory_stats()
    assert stats is not None and stats.verified_rows is not None
    return stats


# --- everything is equal --------------------------------------------------------------


def test_the_next_test_compares_enough_rows() -> None:
    assert len(WAYS) * N_IDS * sum(N_SLOTS.values()) >= 280_000


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", N_SLOTS)
def test_all_rows_are_equal(models: Path, name: str, way: str) -> None:
    changes, chunk_sizes = WAYS[way]
    path = models / f"{name}.gguf"
    token_ids = token_ids_of(eos_of(path))
    with Engine.open(path, settings=replace(SETTINGS, **changes)) as engine:  # type: ignore[arg-type]
        engine.score(token_ids, chunk_sizes=chunk_sizes)
        assert stats_of(engine).verified_rows == N_IDS * N_SLOTS[name]


@pytest.mark.parametrize(
    "changes",
    [{"memory_tier": "ram"}, {"memory_tier": "mmap"}, {"prefetch": False}],
    ids=["ram", "mmap", "not ahead"],
)
def test_rows_are_equal_wherever_they_lie(
    native_model: Path, changes: dict[str, Any]
) -> None:
    settings = replace(SETTINGS, n_batch=128, n_ubatch=64, **changes)
    with Engine.open(native_model, settings=settings) as engine:
        assert_all_verified(answer(engine, TEXT * 20))


@pytest.mark.parametrize("row_type", RANDOM_TYPES)
def test_rows_of_every_type_are_equal(
    quantized: Path, tmp_path: Path, row_type: RowType
) -> None:
    path = tmp_path / "model.gguf"
    tiny_qwen4exp(path, row_width=256, max_ngram=2, n_heads=2, row_type=row_type)
    assert module_of(path).spec.layers[0].table.row_type is row_type
    with Engine.open(path, settings=SETTINGS) as engine:
        nll = engine.score(token_ids_of(eos_of(path), 300))
        assert stats_of(engine).verified_rows == 600
    assert np.isfinite(nll).all()


SOME_TYPES = [RowType[name] for name in ("Q8_0", "Q4_1", "Q5_K", "Q6_K", "IQ4_NL")]


@pytest.mark.parametrize("row_type", SOME_TYPES)
def test_scaled_rows_of_other_types_are_equal(
    quantized: Path, tmp_path: Path, row_type: RowType
) -> None:
    path = tiny_gemma4(tmp_path / "model.gguf", row_type=row_type)
    with Engine.open(path, settings=SETTINGS) as engine:
        engine.score(list(range(N_TOKENS)))
        assert stats_of(engine).verified_rows == N_TOKENS


def test_a_model_in_parts_is_read_in_the_right_one(
    qwen4exp_parts: list[Path], gemma4_parts: list[Path]
) -> None:
    for part in (qwen4exp_parts[0], qwen4exp_parts[2], gemma4_parts[1]):
        with Engine.open(part, settings=SETTINGS) as engine:
            engine.score(token_ids_of(eos_of(part), 200))
            assert stats_of(engine).verified_rows in (200, 800)


# --- the sequence ---------------------------------------------------------------------


def answer(engine: Engine, prompt: Any) -> Finished:
    *_, last = engine.generate(prompt)
    assert isinstance(last, Finished)
    return last


def assert_all_verified(finished: Finished) -> None:
    memory = finished.memory
    assert memory is not None and memory.verified_rows
    n_tokens = finished.n_prompt - finished.n_cached + len(finished.token_ids)
    if finished.finish_reason == "length":
        n_tokens -= 1  # the last one is not evaluated
    assert memory.verified_rows == memory.rows_read
    assert memory.verified_rows in (n_tokens, 4 * n_tokens)


def test_a_chat_of_several_turns_is_equal(native_model: Path) -> None:
    """Each ends with the EOS that cuts the n-grams of a qwen4exp."""
    with Engine.open(native_model, settings=SETTINGS) as engine:
        messages: list[dict[str, str]] = []
        for turn in range(4):
            messages.append({"role": "user", "content": f"{TEXT} {turn}?"})
            assert engine.encode(messages).count(EOS) > turn
            finished = answer(engine, messages)
            assert (finished.n_cached > 0) is (turn > 0)  # the history was taken up
            assert_all_verified(finished)
            messages.append({"role": "assistant", "content": finished.text})


def test_other_ends_of_one_beginning_are_equal(native_model: Path) -> None:
    with Engine.open(native_model, settings=SETTINGS) as engine:
        for end in (" and", " but it", " and the fox", "", " and the fox", "!"):
            assert_all_verified(answer(engine, TEXT + end))


def test_after_a_cancelled_answer_rows_are_equal(native_model: Path) -> None:
    with Engine.open(native_model, settings=SETTINGS) as engine:
        for _event in engine.generate(TEXT):
            engine.cancel()
        assert_all_verified(answer(engine, TEXT + " and"))


def test_after_an_interrupted_batch_rows_are_equal(
    monkeypatch: pytest.MonkeyPatch, native_model: Path
) -> None:
    """Ctrl-C came in the third batch: all of its rows were seen, and count no more."""
    real, n_decodes = Backbone.decode, 0

    def decode(self: Backbone, *args: Any, **options: Any) -> None:
        nonlocal n_decodes
        real(self, *args, **options)
        n_decodes += 1
        if n_decodes == 3:
            raise Interrupted("the computation was interrupted")

    settings = replace(SETTINGS, n_batch=32, n_ubatch=8)
    with Engine.open(native_model, settings=settings) as engine:
        monkeypatch.setattr(Backbone, "decode", decode)
        assert answer(engine, TEXT * 5).finish_reason == "cancelled"
        assert_all_verified(answer(engine, TEXT * 4))


# --- and is found where it is not -----------------------------------------------------


@contextmanager
def opened_as(
    monkeypatch: pytest.MonkeyPatch,
    model: Path,
    change: Callable[[NativeModule], NativeModule],
) -> Iterator[Engine]:
    """Open a model, verified by another idea of it."""
    monkeypatch.setattr(loading, "read_native", lambda header: change(module_of(model)))
    with Engine.open(model, settings=SETTINGS) as engine:
        yield engine


def with_hash(**changes: Any) -> Callable[[NativeModule], NativeModule]:
    def change(module: NativeModule) -> NativeModule:
        (layer,) = module.spec.layers
        layer = replace(layer, hash=replace(layer.hash, **changes))
        return replace(module, spec=replace(module.spec, layers=(layer,)))

    return change


def found_in(engine: Engine, token_ids: Sequence[int]) -> tuple[int, ...]:
    """Return position, token id, slot, row id and value's index of the error."""
    with pytest.raises(RowsDifferError) as error:
        engine.score(token_ids, chunk_sizes=[5, 1, 40])
    return tuple(map(int, re.findall(r"\b\d+\b", error.value.message)[:5]))


def first_place(rows: Sequence[Any], wanted: Any) -> tuple[int, int]:
    """Return position and slot where a row id appears, or where two lists differ."""
    for position, row in enumerate(rows):
        for slot, row_id in enumerate(row):
            other = wanted if isinstance(wanted, int) else wanted[position][slot]
            if (row_id == other) is isinstance(wanted, int):
                return position, slot
    raise AssertionError("nothing differs")


@pytest.mark.parametrize("name", ["qwen4exp", "gemma4"])
def test_one_bit_of_the_table_is_found(
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    name: str,
) -> None:
    model: Path = request.getfixturevalue(name)
    token_ids = token_ids_of(eos_of(model), 100)
    (layer,) = module_of(model).spec.layers
    rows = reference.row_ids(token_ids, layer.hash)
    row_id = rows[70][-1]
    spoilt = tmp_path / "spoilt.gguf"
    raw = bytearray(model.read_bytes())
    raw[layer.table.offset_bytes + row_id * layer.table.row_bytes + 2 * 11] ^= 1
    spoilt.write_bytes(raw)
    with opened_as(monkeypatch, model, lambda m: replace(m, path=spoilt)) as engine:
        position, slot = first_place(rows, row_id)
        expected = (position, token_ids[position], slot, row_id, 11)
        assert found_in(engine, token_ids) == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"multipliers": (1, 3, 5)},
        {"boundary": Boundary.PAD},
        {"fill_id": 11},
        {"offsets": (0, 1013, 2026, 3039)},
    ],
    ids=["multipliers", "no EOS rule", "another EOS", "offsets"],
)
def test_another_rule_is_found(
    monkeypatch: pytest.MonkeyPatch, qwen4exp: Path, changes: dict[str, Any]
) -> None:
    token_ids = token_ids_of(eos_of(qwen4exp), 100)
    change = with_hash(**changes)
    ours, theirs = (
        reference.row_ids(token_ids, module.spec.layers[0].hash)
        for module in (change(module_of(qwen4exp)), module_of(qwen4exp))
    )
    position, slot = first_place(ours, theirs)
    with opened_as(monkeypatch, qwen4exp, change) as engine:
        found = found_in(engine, token_ids)
    assert found[:4] == (position, token_ids[position], slot, ours[position][slot])


def test_another_scale_is_found(monkeypatch: pytest.MonkeyPatch, gemma4: Path) -> None:
    def change(module: NativeModule) -> NativeModule:
        return replace(module, node_scale=module.node_scale * (1 + 2**-20))

    with opened_as(monkeypatch, gemma4, change) as engine:
        assert found_in(engine, [5, 6])[:4] == (0, 5, 0, 5)


def test_a_shifted_history_is_found(
    monkeypatch: pytest.MonkeyPatch, qwen4exp: Path
) -> None:
    real = RowVerifier.submit
    monkeypatch.setattr(
        RowVerifier, "submit", lambda self, ids: real(self, [*ids[1:], ids[0]])
    )
    with Engine.open(qwen4exp, settings=SETTINGS) as engine:
        assert found_in(engine, [20, 21, 22, 23])[:3] == (0, 21, 0)
        monkeypatch.undo()
        engine.score([20, 21, 22, 23])  # an error is not the end of the engine
        assert stats_of(engine).verified_rows == 16


# --- the commands ---------------------------------------------------------------------

ONE_THREAD = ["-t", "1", "--verify-rows"]


def test_run_says_how_many_rows_were_equal(
    native_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", str(native_model), "-p", TEXT, "-n", "8", *ONE_THREAD]
    assert main(words) == 0
    assert re.search(
        r"^verified [\d,]+ rows, all equal$", capsys.readouterr().err, re.M
    )
    assert main([*words, "--json"]) == 0
    memory = json.loads(capsys.readouterr().out)["memory"]
    assert memory["verified_rows"] == memory["rows_read"] > 0
    assert main([*words[:-1], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["memory"]["verified_rows"] is None


def test_perplexity_says_how_many_rows_were_equal(
    native_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text.txt"
    text.write_text(TEXT * 40)  # several windows
    words = ["perplexity", str(text), "-m", str(native_model), "-c", "256", *ONE_THREAD]
    assert main(words) == 0
    assert re.search(
        r"^verified [\d,]+ rows, all equal$", capsys.readouterr().err, re.M
    )
    assert main([*words, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    (layer,) = module_of(native_model).spec.layers
    assert result["n_tokens"] > 512
    assert result["verified_rows"] == result["n_tokens"] * layer.hash.n_slots


def test_an_unequal_row_ends_the_command(
    monkeypatch: pytest.MonkeyPatch,
    qwen4exp: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    change = with_hash(boundary=Boundary.PAD)
    monkeypatch.setattr(
        loading, "read_native", lambda header: change(module_of(qwen4exp))
    )
    assert main(["run", str(qwen4exp), "-p", TEXT, *ONE_THREAD]) == 1
    said = capsys.readouterr()
    assert "error[rows-differ]: token" in said.err
    assert "hint: do not trust" in said.err


def test_without_a_table_there_is_nothing_to_verify(
    quantized: Path, native_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "-p", TEXT, *ONE_THREAD]) == 2
    assert "leave --verify-rows out" in capsys.readouterr().err
    with pytest.raises(UsageError, match="has none"):
        Engine.open(quantized, memory=None, settings=SETTINGS)
    with pytest.raises(UsageError, match="without ours"):
        Engine.open(native_model, memory=None, settings=SETTINGS)
