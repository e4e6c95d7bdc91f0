"""Model headers with impossible numbers: a sentence each time, and no allocation."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engram_local.errors import FileError, FormatError
from engram_local.formats.models import describe, read_model
from tests.fakes import STRING, UINT16, UINT32, File, Tensor
from tests.formats.headers import F16, Q8_0, Tensors, make_header

TENSORS: Tensors = {"token_embd.weight": ((64, 100), F16)}
BASE: dict[str, Any] = {
    "block_count": 4,
    "context_length": 4096,
    "embedding_length": 64,
    "feed_forward_length": 96,
    "attention.head_count": 4,
    "attention.head_count_kv": 2,
    "attention.key_length": 16,
    "attention.sliding_window": 128,
    "attention.indexer.key_length": 8,
    "attention.compress_ratios": [0, 4, 128, 4],
}
MANY = 2**31
ENORMOUS = 2**63 - 1

HOSTILE: dict[str, tuple[str, dict[str, Any], str]] = {
    "2^31 blocks": ("llama", {"block_count": MANY}, "block_count is 2,147,483,648"),
    "no blocks": ("llama", {"block_count": 0}, "block_count is 0, 1 to 512"),
    "513 blocks": ("llama", {"block_count": 513}, "block_count is 513"),
    "blocks below zero": ("llama", {"block_count": -1}, "block_count is -1"),
    "all blocks are drafts, and more": (
        "llama",
        {"nextn_predict_layers": 5},
        "nextn_predict_layers is 5",
    ),
    "an embedding of no width": ("llama", {"embedding_length": 0}, "a size is missing"),
    "a context below zero": ("llama", {"context_length": -1}, "context_length is -1"),
    "heads past 32 bits": (
        "llama",
        {"attention.head_count": ENORMOUS},
        "head_count is",
    ),
    "heads below zero": ("llama", {"attention.head_count": -4}, "head_count is -4"),
    "heads for three blocks": (
        "llama",
        {"attention.head_count_kv": [1, 2, 3]},
        "head_count_kv has 3 values, 4 are needed",
    ),
    "heads for a million blocks": (
        "llama",
        {"attention.head_count_kv": [1] * 1_000_000},
        "head_count_kv has 1,000,000 values",
    ),
    "heads below zero in an array": (
        "llama",
        {"attention.head_count_kv": [1, -2, 3, 4]},
        "head_count_kv is -2",
    ),
    "heads that are words": (
        "llama",
        {"attention.head_count_kv": ["a"]},
        "head_count_kv should be an integer",
    ),
    "more experts used than there are": (
        "llama",
        {"expert_count": 2, "expert_used_count": 3},
        "3 of 2 experts",
    ),
    "a pattern that is no array": ("gemma4", {}, "sliding_window_pattern should be"),
    "more shared layers than layers": (
        "gemma4",
        {
            "attention.sliding_window_pattern": [1, 1, 1, 0],
            "attention.shared_kv_layers": 5,
        },
        "5 of 4 layers share keys",
    ),
    "too few ratios": (
        "deepseek4",
        {"attention.compress_ratios": [4, 4]},
        "compress_ratios has 2 values, 4 are needed",
    ),
    "every zeroth layer": (
        "qwen3next",
        {"full_attention_interval": 0},
        "full_attention_interval is 0",
    ),
    "no window": ("deepseek4", {"attention.sliding_window": -7}, "window is -7"),
}


@pytest.mark.parametrize("name", list(HOSTILE))
def test_an_impossible_model_ends_in_a_sentence(name: str) -> None:
    architecture, changes, sentence = HOSTILE[name]
    header = make_header(architecture, BASE | changes, TENSORS)
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match=sentence) as caught:
            describe(header)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert str(header.path) in caught.value.message
    assert peak_bytes < 1 << 20


ODD: dict[str, tuple[str, dict[str, Any]]] = {
    "a period of no layers": ("gemma3", {"attention.sliding_window_pattern": 0}),
    "an enormous period": ("gemma3", {"attention.sliding_window_pattern": 2**32 - 1}),
    "a pattern for two layers": (
        "gemma3",
        {"attention.sliding_window_pattern": [1, 1]},
    ),
    "a pattern for six layers": (
        "gemma3",
        {"attention.sliding_window_pattern": [1] * 6},
    ),
    "no heads at all": ("llama", {"attention.head_count": 0}),
    "no key heads": ("llama", {"attention.head_count_kv": 0}),
    "4 billion heads": ("llama", {"attention.head_count_kv": 2**32 - 1}),
    "4 billion passes": ("nanbeige", {"num_loops": 2**32 - 1}),
    "only drafts": ("llama", {"nextn_predict_layers": 4}),
    "4 billion dense layers": ("minimax-m3", {"leading_dense_block_count": 2**32 - 1}),
    "ratios that nobody knows": ("deepseek4", {"attention.compress_ratios": [9] * 4}),
}


@pytest.mark.parametrize("name", list(ODD))
def test_an_odd_model_is_described_and_nothing_is_below_zero(name: str) -> None:
    architecture, changes = ODD[name]
    spec = describe(make_header(architecture, BASE | changes, TENSORS))
    sizes = [
        size for g in spec.caches for size in (g.n_layers, g.key_size, g.value_size)
    ]
    sizes += [size for g in spec.states for size in (g.n_layers, g.n_bytes)]
    assert min(sizes, default=0) >= 0
    assert 1 <= spec.n_layers <= 512


TABLES: dict[str, tuple[str, dict[str, Any], tuple[int, ...], str]] = {
    "a table of one dimension": ("gemma4", {}, (64,), "has the shape"),
    "a table without rows": ("gemma4", {}, (64, 0), "has the shape"),
    "a table of three dimensions": ("qwen4exp", {}, (64, 2, 2), "has the shape"),
}


@pytest.mark.parametrize("name", list(TABLES))
def test_an_impossible_table_ends_in_a_sentence(name: str) -> None:
    architecture, changes, shape, sentence = TABLES[name]
    pattern = {"attention.sliding_window_pattern": [1, 1, 1, 0]}
    tensors = {**TENSORS, "per_layer_token_embd.weight": (shape, Q8_0)}
    header = make_header(architecture, BASE | pattern | changes, tensors)
    with pytest.raises(FormatError, match=sentence):
        describe(header)


def test_n_grams_of_any_length_are_not_counted_one_by_one() -> None:
    keys = BASE | {"engram.max_ngram_size": 2**32 - 1, "engram.head_count": 2**32 - 1}
    tensors = {**TENSORS, "blk.1.engram_embd.weight": ((64, 9), Q8_0)}
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match="max_ngram_size is 4,294,967,295"):
            describe(make_header("deepseek41", keys, tensors))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 1 << 20


def part(number: int, count: int, tensor: str = "t") -> File:
    keys = {
        "general.architecture": (STRING, "llama"),
        "split.no": (UINT16, number),
        "split.count": (UINT32, count),
    }
    return File(keys, {tensor: Tensor.of(np.zeros(1))})


def test_a_part_that_is_itself_every_part_is_refused(tmp_path: Path) -> None:
    first = part(0, 3).write(tmp_path / "m-00001-of-00003.gguf")
    for number in (2, 3):
        (tmp_path / f"m-0000{number}-of-00003.gguf").symlink_to(first)
    with pytest.raises(FormatError, match=r"00002-of-00003\.gguf is part 1 by"):
        read_model(first)


def test_parts_are_not_counted_before_they_are_looked_for(tmp_path: Path) -> None:
    path = part(0, 99_999).write(tmp_path / "m-00001-of-99999.gguf")
    tracemalloc.start()
    try:
        with pytest.raises(FileError, match=r"00002-of-99999\.gguf is missing"):
            read_model(path)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 1 << 20


def test_parts_of_no_model_are_refused(tmp_path: Path) -> None:
    first = part(0, 2, "a").write(tmp_path / "m-00001-of-00002.gguf")
    (tmp_path / "m-00002-of-00002.gguf").write_bytes(b"GGUF")
    with pytest.raises(FormatError, match=r"00002-of-00002\.gguf is 4 bytes"):
        read_model(first)
