"""Any model GGUF is described; the dialect is found by itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engram_local.catalog import find_card
from engram_local.errors import FileError, FormatError
from engram_local.figures import Source
from engram_local.formats.card import read_card
from engram_local.formats.header import Header
from engram_local.formats.models import describe, read_model
from engram_local.memory.module import MemoryModule
from engram_local.model_spec import CacheGroup, Part, TableShape
from engram_local.units import MIB
from tests.fakes import FLOAT32, STRING, UINT32, backbone_file, make_memory
from tests.formats.headers import BF16, F16, F32, Tensors, make_header, raw_header

KEYS: dict[str, Any] = {
    "block_count": 2,
    "context_length": 4096,
    "embedding_length": 64,
    "feed_forward_length": 96,
    "attention.head_count": 4,
    "attention.head_count_kv": 2,
}
LAYERS: Tensors = {
    "blk.0.attn_q.weight": ((64, 64), F16),
    "blk.1.attn_q.weight": ((64, 64), F16),
}
EMBEDDING: Tensors = {"token_embd.weight": ((64, 100), F16)}
HEAD: Tensors = {"output.weight": ((64, 100), F16), "output_norm.weight": ((64,), F32)}


def test_a_plain_model_is_described() -> None:
    header = make_header("llama", KEYS, {**EMBEDDING, **LAYERS, **HEAD})
    spec = describe(header)
    assert (spec.name, spec.architecture, spec.origin) == (
        "model",
        "llama",
        "model.gguf",
    )
    assert spec.source is Source.EXACT
    assert spec.n_params == 2 * 6400 + 2 * 4096 + 64
    assert spec.n_active_params == 6400 + 2 * 4096 + 64
    assert (spec.context_length, spec.vocab_size, spec.hidden_size) == (4096, 100, 64)
    assert (spec.n_layers, spec.n_heads, spec.ffn_size) == (2, 4, 96)
    assert spec.caches == (
        CacheGroup(kind="attention", n_layers=2, key_size=32, value_size=32),
    )
    assert spec.weights[0].parts == {
        Part.EMBEDDING: 12_800,
        Part.LAYERS: 16_384,
        Part.OUTPUT: 12_800 + 256,
    }
    assert not spec.tied_output
    assert spec.runs_here
    assert spec.notes == ()


def test_a_tied_embedding_is_read_for_every_token() -> None:
    spec = describe(make_header("llama", KEYS, {**EMBEDDING, **LAYERS}))
    assert spec.tied_output
    assert spec.n_active_params == 6400 + 2 * 4096


def test_of_experts_only_some_are_read() -> None:
    experts = {
        "expert_count": 8,
        "expert_used_count": 2,
        "expert_feed_forward_length": 40,
        "expert_shared_count": 1,
    }
    weights: Tensors = {"blk.1.ffn_up_exps.weight": ((64, 40, 8), F16)}
    header = make_header("qwen3moe", KEYS | experts, {**EMBEDDING, **HEAD, **weights})
    spec = describe(header)
    assert (spec.n_experts, spec.n_experts_used) == (8, 2)
    assert spec.ffn_size == 3 * 40
    assert spec.n_active_params == 6464 + 2 * 64 * 40


def test_experts_may_have_the_width_of_the_feed_forward() -> None:
    experts = {"expert_count": 8, "expert_used_count": [2, 3]}
    spec = describe(make_header("llama", KEYS | experts, {**EMBEDDING}))
    assert spec.n_experts_used == 3
    assert spec.ffn_size == 3 * 96


def test_draft_layers_are_neither_loaded_nor_cached() -> None:
    keys = KEYS | {"block_count": 3, "nextn_predict_layers": 1}
    draft: Tensors = {"blk.2.attn_q.weight": ((64, 64), F16)}
    spec = describe(make_header("glm4moe", keys, {**EMBEDDING, **LAYERS, **draft}))
    assert spec.n_layers == 2
    assert spec.caches[0].n_layers == 2
    assert spec.weights[0].part(Part.UNUSED) == 8192


def test_an_unknown_architecture_is_described_with_a_warning() -> None:
    spec = describe(make_header("future", KEYS, {**EMBEDDING}))
    assert not spec.runs_here
    assert spec.notes == (
        "this llama.cpp does not know the architecture future",
        "the size of its cache is an upper bound: grouped-query attention",
    )


def test_a_model_that_uses_its_blocks_again_is_mentioned() -> None:
    spec = describe(make_header("nanbeige", KEYS | {"num_loops": 3}, {**EMBEDDING}))
    assert spec.n_layers == 6
    assert "more than once" in spec.notes[0]


def test_a_draft_model_is_mentioned() -> None:
    spec = describe(make_header("eagle3", KEYS, {**EMBEDDING}))
    assert "beside another one only" in spec.notes[0]


def test_a_state_space_model_has_no_heads() -> None:
    keys = {key: KEYS[key] for key in ("block_count", "context_length")} | {
        "embedding_length": 64,
        "attention.head_count": 0,
        "ssm.conv_kernel": 4,
        "ssm.inner_size": 128,
        "ssm.state_size": 16,
    }
    spec = describe(make_header("mamba", keys, {**EMBEDDING}))
    assert (spec.n_heads, spec.ffn_size, spec.caches) == (1, 128, ())
    assert spec.states[0].n_bytes == 4 * (3 * 128 + 128 * 16)


def test_a_table_of_unknown_kind_is_mentioned() -> None:
    table: Tensors = {"per_layer_token_embd.weight": ((64, 10), F16)}
    spec = describe(make_header("llama", KEYS, {**EMBEDDING, **table}))
    assert spec.weights[0].part(Part.TABLE) == 1280
    assert spec.tables == ()
    assert "n-gram table of a kind" in spec.notes[0]


@pytest.mark.parametrize(("architecture", "streams"), [("gemma3n", 4), ("gemma4", 1)])
def test_gemma_has_a_row_per_token_id(architecture: str, streams: int) -> None:
    keys = KEYS | {"attention.sliding_window": 512}
    keys |= {"attention.sliding_window_pattern": [1, 0]}
    table: Tensors = {"per_layer_token_embd.weight": ((256 * 42, 262_144), BF16)}
    spec = describe(make_header(architecture, keys, {**EMBEDDING, **table}))
    assert spec.tables == (
        TableShape(
            layer_id=0,
            n_rows=262_144,
            width=10_752,
            rows_per_token=1,
            orders=(1,),
            n_heads=1,
        ),
    )
    assert spec.weights[0].table_row_bytes == 21_504
    assert spec.n_streams == streams
    # llama.cpp reads single rows of a Gemma 4's, and loads all of a Gemma 3n's.
    assert spec.chooses_tier == (architecture == "gemma4")


def test_a_gemma_without_a_table_is_described() -> None:
    keys = KEYS | {"attention.sliding_window": 512}
    keys |= {"attention.sliding_window_pattern": [1, 0]}
    assert describe(make_header("gemma4", keys, {**EMBEDDING})).tables == ()


@pytest.mark.parametrize("names", [("num", "num"), ("count", "count")])
def test_longcat_has_the_table_of_its_card(names: tuple[str, str]) -> None:
    keys = KEYS | {
        f"ngram.neighbor_{names[0]}": 4,
        f"ngram.split_{names[1]}": 4,
    }
    sizes = [78 * 131_072 + 2 * index + 1 for index in range(12)]
    tables: Tensors = {
        f"ngram_embd.{index}.weight": ((256, size), BF16)
        for index, size in enumerate(sizes)
    }
    spec = describe(make_header("longcat-flash-ngram", keys, {**EMBEDDING, **tables}))
    card = find_card("LongCat-Flash-Lite")
    assert card is not None
    assert spec.tables == read_card(card).tables
    assert spec.weights[0].part(Part.TABLE) == 62_813_970_432
    assert spec.weights[0].table_row_bytes == 512
    assert not spec.runs_here
    assert "before the first layer" in spec.notes[-1]


@pytest.mark.parametrize(
    ("widths", "sentence"),
    [
        ([256], r"has 1 tables of width \[256\] for orders up to 2 with 2"),
        ([256, 128], r"has 2 tables of width \[128, 256\]"),
        ([], r"has 0 tables of width \[\]"),
    ],
)
def test_longcat_with_tables_that_do_not_match_is_refused(
    widths: list[int], sentence: str
) -> None:
    keys = KEYS | {"ngram.neighbor_num": 2, "ngram.split_num": 2}
    tables: Tensors = {
        f"ngram_embd.{index}.weight": ((width, 9), BF16)
        for index, width in enumerate(widths)
    }
    with pytest.raises(FormatError, match=sentence):
        describe(make_header("longcat-flash-ngram", keys, {**EMBEDDING, **tables}))


def test_a_file_is_opened_and_described(tmp_path: Path) -> None:
    file = backbone_file()
    file.keys["llama.attention.head_count"] = (UINT32, 2)
    spec = read_model(file.write(tmp_path / "tiny-Q4_K_M.gguf"))
    assert spec.name == "tiny"
    assert spec.weights[0].name == "Q4_K_M"
    assert spec.caches[0].key_size == 8


@pytest.mark.model
def test_the_default_model_has_the_sizes_that_llama_cpp_logs(smollm2: Header) -> None:
    spec = describe(smollm2)
    weights, cache = spec.weights[0], spec.caches[0]
    assert weights.name == "Q4_1"
    assert sum(weights.parts.values()) / MIB == pytest.approx(92.10, abs=0.005)
    assert spec.n_params == 134_515_008
    assert 8192 * cache.n_layers * (cache.key_size + cache.value_size) * 2 == 180 * MIB


def test_a_memory_is_no_model(
    tmp_path: Path, written: Callable[..., MemoryModule]
) -> None:
    path = written(make_memory(tmp_path / "memory.gguf")).path
    with pytest.raises(FileError, match="of type adapter, a model is needed") as caught:
        read_model(path)
    assert "--memory" in (caught.value.hint or "")


def test_a_projector_is_no_model() -> None:
    header = raw_header({"general.architecture": "clip", "general.type": "mmproj"}, {})
    with pytest.raises(FileError, match="of type mmproj, a model is needed"):
        describe(header)


def test_what_the_spec_refuses_names_the_file() -> None:
    with pytest.raises(FormatError, match=r"model\.gguf: model: a size is missing"):
        describe(make_header("llama", KEYS | {"context_length": 0}, {**EMBEDDING}))


def test_escape_codes_do_not_reach_a_message(tmp_path: Path) -> None:
    file = backbone_file()
    file.keys["general.architecture"] = (STRING, "\x1b[31mllama")
    with pytest.raises(FormatError) as caught:
        read_model(file.write(tmp_path / "model.gguf"))
    assert "\x1b" not in caught.value.message


def test_a_number_of_another_type_is_refused(tmp_path: Path) -> None:
    file = backbone_file()
    file.keys["llama.attention.head_count"] = (FLOAT32, 2.0)
    with pytest.raises(FormatError, match="head_count should be an integer"):
        read_model(file.write(tmp_path / "model.gguf"))


def test_draft_heads_are_no_layers_but_are_counted() -> None:
    keys = KEYS | {"nextn_predict_layers": 1}
    spec = describe(make_header("glm4moe", keys, {**EMBEDDING, **LAYERS, **HEAD}))
    assert (spec.n_layers, spec.n_drafts) == (1, 1)
    plain = describe(make_header("llama", KEYS, {**EMBEDDING, **LAYERS, **HEAD}))
    assert (plain.n_layers, plain.n_drafts) == (2, 0)
