"""Qwen3.8-Flash-Next as published: constants, rows, sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engram_local.errors import FormatError, UnsupportedError
from engram_local.formats import qwen4exp
from engram_local.formats.native import read_native
from engram_local.memory.constants import offsets_of
from engram_local.memory.hashing import RowHasher
from engram_local.model_spec import Part, StateGroup, TableShape
from engram_local.spec import RowType
from tests.formats.headers import F64, IQ4_NL, PATH, Q4_0, Tensors, make_header, numbers

EOS = 248_044
N_ROWS = 320_001_536
MULTIPLIERS = [23703573157769, 20109073645365, 8052911324071]
SIZES = [
    *(20000003, 20000023, 20000033, 20000047, 20000059, 20000063, 20000069, 20000077),
    *(20000081, 20000093, 20000107, 20000147, 20000153, 20000159, 20000161, 20000171),
]
KEYS: dict[str, Any] = {
    "block_count": 48,
    "context_length": 262_144,
    "embedding_length": 2560,
    "attention.head_count": 16,
    "attention.head_count_kv": 2,
    "attention.key_length": 256,
    "attention.value_length": 256,
    "rope.dimension_count": 64,
    "attention.indexer.key_length": 128,
    "expert_count": 512,
    "expert_used_count": 10,
    "expert_feed_forward_length": 640,
    "expert_shared_feed_forward_length": 640,
    "ssm.conv_kernel": 4,
    "ssm.inner_size": 4096,
    "ssm.state_size": 128,
    "ssm.group_count": 16,
    "hyper_connection.count": 4,
    "embedding_length_per_layer_input": 160,
    "ple.layers": [1],
    "ple.ngram_size": 3,
    "ple.heads_per_ngram": 8,
    "ple.conv_kernel": 4,
    "ple.eos_token_id": EOS,
    "ple.layer_multipliers": MULTIPLIERS,
    "ple.head_vocab_sizes": SIZES,
    "ple.head_offsets": list(offsets_of(SIZES)),
}
EMBEDDING: Tensors = {"token_embd.weight": ((2560, 248_320), Q4_0)}
TENSORS: Tensors = {
    **EMBEDDING,
    "per_layer_token_embd.weight": ((160, N_ROWS), Q4_0),
}


def test_the_published_model_is_described() -> None:
    spec = qwen4exp.read_model(make_header("qwen4exp", KEYS, TENSORS))
    assert spec.tables == (
        TableShape(
            layer_id=1,
            n_rows=N_ROWS,
            width=160,
            rows_per_token=16,
            orders=(2, 3),
            n_heads=8,
        ),
    )
    assert spec.weights[0].part(Part.TABLE) == 28_800_138_240
    assert spec.weights[0].table_row_bytes == 90
    assert spec.n_streams == 4
    assert spec.runs_here
    assert spec.ffn_size == 11 * 640
    assert spec.states[-1] == StateGroup(n_layers=1, n_bytes=4 * 9 * 10_240)


def test_rows_are_those_of_the_published_constants() -> None:
    module = read_native(make_header("qwen4exp", KEYS, TENSORS))
    assert module is not None
    memory, layer = module.spec, module.spec.layers[0]
    assert (module.path, module.node, module.node_scale) == (PATH, "ple_embd", 1.0)
    assert layer.layer_id == 1
    assert layer.hash.n_rows == 320_001_446
    assert layer.table.row_type is RowType.Q4_0
    assert layer.table.n_bytes == 28_800_138_240
    assert memory.n_canonical == 248_320
    tokens = np.array([9707, 11, 1879, EOS, 9707, 11, 1879], np.int64)
    rows = RowHasher(layer.hash).row_ids(tokens)
    assert rows[:4].tolist() == ROWS
    assert np.array_equal(rows[4:], rows[:3])  # EOS starts the context anew


@pytest.mark.parametrize(("stored", "image_id"), [(248_056, 248_056), (0, None)])
def test_an_image_may_have_a_token(stored: int, image_id: int | None) -> None:
    """llama.cpp takes 0 for an absent key."""
    keys = KEYS | {"ple.image_token_id": stored}
    module = read_native(make_header("qwen4exp", keys, TENSORS))
    assert module is not None and module.image_id == image_id


ROWS = numbers(
    """
    16410909 39682429 55103279 60931720 87006904 116506179 131512017 152932897
    169641436 182022480 209277433 237891023 256841529 277007269 290665954 300984276
    18158303 36390029 45652312 70783524 98191154 114024957 127804916 159566246
    175132467 192583600 217919476 237199054 259336807 261799367 289359313 307699687
    6380558 26411572 56460672 78566983 94693008 106742196 124822692 148942556
    164226950 190352573 210933682 238908951 242182004 265475238 299910982 312121804
    18827606 27700912 56521518 65780303 81132822 100518937 120474864 142052741
    163793416 184135950 219854666 227756662 248975183 271245822 285569892 318943450
    """,
    16,
)
"""Of the tokens above, by another implementation of the published rule."""


def test_a_table_may_have_any_of_ggmls_types() -> None:
    tensors = {**TENSORS, "per_layer_token_embd.weight": ((160, N_ROWS), IQ4_NL)}
    header = make_header("qwen4exp", KEYS, tensors)
    assert qwen4exp.read_model(header).weights[0].part(Part.TABLE) == 28_800_138_240
    module = read_native(header)
    assert module is not None
    table = module.spec.layers[0].table
    assert (table.row_type, table.row_bytes) == (RowType.IQ4_NL, 90)


def test_a_table_of_a_type_without_rows_is_described_but_not_read() -> None:
    tensors = {**TENSORS, "per_layer_token_embd.weight": ((160, N_ROWS), F64)}
    header = make_header("qwen4exp", KEYS, tensors)
    assert qwen4exp.read_model(header).weights[0].part(Part.TABLE) == 8 * 160 * N_ROWS
    with pytest.raises(UnsupportedError, match="rows of ggml's type 28, which cannot"):
        read_native(header)


def test_a_model_without_a_table_is_described() -> None:
    keys = {name: value for name, value in KEYS.items() if "ple." not in name}
    spec = qwen4exp.read_model(make_header("qwen4exp", keys, EMBEDDING))
    assert spec.tables == ()
    assert read_native(make_header("qwen4exp", keys, EMBEDDING)) is None
    assert spec.weights[0].table_row_bytes == 0
    assert len(spec.states) == 1


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"ple.layers": [1, 2]}, r"ple.layers is \[1, 2\], one layer"),
        ({"ple.layers": [48]}, r"ple.layers is \[48\]"),
        ({"ple.layer_multipliers": [3, 5]}, "2 orders|need"),
        ({"ple.ngram_size": 4}, "one number per n-gram position"),
        ({"ple.head_offsets": [0] * 15}, "need 16"),
        ({"ple.head_vocab_sizes": [0] * 16}, "outside 0"),
        ({"ple.heads_per_ngram": 0}, "0 heads"),
        ({"embedding_length_per_layer_input": 161}, "rows of 161 values"),
        ({"full_attention_interval": 0}, "full_attention_interval is 0"),
    ],
)
def test_contradictions_are_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(FormatError, match=sentence):
        qwen4exp.read_model(make_header("qwen4exp", KEYS | changes, TENSORS))


def test_a_table_too_small_for_its_hash_is_refused() -> None:
    tensors = {**TENSORS, "per_layer_token_embd.weight": ((160, 320_001_445), Q4_0)}
    header = make_header("qwen4exp", KEYS, tensors)
    for read in (qwen4exp.read_model, read_native):
        with pytest.raises(FormatError, match="hash reaches 320,001,446 rows"):
            read(header)
