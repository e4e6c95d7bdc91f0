"""Synthetic models with a table of their own: numbers, keys, tensors, bytes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engram_local import catalog
from engram_local.bench import random_bytes
from engram_local.bench.qwen4exp_shape import Qwen4ExpShape
from engram_local.bench.random_bytes import RANDOM_TYPES
from engram_local.bench.synthetic_gemma4 import Gemma4Shape
from engram_local.bench.synthetic_native import (
    NativeShape,
    is_native,
    parse_native,
    write_native,
)
from engram_local.errors import FormatError, UsageError
from engram_local.formats.header import Header, read_header
from engram_local.formats.models import read_model
from engram_local.formats.native import read_native
from engram_local.memory.module import NativeModule
from engram_local.spec import Boundary, RowType
from engram_local.units import GIB, KIB, MIB
from tests.fakes import ARRAY, INT32, STRING, TOKENS, UINT32, backbone_file
from tests.native_models import fake_default_model

QWEN = Qwen4ExpShape()
GEMMA = Gemma4Shape()


@pytest.fixture(autouse=True)
def default_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(random_bytes, "_TILE_BYTES", 64 * KIB)
    return fake_default_model(tmp_path, monkeypatch)


def written(tmp_path: Path, shape: NativeShape) -> Header:
    path = tmp_path / "native.gguf"
    write_native(path, shape)
    return read_header(path)


def native(tmp_path: Path, shape: NativeShape) -> NativeModule:
    module = read_native(written(tmp_path, shape))
    assert module is not None
    return module


# --- names ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "native_one"),
    [
        ("qwen4exp", True),
        ("gemma4:64x2", True),
        ("gemma4:huge", True),
        ("1.5B", False),
        ("2048x24", False),
        ("qwen4expert", False),
    ],
)
def test_names_are_told_apart(text: str, native_one: bool) -> None:
    assert is_native(text) is native_one


@pytest.mark.parametrize(
    ("text", "width", "depth", "row_width"),
    [
        ("qwen4exp", 512, 4, 32),
        ("qwen4exp:2560x48", 2560, 48, 160),
        ("qwen4exp:128x2", 128, 2, 8),
        ("gemma4", 512, 10, 256),
        ("gemma4:1536x35", 1536, 35, 256),
        ("gemma4:64x2", 64, 2, 256),
    ],
)
def test_shapes_are_parsed(text: str, width: int, depth: int, row_width: int) -> None:
    shape = parse_native(text)
    found = (shape.hidden_size, shape.n_layers, shape.row_width)
    assert found == (width, depth, row_width)


@pytest.mark.parametrize("depth", range(2, 49))
def test_every_depth_is_possible(depth: int) -> None:
    parse_native(f"qwen4exp:128x{depth}")
    parse_native(f"gemma4:64x{depth}")


def test_large_shapes_have_the_proportions_of_released_ones() -> None:
    """Qwen3.8-Flash-Next: 16 rows of 160 q4_0, layer 1; Gemma 4 E2B: 15 of 35 layers
    with keys of their own."""
    qwen = parse_native("qwen4exp:2560x48", row_type=RowType.Q4_0)
    assert isinstance(qwen, Qwen4ExpShape)
    assert (qwen.n_slots, qwen.row_bytes, qwen.table_layer) == (16, 90, 1)
    assert (qwen.expert_size, qwen.stream_rank, qwen.full_every) == (640, 320, 4)
    gemma = parse_native("gemma4:1536x35")
    assert isinstance(gemma, Gemma4Shape)
    assert (gemma.n_layers - gemma.n_shared, gemma.full_every) == (15, 5)


@pytest.mark.parametrize(
    "text", ["qwen4exp:", "qwen4exp:100x4", "qwen4exp:128x1", "gemma4:64", "gemma5"]
)
def test_what_is_no_shape_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"no shape|is not made") as caught:
        parse_native(text)
    assert caught.value.hint is not None


def test_a_table_of_8_gib_is_about_as_large_as_asked() -> None:
    shape = parse_native("qwen4exp", table_bytes=8 * GIB)
    assert isinstance(shape, Qwen4ExpShape)
    assert shape.n_rows * shape.row_bytes == pytest.approx(8 * GIB, rel=1e-4)
    assert shape.rows_per_head == 8 * GIB // 16 // 34  # 15.8 million; released: 20
    gemma = parse_native("gemma4:512x35", table_bytes=GIB, row_type=RowType.Q5_K)
    assert isinstance(gemma, Gemma4Shape)
    assert gemma.n_tokens == GIB // (35 * 176)


@pytest.mark.parametrize("shape", [QWEN, GEMMA])
def test_a_table_without_rows_is_refused(shape: NativeShape) -> None:
    with pytest.raises(UsageError, match="has no row"):
        shape.with_table(100)


def test_more_rows_than_llama_cpp_numbers_are_refused() -> None:
    with pytest.raises(UsageError, match=r"llama\.cpp numbers 2,147,483,647"):
        replace(QWEN, rows_per_head=2**29)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"row_type": RowType.FP8}, "rows may be f32, f16"),
        ({"max_ngram": 9}, "2 to 8 tokens"),
        ({"max_ngram": 1}, "2 to 8 tokens"),
        ({"max_ngram": 8, "n_heads": 10}, "70 rows per token, 64 are allowed"),
        ({"n_heads": 0}, "and a head"),
        ({"rows_per_head": 0}, "needs rows"),
        ({"conv_kernel": 1}, "two taps"),
        ({"table_layer": 2}, "no layer 2"),
        ({"table_layer": 1}, "needs linear attention"),
        ({"full_every": 3}, "needs full attention"),
        ({"n_streams": 1}, "two streams"),
        ({"n_value_heads": 3}, "a whole number of key heads"),
        ({"n_kv_heads": 3}, "a whole number of keys"),
        ({"n_rotated": 34}, "fit the indexer's keys"),
        ({"n_rotated": 3}, "are even"),
        ({"n_experts_used": 5}, "at most all"),
    ],
)
def test_qwen_models_that_do_not_run_are_refused(
    changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence):
        replace(QWEN, **changes)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"row_type": RowType.FP8}, "rows may be f32, f16"),
        ({"n_layers": 0, "row_type": RowType.F16}, "width divisible by 1, found 0"),
        ({"hidden_size": 0}, "needs layers, a width"),
        ({"n_kv_heads": 3}, "a whole number of keys"),
        ({"head_size": 33}, "an even width"),
        ({"n_shared": 4}, "come first, and have keys"),
        ({"full_every": 1}, "come first"),
        ({"n_shared": 1}, "3 layers with keys are no multiple of 2"),
    ],
)
def test_gemma_models_that_do_not_run_are_refused(
    changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises((UsageError, FormatError), match=sentence):
        replace(GEMMA, **changes)


def test_a_width_that_does_not_fit_its_type_is_refused() -> None:
    with pytest.raises(FormatError, match="width divisible by 256, found 32"):
        replace(QWEN, row_type=RowType.Q4_K)
    assert replace(GEMMA, row_type=RowType.Q4_K).row_bytes == 144


# --- files ----------------------------------------------------------------------------


@pytest.mark.parametrize("row_type", RANDOM_TYPES)
def test_qwen_headers_say_what_was_asked_for(tmp_path: Path, row_type: RowType) -> None:
    shape = replace(QWEN, row_width=row_type.block_width, row_type=row_type)
    (layer,) = native(tmp_path, shape).spec.layers
    assert layer.layer_id == 0
    assert layer.hash.sizes == (1009, 1013, 1019, 1021)  # primes
    assert layer.hash.offsets == (0, 1009, 2022, 3041)
    assert (layer.hash.n_heads, layer.hash.max_ngram) == (2, 3)
    assert (layer.hash.boundary, layer.hash.fill_id) == (Boundary.EOS, 3)
    assert (layer.table.n_rows, layer.table.width) == (4096, shape.row_width)
    assert layer.table.row_type is row_type


@pytest.mark.parametrize("row_type", RANDOM_TYPES)
def test_gemma_headers_say_what_was_asked_for(
    tmp_path: Path, row_type: RowType
) -> None:
    module = native(tmp_path, replace(GEMMA, row_type=row_type))
    (layer,) = module.spec.layers
    assert (layer.hash.n_rows, layer.hash.n_slots) == (len(TOKENS), 1)
    assert (layer.table.n_rows, layer.table.width) == (len(TOKENS), 256)
    assert layer.table.row_type is row_type
    assert module.node_scale == 8.0


def test_what_is_special_is_in_the_header(tmp_path: Path) -> None:
    shape = replace(
        QWEN,
        wide_multipliers=True,
        eos_token_id=7,
        image_token_id=9,
        padding_rows=1000,
        n_layers=5,
        full_every=3,
        table_layer=1,
    )
    header = written(tmp_path, shape)
    module = read_native(header)
    assert module is not None
    (layer,) = module.spec.layers
    assert min(layer.hash.multipliers) >= 2**63  # a signed reader fails
    assert all(number % 2 for number in layer.hash.multipliers)
    assert (layer.layer_id, layer.hash.fill_id) == (1, 7)
    assert layer.table.n_rows == 5000 > layer.hash.n_rows
    assert header.integer("qwen4exp.ple.image_token_id") == 9


@pytest.mark.parametrize(
    ("shape", "n_bytes"), [(QWEN, 3 * 3 * 512 * 4), (GEMMA, 0)], ids=["qwen", "gemma"]
)
def test_what_size_reads_of_it(
    tmp_path: Path, shape: NativeShape, n_bytes: int
) -> None:
    spec = read_model(tmp_path / written(tmp_path, shape).path)
    assert (spec.hidden_size, spec.n_layers) == (shape.hidden_size, shape.n_layers)
    (table,) = spec.tables
    assert spec.vocab_size == len(TOKENS)
    assert spec.tied_output is (shape is GEMMA)
    if n_bytes:  # what the convolution keeps of the past
        assert [group.n_bytes for group in spec.states][-1] == n_bytes
        assert (table.n_rows, table.rows_per_token) == (4096, 4)
    else:
        assert (table.n_rows, table.rows_per_token) == (len(TOKENS), 1)


@pytest.mark.parametrize("shape", [QWEN, GEMMA], ids=["qwen", "gemma"])
@pytest.mark.parametrize("weight_type", [RowType.Q4_0, RowType.Q8_0, RowType.F16])
def test_matrices_are_of_the_type_that_was_asked_for(
    tmp_path: Path, shape: NativeShape, weight_type: RowType
) -> None:
    header = written(tmp_path, replace(shape, weight_type=weight_type))
    type_id = {RowType.Q4_0: 2, RowType.Q8_0: 8, RowType.F16: 1}[weight_type]
    assert header.tensor("blk.1.attn_output.weight").type_id == type_id
    assert header.tensor("token_embd.weight").type_id == type_id
    norms = [tensor for name, tensor in header.tensors.items() if "_norm" in name]
    assert len(norms) > 8
    assert {tensor.type_id for tensor in norms} == {0}


@pytest.mark.parametrize("shape", [QWEN, GEMMA], ids=["qwen", "gemma"])
def test_weights_that_are_not_made_are_refused(
    tmp_path: Path, shape: NativeShape
) -> None:
    with pytest.raises(UsageError, match="may be q4_0, q8_0, f16, f32, not q4_k"):
        written(tmp_path, replace(shape, weight_type=RowType.Q4_K))


def test_an_output_matrix_may_be_the_embedding(tmp_path: Path) -> None:
    assert "output.weight" in written(tmp_path, QWEN).tensors
    tied = written(tmp_path, replace(QWEN, tied_output=True))
    assert "output.weight" not in tied.tensors


@pytest.mark.parametrize("shape", [QWEN, GEMMA], ids=["qwen", "gemma"])
def test_the_table_comes_last(tmp_path: Path, shape: NativeShape) -> None:
    tensors = written(tmp_path, shape).tensors.values()
    last = max(tensors, key=lambda tensor: tensor.offset_bytes)
    assert last.name == "per_layer_token_embd.weight"


def test_last_layers_have_no_keys(tmp_path: Path) -> None:
    header = written(tmp_path, GEMMA)
    with_keys = [n for n in range(4) if f"blk.{n}.attn_k.weight" in header.tensors]
    assert with_keys == [0, 1]
    assert header.integer("gemma4.attention.shared_kv_layers") == 2
    pattern = header.metadata["gemma4.attention.sliding_window_pattern"]
    np.testing.assert_array_equal(pattern, [True, False, True, False])


def test_progress_ends_at_all_of_it(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    shape = QWEN.with_table(MIB)
    write_native(
        tmp_path / "a.gguf",
        shape,
        progress=lambda done, all_: seen.append((done, all_)),
    )
    assert seen[-1][0] == seen[-1][1] > MIB
    assert seen == sorted(seen)


def test_an_interrupted_write_leaves_nothing(
    tmp_path: Path, default_model: Path
) -> None:
    def progress(done_bytes: int, total_bytes: int) -> None:
        if done_bytes > total_bytes / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_native(tmp_path / "a.gguf", QWEN, progress=progress)
    assert list(tmp_path.iterdir()) == [default_model]


# --- tokenizers -----------------------------------------------------------------------


def test_a_vocabulary_can_be_cut(tmp_path: Path, default_model: Path) -> None:
    source = read_header(default_model)
    header = written(tmp_path, replace(QWEN, n_tokens=10))
    assert (
        header.texts("tokenizer.ggml.tokens")
        == source.texts("tokenizer.ggml.tokens")[:10]
    )
    for key in ("tokenizer.ggml.token_type", "tokenizer.ggml.scores"):
        assert len(header.metadata[key]) == 10  # type: ignore[arg-type]
    assert header.text("tokenizer.chat_template") == "{{ messages }}"
    assert header.tensor("token_embd.weight").shape == (128, 10)


def test_merges_of_lost_tokens_are_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = backbone_file()
    tokens = ["a", "b", "ab", "c", "abc"]
    file.keys["tokenizer.ggml.tokens"] = (ARRAY, (STRING, tokens))
    file.keys["tokenizer.ggml.token_type"] = (ARRAY, (INT32, [1] * 5))
    file.keys["tokenizer.ggml.merges"] = (ARRAY, (STRING, ["a b", "ab c"]))
    file.keys["tokenizer.ggml.eos_token_id"] = (UINT32, 0)
    path = file.write(tmp_path / "bpe.gguf")
    monkeypatch.setattr(catalog, "default_model", lambda: path)
    header = written(tmp_path, replace(GEMMA, n_tokens=4))
    assert header.texts("tokenizer.ggml.merges") == ["a b"]


def test_a_vocabulary_can_grow(tmp_path: Path) -> None:
    n = len(TOKENS)
    header = written(tmp_path, replace(GEMMA, n_tokens=n + 2))
    assert header.texts("tokenizer.ggml.tokens")[n:] == ["<unused0>", "<unused1>"]
    types = header.integers("tokenizer.ggml.token_type")
    assert types[n:].tolist() == [5, 5]
    assert header.tensor("per_layer_token_embd.weight").shape == (256, n + 2)


def test_a_special_token_is_not_cut_off(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="3 tokens leave out the one of") as caught:
        written(tmp_path, replace(QWEN, n_tokens=3))
    assert caught.value.hint == "take at least 4"
