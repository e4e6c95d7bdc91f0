"""Models with a table of their own whose headers lie: a sentence each time.

llama.cpp aborts the process on many of these numbers, so they may not reach it.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engram_local import catalog
from engram_local.cli import main
from engram_local.errors import EngramError
from engram_local.formats.models import describe
from engram_local.formats.native import read_native
from engram_local.formats.split import read_model_header
from tests.fakes import (
    ARRAY,
    FLOAT32,
    INT32,
    STRING,
    UINT16,
    UINT32,
    UINT64,
    Typed,
    backbone_file,
)
from tests.gguf_parts import Parts
from tests.native_models import split_file, tiny_gemma4, tiny_qwen4exp

TABLE = "per_layer_token_embd.weight"
EPSILON = "attention.layer_norm_rms_epsilon"
MANY = 2**31
F16, I32 = 1, 26

Keys = dict[str, Typed | None]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Parts]:
    """A small model of each kind, with the vocabulary of a fake."""
    folder = tmp_path_factory.mktemp("sound")
    vocabulary = backbone_file().write(folder / "vocabulary.gguf")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalog, "default_model", lambda: vocabulary)
        qwen4exp = tiny_qwen4exp(folder / "q.gguf", n_tokens=None, eos_token_id=0)
        gemma4 = tiny_gemma4(folder / "g.gguf", n_tokens=None)
    return {"qwen4exp": Parts.read(qwen4exp), "gemma4": Parts.read(gemma4)}


def read_all(path: Path) -> None:
    """Do what `size` and `run` do before anything is loaded."""
    header = read_model_header(path)
    describe(header)
    read_native(header)


def number(value: int) -> Typed:
    return UINT32, value


def array(kind: int, *values: Any) -> Typed:
    return ARRAY, (kind, list(values))


@pytest.mark.parametrize("name", ["qwen4exp", "gemma4"])
def test_the_sound_ones_are_read(
    name: str, sound: dict[str, Parts], tmp_path: Path
) -> None:
    path = tmp_path / "sound.gguf"
    path.write_bytes(sound[name].raw())
    read_all(path)


LIES: dict[str, tuple[str, Keys, str]] = {
    "floats for multipliers": (
        "qwen4exp",
        {"ple.layer_multipliers": array(FLOAT32, 1.0, 2.0, 3.0)},
        "layer_multipliers should be an array of integers",
    ),
    "a number for multipliers": (
        "qwen4exp",
        {"ple.layer_multipliers": number(3)},
        "layer_multipliers should be an array",
    ),
    "multipliers below zero": (
        "qwen4exp",
        {"ple.layer_multipliers": array(INT32, -1, 3, 5)},
        "outside 0",
    ),
    "too few offsets": (
        "qwen4exp",
        {"ple.head_offsets": array(UINT64, 0, 1)},
        "need 4 sizes and offsets, found 4 and 2",
    ),
    "a million sizes": (
        "qwen4exp",
        {"ple.head_vocab_sizes": array(UINT64, *[3] * 1_000_000)},
        "head_vocab_sizes has 1,000,000 values",
    ),
    "a convolution of one tap": (
        "qwen4exp",
        {"ple.conv_kernel": number(1)},
        "conv_kernel should be at least 2",
    ),
    "a slot without rows": (
        "qwen4exp",
        {"ple.head_vocab_sizes": array(UINT64, 3, 0, 3, 3)},
        "outside 0",
    ),
    "offsets beyond the rows": (
        "qwen4exp",
        {"ple.head_offsets": array(UINT64, 0, 1009, 2022, 4000)},
        "the hash reaches",
    ),
    "offsets beyond int32": (
        "qwen4exp",
        {"ple.head_offsets": array(UINT64, 0, 1009, 2022, MANY)},
        "the hash reaches 2,147,48",
    ),
    "offsets that overflow": (
        "qwen4exp",
        {"ple.head_offsets": array(UINT64, 0, 1009, 2022, 2**64 - 1)},
        "the hash reaches 18,446,744,073,70",
    ),
    "n-grams of none": ("qwen4exp", {"ple.ngram_size": number(0)}, "one number per"),
    "n-grams of 1": ("qwen4exp", {"ple.ngram_size": number(1)}, "one number per"),
    "n-grams of 9": (
        "qwen4exp",
        {
            "ple.ngram_size": number(9),
            "ple.heads_per_ngram": number(1),
            "ple.layer_multipliers": array(UINT64, *[3] * 9),
            "ple.head_offsets": array(UINT64, *range(8)),
            "ple.head_vocab_sizes": array(UINT64, *[1] * 8),
        },
        "ngram_size is 9 with 8 rows",
    ),
    "no heads": ("qwen4exp", {"ple.heads_per_ngram": number(0)}, "0 heads"),
    "a layer that is not there": (
        "qwen4exp",
        {"ple.layers": array(INT32, 2)},
        r"ple.layers is \[2\]",
    ),
    "no layer": ("qwen4exp", {"ple.layers": array(INT32)}, r"ple.layers is \[\]"),
    "an EOS in no vocabulary": (
        "qwen4exp",
        {"ple.eos_token_id": number(MANY)},
        "eos_token_id is 2147483648, the vocabulary has",
    ),
    "an image in no vocabulary": (
        "qwen4exp",
        {"ple.image_token_id": number(50_000)},
        "image_token_id is 50000, the vocabulary has",
    ),
    "rows of other widths than the state": (
        "qwen4exp",
        {"embedding_length": number(64)},
        "embedding_length is 64, the 4 rows of a token have 32 values each",
    ),
    "no experts": (
        "qwen4exp",
        {"expert_count": None, "expert_used_count": None},
        "expert_count is missing or 0",
    ),
    "no expert is used": (
        "qwen4exp",
        {"expert_used_count": None},
        "expert_used_count is 0 of 4 experts",
    ),
    "more experts than llama.cpp has room for": (
        "qwen4exp",
        {"expert_count": number(65_536)},
        "expert_count is 65,536, 1024 can be",
    ),
    "groups that do not divide the experts": (
        "qwen4exp",
        {"expert_group_count": number(3)},
        "expert_group_count is 3",
    ),
    "a state of another size": (
        "qwen4exp",
        {"ssm.inner_size": number(1)},
        "inner_size is 1 for 2 heads of 32",
    ),
    "an odd rotation": (
        "qwen4exp",
        {"rope.dimension_count": number(3)},
        "dimension_count is 3: even, 2 to 32",
    ),
    "no rotation": (
        "gemma4",
        {"rope.dimension_count": number(0)},
        "dimension_count is 0: even",
    ),
    "a rotation wider than a head with a window": (
        "gemma4",
        {"rope.dimension_count_swa": number(64)},
        "dimension_count_swa is 64: even, 2 to 32",
    ),
    "no sections": (
        "qwen4exp",
        {"rope.dimension_sections": array(INT32, 0, 0, 0, 0)},
        r"dimension_sections is \[0, 0, 0, 0\]",
    ),
    "sections wider than a head": (
        "qwen4exp",
        {"rope.dimension_sections": array(INT32, 4, 4, 4, 1 << 30)},
        "for heads of 32",
    ),
    "an indexer that compresses everything": (
        "qwen4exp",
        {"attention.compress_ratios": array(UINT32, 0, 1 << 30)},
        "compress_ratios has 1,073,741,824",
    ),
    "an epsilon that is no number": (
        "gemma4",
        {EPSILON: (FLOAT32, float("nan"))},
        "epsilon is nan",
    ),
    "an epsilon below zero": ("qwen4exp", {EPSILON: (FLOAT32, -1.0)}, "is -1.0"),
    "a window of 2^31": (
        "gemma4",
        {"attention.sliding_window": number(MANY)},
        "sliding_window is 2,147,483,648",
    ),
    "a context of 2^31": (
        "gemma4",
        {"context_length": number(MANY)},
        "context_length is 2,147,483,648",
    ),
    "one layer with keys of its own": (
        "gemma4",
        {"attention.shared_kv_layers": number(3)},
        "shared_kv_layers is 3 of 4 layers",
    ),
}


def lie(parts: Parts, architecture: str, changes: Keys) -> bytes:
    """Return a file with other keys."""
    return parts.raw({f"{architecture}.{key}": kind for key, kind in changes.items()})


@pytest.mark.parametrize("name", list(LIES))
def test_a_lie_in_a_key_ends_in_a_sentence(
    name: str, sound: dict[str, Parts], tmp_path: Path
) -> None:
    architecture, changes, sentence = LIES[name]
    path = tmp_path / "lie.gguf"
    path.write_bytes(lie(sound[architecture], architecture, changes))
    with pytest.raises(EngramError, match=sentence) as caught:
        read_all(path)
    assert caught.value.exit_code == 3
    assert str(path) in caught.value.message


@pytest.mark.parametrize("name", ["no experts", "an odd rotation", "a window of 2^31"])
def test_run_refuses_before_anything_is_loaded(
    name: str,
    sound: dict[str, Parts],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def load(*_: object, **__: object) -> None:
        raise AssertionError("llama.cpp was asked")

    monkeypatch.setattr("engram_local.loading.Backbone", load)
    architecture, changes, _ = LIES[name]
    path = tmp_path / "lie.gguf"
    path.write_bytes(lie(sound[architecture], architecture, changes))
    assert main(["run", str(path), "-p", "a"]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert "error[bad-format]" in err


def test_a_token_that_is_there_twice(sound: dict[str, Parts], tmp_path: Path) -> None:
    parts, key = sound["gemma4"], "tokenizer.ggml.tokens"
    kind, (element, tokens) = parts.keys[key]
    path = tmp_path / "lie.gguf"
    path.write_bytes(parts.raw({key: (kind, (element, [*tokens[:-1], tokens[0]]))}))
    with pytest.raises(EngramError, match="1 tokens are in its vocabulary twice"):
        read_all(path)


TABLES: dict[str, tuple[tuple[int, ...] | None, int, str]] = {
    "no table": (None, 0, f"there is no tensor {TABLE}"),
    "one dimension": ((32 * 4096,), 0, "has the shape"),
    "three dimensions": ((32, 64, 64), 0, "has the shape"),
    "rows of another width": ((64, 2048), 0, "has the shape"),
    "too few rows": ((32, 4000), 0, "the hash reaches"),
    "beyond the file": ((32, 4096), 1 << 40, "ends at byte"),
    "larger than the file": ((32, 1 << 40), 0, "ends at byte"),
    "a size that overflows": ((32, 1 << 62), 0, "ends at byte"),
}


@pytest.mark.parametrize("name", list(TABLES))
@pytest.mark.parametrize("command", [["size"], ["run", "-p", "a"]])
def test_a_table_that_lies_ends_in_a_sentence(
    name: str,
    command: list[str],
    sound: dict[str, Parts],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shape, more, sentence = TABLES[name]
    parts = sound["qwen4exp"]
    _, kind, offset = parts.tensors[TABLE]
    where = None if shape is None else (shape, kind, offset + more)
    path = tmp_path / "lie.gguf"
    path.write_bytes(parts.raw(tensors={TABLE: where}))
    tracemalloc.start()
    try:
        assert main([*command, str(path)]) == 3
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sentence in capsys.readouterr().err
    assert peak_bytes < 64 << 20  # the imports of a command


@pytest.mark.parametrize(
    ("tensor", "kind"),
    [
        ("output_hc_norm.weight", F16),
        ("blk.0.ssm_conv1d.weight", F16),
        ("blk.0.ssm_a", I32),
        ("token_embd.weight", I32),
    ],
)
def test_a_type_that_cannot_be_computed_with(
    tensor: str, kind: int, sound: dict[str, Parts], tmp_path: Path
) -> None:
    parts = sound["qwen4exp"]
    shape, _, offset = parts.tensors[tensor]
    path = tmp_path / "lie.gguf"
    path.write_bytes(parts.raw(tensors={tensor: (shape, kind, offset)}))
    with pytest.raises(EngramError, match=f"{tensor} .* ggml's type {kind}, which"):
        read_all(path)


@pytest.fixture
def split(sound: dict[str, Parts], tmp_path: Path) -> list[Path]:
    """A model in three files; the table is in the last."""
    path = tmp_path / "whole.gguf"
    path.write_bytes(sound["qwen4exp"].raw())
    return split_file(path, tmp_path, n_parts=3)


def remove_last(parts: list[Path]) -> None:
    parts[-1].unlink()


def repeat_table(parts: list[Path]) -> None:
    """Give the first part a table too."""
    first = Parts.read(parts[0])
    table = Parts.read(parts[-1]).tensors[TABLE]
    raw = first.raw(tensors={TABLE: (table[0], table[1], len(first.data))})
    parts[0].write_bytes(raw + bytes(1 << 20))


def leave_out_table(parts: list[Path]) -> None:
    """Keep the count of tensors as it was."""
    last = Parts.read(parts[-1])
    parts[-1].write_bytes(last.raw(tensors={TABLE: None}))


def count_wrong(parts: list[Path]) -> None:
    last = Parts.read(parts[-1])
    parts[-1].write_bytes(last.raw({"split.no": (UINT16, 7)}))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (remove_last, "00003-of-00003.gguf is missing"),
        (repeat_table, f"has the tensor {TABLE}, "),
        (leave_out_table, "tensors, "),
        (count_wrong, "is part 8 by its header"),
    ],
)
@pytest.mark.parametrize("command", [["show"], ["size"], ["run", "-p", "a"]])
def test_parts_that_lie_end_in_a_sentence(
    damage: Callable[[list[Path]], None],
    sentence: str,
    command: list[str],
    split: list[Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    damage(split)
    assert main([*command, str(split[0])]) == 3
    assert sentence in capsys.readouterr().err


def test_an_architecture_that_is_none(
    sound: dict[str, Parts], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "lie.gguf"
    path.write_bytes(
        sound["gemma4"].raw({"general.architecture": (STRING, "qwen4exp")})
    )
    assert main(["run", str(path), "-p", "a"]) == 3
    assert "error[bad-format]" in capsys.readouterr().err


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["qwen4exp", "gemma4"])
def test_a_header_with_changed_bytes_is_refused_or_read(
    name: str, seed: int, sound: dict[str, Parts], tmp_path: Path
) -> None:
    whole = np.frombuffer(sound[name].raw(), np.uint8)
    n_header_bytes = sound[name].n_header_bytes
    random = np.random.default_rng(seed)
    path = tmp_path / "damaged.gguf"
    outcomes = {"read": 0, "refused": 0}
    for _ in range(200):
        damaged = whole.copy()
        places = random.integers(4, n_header_bytes, random.integers(1, 4))
        damaged[places] = random.integers(0, 256, len(places))
        path.write_bytes(damaged.tobytes())
        try:
            read_all(path)
            outcomes["read"] += 1
        except EngramError as error:
            assert error.exit_code == 3
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 0
