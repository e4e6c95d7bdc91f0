"""DeepSeek V4.1 as published, in every way that people write it into a GGUF."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engram_local.catalog import find_card
from engram_local.errors import FormatError, UnsupportedError
from engram_local.formats import deepseek41
from engram_local.formats.card import read_card
from engram_local.formats.header import Header
from engram_local.memory.constants import offsets_of
from engram_local.memory.hashing import DEAD_ID, RowHasher
from engram_local.model_spec import CacheGroup, Part, TableShape
from engram_local.spec import MemorySpec, RowType
from tests.formats.headers import F64, I8, Q2_K, Q8_0, Tensors, numbers, raw_header

N_ROWS = (384_006_168, 384_016_682)
N_CANONICAL = 99_092
MULTIPLIERS = [
    *(76632096046245, 4839876093313, 35959672319349, 73987337458391),
    *(67716810739261, 51510806800915, 30921347202721, 82619226485591),
]
PRIMES = numbers(
    """
    16000057 16000079 16000081 16000097 16000121 16000129 16000133 16000183
    16000189 16000207 16000211 16000253 16000277 16000289 16000307 16000321
    16000339 16000381 16000393 16000399 16000403 16000409 16000447 16000463
    16000477 16000487 16000499 16000507 16000511 16000573 16000609 16000627
    16000667 16000669 16000693 16000697 16000711 16000729 16000759 16000769
    16000781 16000799 16000813 16000819 16000841 16000877 16000879 16000889
    """,
    24,
)
OFFSETS = [*offsets_of(PRIMES[0]), *offsets_of(PRIMES[1])]
TOKEN_MAP = [0, 1, 2, N_CANONICAL - 1]

TOKENS = [0, 1000, 2000, 99_091, 12_345]
ROWS = numbers(
    """
    5702652 24393184 39183301 61503783 78984481 90144770 103724983 121476532
    131476717 152385926 164143652 191599181 198145581 217419202 238329687 247482304
    257520185 283540304 288689443 315264704 322314652 348890037 367865216 380066193
    9897246 18295278 41032777 63866487 69231866 82517737 97316489 115060326
    131163768 154853410 167513118 178676414 199312866 211025936 230339093 252140381
    258107673 273896925 303179839 318140304 322898629 338213540 365477995 373614848
    14361964 29977809 32716444 61209771 67456205 84275051 108494439 120604547
    132225184 150270452 174805952 178895254 193207923 211610196 226280582 252505246
    261362261 279862797 301364059 312864848 328367036 349372619 363873742 372375971
    3178723 25724543 42522600 51868741 65586345 95224956 107120997 126215113
    139887996 154558324 168222149 186279280 198980101 211887957 227513276 246790642
    263980813 287003137 298579090 312988012 331115157 340390872 366548023 371917036
    9897246 18295278 41032777 63866487 69231866 82517737 97316489 115060326
    133084429 146076458 161693745 179942636 202367929 222982566 231656388 255856761
    256645715 283727019 288996081 307981519 326101768 345476676 356274532 370362108
    """,
    24,
)
"""Of layer 1 at tokens 0 and 4, layer 14 at both, layer 1 at 4 after a dead token;
by another implementation of the published rule."""

MODEL: dict[str, Any] = {
    "general.architecture": "deepseek41",
    "deepseek41.block_count": 40,
    "deepseek41.context_length": 1_048_576,
    "deepseek41.embedding_length": 5120,
    "deepseek41.attention.head_count": 64,
    "deepseek41.attention.head_count_kv": 1,
    "deepseek41.attention.key_length": 512,
    "deepseek41.attention.sliding_window": 128,
    "deepseek41.attention.compress_ratios": [0, 0] + [2] * 18 + [1] * 20,
    "deepseek41.attention.kv_source_layer_ids": [2, 8, 14, 20],
    "deepseek41.attention.indexer.key_length": 128,
    "deepseek41.expert_count": 384,
    "deepseek41.expert_used_count": 6,
    "deepseek41.expert_shared_count": 1,
    "deepseek41.expert_feed_forward_length": 2304,
    "deepseek41.hyper_connection.count": 4,
}
DIALECT_A: dict[str, Any] = {
    "layer_ids": [1, 14],
    "head_count": 8,
    "key_length": 256,
    "max_ngram_size": 4,
    "multipliers": MULTIPLIERS,
    "primes": [*PRIMES[0], *PRIMES[1]],
    "offsets": OFFSETS,
    "token_map": TOKEN_MAP,
    "pad_id": 2,
}
DIALECT_B = {name: DIALECT_A[name] for name in DIALECT_A if name != "offsets"} | {
    "encoding": "e4m3_e8m0_32_row264",
    "storage": "inline",
}
DIALECT_C: dict[str, Any] = {
    "layers": [1, 14],
    "ngram_size": 4,
    "head_dim": 256,
    "compressed_vocab_size": N_CANONICAL,
    "pad_token_id": 2,
    "multipliers": MULTIPLIERS,
    "head_bucket_sizes": DIALECT_A["primes"],
    "head_offsets": OFFSETS,
    "token_map": TOKEN_MAP,
}
DIALECT_D = {
    **{name: DIALECT_A[name] for name in ("layer_ids", "key_length", "max_ngram_size")},
    "hash_multipliers": MULTIPLIERS,
    "primes": DIALECT_A["primes"],
    "token_map": [7, 5, 9, 2, N_CANONICAL - 1],
    "pad_token_id": 3,  # raw; 2 as a canonical id
}
DIALECTS = {"a": DIALECT_A, "b": DIALECT_B, "c": DIALECT_C, "d": DIALECT_D}


def tensors(width: int = 256, type_id: int = Q8_0) -> Tensors:
    tables = {
        f"blk.{layer_id}.engram_embd.weight": ((width, n_rows), type_id)
        for layer_id, n_rows in zip((1, 14), N_ROWS, strict=True)
    }
    return {"token_embd.weight": ((5120, 129_280), Q8_0), **tables}


def header(
    engram: dict[str, Any],
    found: Tensors | None = None,
    *,
    prefix: str = "deepseek41",
) -> Header:
    named = {f"{prefix}.engram.{name}": value for name, value in engram.items()}
    return raw_header(MODEL | named, tensors() if found is None else found)


def rows_of(memory: MemorySpec) -> list[list[int]]:
    """Return the rows of the published tokens, in the order of ROWS."""
    hashers = [RowHasher(layer.hash) for layer in memory.layers]
    alive = np.array(TOKENS, np.int64)
    dead = np.array([*TOKENS[:2], DEAD_ID, *TOKENS[3:]], np.int64)
    rows = [hasher.row_ids(alive)[at] for hasher in hashers for at in (0, 4)]
    return [row.tolist() for row in (*rows, hashers[0].row_ids(dead)[4])]


@pytest.mark.parametrize("dialect", list(DIALECTS))
def test_rows_are_those_of_the_published_constants(dialect: str) -> None:
    found = tensors(264, I8) if dialect == "b" else tensors()
    model = header(DIALECTS[dialect], found)
    assert deepseek41.matches(model)
    memory = deepseek41.read_memory_spec(model)
    assert rows_of(memory) == ROWS
    assert [layer.layer_id for layer in memory.layers] == [1, 14]
    assert memory.n_canonical == N_CANONICAL
    fp8 = dialect == "b"
    for layer, n_rows in zip(memory.layers, N_ROWS, strict=True):
        assert layer.hash.n_rows == n_rows
        assert layer.table.row_type is (RowType.FP8 if fp8 else RowType.Q8_0)
        assert layer.table.row_bytes == (264 if fp8 else 272)
        name = f"blk.{layer.layer_id}.engram_embd.weight"
        assert layer.table.offset_bytes == model.tensor(name).offset_bytes


@pytest.mark.parametrize("dialect", list(DIALECTS))
def test_the_published_model_is_described(dialect: str) -> None:
    found = tensors(264, I8) if dialect == "b" else tensors()
    spec = deepseek41.read_model(header(DIALECTS[dialect], found))
    assert spec.tables == tuple(
        TableShape(
            layer_id=layer_id,
            n_rows=n_rows,
            width=256,
            rows_per_token=24,
            orders=(2, 3, 4),
            n_heads=8,
        )
        for layer_id, n_rows in zip((1, 14), N_ROWS, strict=True)
    )
    assert spec.rows_per_token == 48
    assert spec.n_params == 5120 * 129_280 + sum(N_ROWS) * 256
    assert not spec.runs_here
    assert spec.n_streams == 4
    row_bytes = 264 if dialect == "b" else 272
    assert spec.weights[0].table_row_bytes == row_bytes
    assert spec.weights[0].part(Part.TABLE) == sum(N_ROWS) * row_bytes


def test_native_tables_have_the_published_bytes() -> None:
    spec = deepseek41.read_model(header(DIALECT_B, tensors(264, I8)))
    assert spec.weights[0].part(Part.TABLE) == 202_758_032_400
    assert "rows are encoded as e4m3_e8m0_32_row264" in spec.notes


def without(name: str) -> dict[str, Any]:
    """Return the model's keys and one dialect's, but one."""
    named = {f"deepseek41.engram.{name}": value for name, value in DIALECT_A.items()}
    return {key: value for key, value in (MODEL | named).items() if name not in key}


def compressors(*layers: int) -> Tensors:
    tensor = ((5120, 512), Q8_0)
    return {f"blk.{layer}.attn_compressor_kv.weight": tensor for layer in layers}


def test_its_caches_are_those_of_the_card() -> None:
    path = find_card("DeepSeek-V4.1-Flash")
    assert path is not None
    caches = read_card(path).caches
    spec = deepseek41.read_model(header(DIALECT_A))
    assert spec.caches == caches
    assert any("nothing confirms its cache" in note for note in spec.notes)
    assert not any("upper bound" in note for note in spec.notes)
    found = tensors() | compressors(2, 8, 14, 20, 40)  # the last is a draft head
    model = raw_header(without("kv_source_layer_ids"), found)
    by_tensors = deepseek41.read_model(model)
    assert by_tensors.caches == caches
    assert not any("upper bound" in note for note in by_tensors.notes)


def test_without_owners_its_cache_is_an_upper_bound() -> None:
    spec = deepseek41.read_model(raw_header(without("kv_source_layer_ids"), tensors()))
    kinds = [(g.kind, g.n_layers, g.key_size, g.window, g.ratio) for g in spec.caches]
    assert kinds == [
        ("sliding window", 40, 512, 128, 1),
        ("compressed", 18, 512, 0, 2),
        ("compressed", 20, 512, 0, 1),
        ("indexer", 18, 128, 0, 2),
        ("indexer", 20, 128, 0, 1),
    ]
    assert any("upper bound" in note for note in spec.notes)


def test_owners_without_a_ratio_are_refused() -> None:
    keys = without("compress_ratios")
    keys["deepseek41.attention.compress_ratios"] = [2] * 20
    with pytest.raises(FormatError, match="has 20 values, layer 20 needs one"):
        deepseek41.read_model(raw_header(keys, tensors()))


def test_without_ratios_its_cache_is_an_upper_bound() -> None:
    spec = deepseek41.read_model(raw_header(without("compress_ratios"), tensors()))
    assert spec.caches == (
        CacheGroup(kind="attention", n_layers=40, key_size=512, value_size=80),
    )
    assert any("upper bound" in note for note in spec.notes)


def test_early_files_have_another_prefix() -> None:
    spec = deepseek41.read_model(header(DIALECT_A, prefix="deepseek4"))
    assert len(spec.tables) == 2
    assert "an early file: its keys begin with deepseek4.engram" in spec.notes
    memory = deepseek41.read_memory_spec(header(DIALECT_A, prefix="deepseek4"))
    assert rows_of(memory) == ROWS


def test_early_files_of_the_older_architecture_are_recognised() -> None:
    renamed = {key.replace("deepseek41.", "deepseek4."): MODEL[key] for key in MODEL}
    renamed["general.architecture"] = "deepseek4"
    model = raw_header(renamed, tensors())
    assert deepseek41.matches(model)
    assert not deepseek41.matches(raw_header(renamed, {}))
    spec = deepseek41.read_model(model)
    assert not spec.runs_here
    assert len(spec.tables) == 2


def test_early_files_without_constants_are_described_but_not_read() -> None:
    early = {name: DIALECT_A[name] for name in ("layer_ids", "head_count")}
    model = header(early)
    spec = deepseek41.read_model(model)
    assert [table.rows_per_token for table in spec.tables] == [24, 24]
    missing = "multipliers, primes, pad_id, token_map"
    assert any(f"hash constants {missing} are missing" in n for n in spec.notes)
    with pytest.raises(
        FormatError, match=r"no deepseek41\.engram\.token_map"
    ) as caught:
        deepseek41.read_memory_spec(model)
    assert "early file" in (caught.value.hint or "")


def test_types_without_rows_are_described_but_not_read() -> None:
    model = header(DIALECT_A, tensors(type_id=F64))
    weights = deepseek41.read_model(model).weights[0]
    assert weights.table_row_bytes == 2048
    with pytest.raises(UnsupportedError, match="rows of ggml's type 28"):
        deepseek41.read_memory_spec(model)


def test_a_table_may_have_any_of_ggmls_types() -> None:
    spec = deepseek41.read_memory_spec(header(DIALECT_A, tensors(type_id=Q2_K)))
    assert {layer.table.row_type for layer in spec.layers} == {RowType.Q2_K}
    assert {layer.table.row_bytes for layer in spec.layers} == {84}


def test_packed_rows_of_unknown_encoding_are_not_read() -> None:
    engram = DIALECT_B | {"encoding": "lloyd4_e5m3_32_r136"}
    model = header(engram, tensors(136, I8))
    assert deepseek41.read_model(model).weights[0].table_row_bytes == 136
    with pytest.raises(UnsupportedError, match="rows of ggml's type 24"):
        deepseek41.read_memory_spec(model)


def test_tables_in_other_files_are_described_but_not_read() -> None:
    found = {"token_embd.weight": tensors()["token_embd.weight"]}
    model = header(DIALECT_B | {"storage": "external"}, found)
    spec = deepseek41.read_model(model)
    assert [table.n_rows for table in spec.tables] == list(N_ROWS)
    assert spec.weights[0].part(Part.TABLE) == 0
    assert "its tables are in files of their own" in spec.notes
    with pytest.raises(UnsupportedError, match="layer 1 is not in this file"):
        deepseek41.read_memory_spec(model)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"primes": [*PRIMES[0], *PRIMES[0]]}, "rows, its heads add up to 384,006,168"),
        ({"primes": PRIMES[0]}, "has 24 values, 2 layers of 24 are needed"),
        ({"head_count": 2**31}, "has 48 values"),
        ({"max_ngram_size": 3}, "has 48 values, 2 layers of 16"),
        ({"max_ngram_size": 1}, "max_ngram_size is 1"),
        ({"max_ngram_size": 2**32 - 1}, "max_ngram_size is 4,294,967,295"),
        ({"layer_ids": []}, r"layers \[\] of 40 should have a table, \[1, 14\] do"),
        ({"layer_ids": [1, 1]}, r"layers \[1, 1\] of 40 should"),
        ({"layer_ids": [1, 14, 40]}, r"layers \[1, 14, 40\] of 40 should"),
        ({"layer_ids": [-1, 1, 14]}, r"layers \[-1, 1, 14\] of 40 should"),
    ],
)
def test_contradictions_are_refused(changes: dict[str, Any], sentence: str) -> None:
    engram = DIALECT_A | changes
    with pytest.raises(FormatError, match=sentence):
        deepseek41.read_model(header(engram))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"multipliers": MULTIPLIERS[:4]}, "has 4 values, 2 layers of 4"),
        ({"offsets": OFFSETS[:24]}, "has 24 values, 2 layers of 24"),
        ({"token_map": [-1, 0]}, "ids below zero"),
        ({"pad_id": -1}, "pad_id is -1"),
    ],
)
def test_wrong_constants_are_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(FormatError, match=sentence):
        deepseek41.read_memory_spec(header(DIALECT_A | changes))


def test_a_raw_pad_id_outside_the_vocabulary_is_refused() -> None:
    with pytest.raises(FormatError, match="pad_token_id is 5"):
        deepseek41.read_memory_spec(header(DIALECT_D | {"pad_token_id": 5}))
