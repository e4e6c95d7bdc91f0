"""Hugging Face configs: the same numbers as cards, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engram_local.errors import EngramError, FileError, FormatError, UnsupportedError
from engram_local.figures import Source
from engram_local.formats import hf_config
from engram_local.formats.card import read_card
from engram_local.formats.hf_config import INDEX_FILE, MAX_CONFIG_BYTES, read_model
from engram_local.model_spec import CacheGroup, ModelSpec, Part

MODELS = Path(__file__).parents[2] / "models"
Config = dict[str, Any]

# Public facts of config.json files, as far as sizes depend on them.
LLAMA = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131072,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
}
SMOL = {
    **LLAMA,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "max_position_embeddings": 8192,
    "vocab_size": 49152,
    "tie_word_embeddings": True,
}
QWEN3 = {
    "model_type": "qwen3",
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 40960,
    "vocab_size": 151936,
    "tie_word_embeddings": False,
    "sliding_window": None,
}
QWEN3_MOE = {
    **QWEN3,
    "model_type": "qwen3_moe",
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "moe_intermediate_size": 768,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 48,
    "num_key_value_heads": 4,
}
GEMMA3 = {
    "model_type": "gemma3",
    "text_config": {
        "hidden_size": 5376,
        "intermediate_size": 21504,
        "num_hidden_layers": 62,
        "num_attention_heads": 32,
        "num_key_value_heads": 16,
        "head_dim": 128,
        "sliding_window": 1024,
        "max_position_embeddings": 131072,
        "vocab_size": 262208,
    },
    "vision_config": {"hidden_size": 1152},
}
GEMMA3N = {
    "model_type": "gemma3n",
    "text_config": {
        "hidden_size": 2048,
        "intermediate_size": [16384] * 35,
        "num_hidden_layers": 35,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_dim": 256,
        "hidden_size_per_layer_input": 256,
        "vocab_size_per_layer_input": 262144,
        "num_kv_shared_layers": 15,
        "laurel_rank": 64,
        "sliding_window": 512,
        "max_position_embeddings": 32768,
        "vocab_size": 262400,
    },
}
GEMMA4 = {
    "model_type": "gemma4",
    "text_config": {
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "num_hidden_layers": 42,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_dim": 256,
        "global_head_dim": 512,
        "num_global_key_value_heads": None,
        "hidden_size_per_layer_input": 256,
        "num_kv_shared_layers": 18,
        "use_double_wide_mlp": False,
        "sliding_window": 512,
        "max_position_embeddings": 131072,
        "vocab_size": 262144,
    },
}
GEMMA4_E2B = {
    "model_type": "gemma4",
    "text_config": {
        **GEMMA4["text_config"],  # type: ignore[dict-item]
        "hidden_size": 1536,
        "intermediate_size": 6144,
        "num_hidden_layers": 35,
        "num_key_value_heads": 1,
        "num_kv_shared_layers": 20,
        "use_double_wide_mlp": True,
        "layer_types": (["sliding_attention"] * 4 + ["full_attention"]) * 7,
    },
}
GPT_OSS = {
    "model_type": "gpt_oss",
    "hidden_size": 2880,
    "intermediate_size": 2880,
    "num_hidden_layers": 24,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "num_local_experts": 32,
    "num_experts_per_tok": 4,
    "sliding_window": 128,
    "layer_types": ["sliding_attention", "full_attention"] * 12,
    "max_position_embeddings": 131072,
    "vocab_size": 201088,
    "attention_bias": True,
    "tie_word_embeddings": False,
}
QWEN4 = {
    "model_type": "qwen4_exp",
    "text_config": {
        "hidden_size": 2560,
        "num_hidden_layers": 48,
        "num_attention_heads": 24,
        "num_key_value_heads": 2,
        "head_dim": 256,
        "vocab_size": 248320,
        "max_position_embeddings": 262144,
        "num_experts": 512,
        "num_experts_per_tok": 10,
        "moe_intermediate_size": 640,
        "shared_expert_intermediate_size": 640,
        "full_attention_interval": 4,
        "linear_num_key_heads": 16,
        "linear_num_value_heads": 48,
        "linear_key_head_dim": 128,
        "linear_value_head_dim": 128,
        "linear_conv_kernel_dim": 4,
        "hc_count": 4,
        "hc_lowrank": 320,
        "indexer_head_dim": 128,
        "indexer_n_heads": 4,
        "ngram_size": 3,
        "ngram_vocab_size_base": 20000000,
        "heads_per_ngram": 8,
        "make_ngram_vocab_size_divisible_by": 128,
        "ple_layer_ids": [2],
        "ple_embed_dim": 2560,
        "ple_conv_kernel_size": 4,
    },
}
DEEPSEEK = {
    "model_type": "deepseek_v41",
    "text_config": {
        "hidden_size": 5120,
        "num_hidden_layers": 40,
        "num_attention_heads": 64,
        "num_key_value_heads": 1,
        "head_dim": 512,
        "vocab_size": 129280,
        "max_position_embeddings": 1048576,
        "q_lora_rank": 1280,
        "o_groups": 8,
        "o_lora_rank": 1024,
        "hc_mult": 4,
        "n_routed_experts": 384,
        "n_shared_experts": 1,
        "num_experts_per_tok": 6,
        "moe_intermediate_size": 2304,
        "sliding_window": 128,
        "compress_ratios": [0, 0] + [2] * 18 + [1] * 20 + [0] * 3,
        "kv_source_layer_ids": [2, 8, 14, 20],
        "index_source_layer_ids": [2, 8, 14, 20, 24, 28, 32, 36],
        "index_n_heads": 32,
        "index_head_dim": 128,
        "engram_layer_ids": [1, 14],
        "engram_num_embeddings": [384006168, 384016682],
        "engram_max_ngram_size": 4,
        "engram_n_heads": 8,
        "engram_head_dim": 256,
    },
}
LONGCAT = {
    "model_type": "longcat_flash_ngram",
    "vocab_size": 131072,
    "hidden_size": 3072,
    "ffn_hidden_size": 6144,
    "expert_ffn_hidden_size": 1024,
    "num_layers": 14,
    "num_attention_heads": 32,
    "kv_lora_rank": 512,
    "q_lora_rank": 1536,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128,
    "v_head_dim": 128,
    "n_routed_experts": 256,
    "zero_expert_num": 128,
    "moe_topk": 12,
    "ngram_vocab_size_ratio": 78,
    "emb_neighbor_num": 4,
    "emb_split_num": 4,
    "max_position_embeddings": 327680,
}
DEEPSEEK_V3 = {
    "model_type": "deepseek_v3",
    "vocab_size": 129280,
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "moe_intermediate_size": 2048,
    "num_hidden_layers": 61,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "first_k_dense_replace": 3,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
    "kv_lora_rank": 512,
    "q_lora_rank": 1536,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128,
    "v_head_dim": 128,
    "max_position_embeddings": 163840,
    "tie_word_embeddings": False,
}
SAME = {
    "Llama-3.1-8B": LLAMA,
    "SmolLM2-135M-Instruct": SMOL,
    "Qwen3-8B": QWEN3,
    "Qwen3-30B-A3B": QWEN3_MOE,
    "gemma-3-27b": GEMMA3,
    "gemma-3n-E4B": GEMMA3N,
    "gemma-4-E2B": GEMMA4_E2B,
    "gemma-4-E4B": GEMMA4,
    "gpt-oss-20b": GPT_OSS,
    "Qwen3.8-Flash-Next": QWEN4,
    "DeepSeek-V4.1-Flash": DEEPSEEK,
    "LongCat-Flash-Lite": LONGCAT,
}


def write(folder: Path, config: object) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    return path


def changed(config: Config, **values: object) -> Config:
    """Return the config with values of its text part replaced."""
    if "text_config" in config:
        return {**config, "text_config": {**config["text_config"], **values}}
    return {**config, **values}


def weights_of(spec: ModelSpec, name: str) -> dict[Part, int]:
    return {one.name: one.parts for one in spec.weights}[name]


@pytest.mark.parametrize("name", SAME)
def test_a_config_says_the_same_as_the_card(tmp_path: Path, name: str) -> None:
    card = read_card(MODELS / f"{name}.toml")
    found = read_model(write(tmp_path, SAME[name]))
    for field in (
        "architecture",
        "context_length",
        "vocab_size",
        "hidden_size",
        "n_layers",
        "n_heads",
        "ffn_size",
        "caches",
        "states",
        "tables",
        "n_experts",
        "n_experts_used",
        "tied_output",
        "n_streams",
        "runs_here",
        "n_active_params",
    ):
        assert getattr(found, field) == getattr(card, field), field
    unused = 14_710_631_010 if name == "DeepSeek-V4.1-Flash" else 0
    assert found.n_params == card.n_params - unused


def test_every_card_of_a_published_model_has_a_config_here() -> None:
    """Engram was not published; Qwen2.5's files hold an output matrix more."""
    others = {"Engram-27B", "Engram-40B", "Qwen2.5-1.5B", "gemma-3n-E2B"}
    assert {path.stem for path in MODELS.glob("*.toml")} == set(SAME) | others


def test_deepseek_v3(tmp_path: Path) -> None:
    spec = read_model(write(tmp_path, DEEPSEEK_V3))
    assert spec.n_params / 1e9 == pytest.approx(671.0, abs=0.1)
    assert spec.n_active_params / 1e9 == pytest.approx(37, abs=0.5)
    assert [(g.key_size, g.value_size) for g in spec.caches] == [(576, 0)]
    assert spec.ffn_size == 9 * 2048


def test_qwen2_has_biases_of_queries_keys_and_values(tmp_path: Path) -> None:
    config = {
        **SMOL,
        "model_type": "qwen2",
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "vocab_size": 151936,
    }
    assert read_model(write(tmp_path, config)).n_params == 1_543_714_304


def test_gemma4_with_experts(tmp_path: Path) -> None:
    """Gemma 4 26B-A4B; keys of full layers serve as values."""
    config = changed(
        GEMMA4,
        hidden_size=2816,
        intermediate_size=2112,
        num_hidden_layers=30,
        num_attention_heads=16,
        num_key_value_heads=8,
        num_global_key_value_heads=2,
        attention_k_eq_v=True,
        hidden_size_per_layer_input=0,
        num_kv_shared_layers=0,
        enable_moe_block=True,
        num_experts=128,
        top_k_experts=8,
        moe_intermediate_size=704,
        sliding_window=1024,
    )
    spec = read_model(write(tmp_path, config))
    assert spec.n_params / 1e9 == pytest.approx(25.2, abs=0.1)
    assert spec.tables == ()
    assert [(g.n_layers, g.key_size) for g in spec.caches] == [(5, 1024), (25, 2048)]


def test_a_family_that_is_not_known_is_taken_for_a_plain_one(tmp_path: Path) -> None:
    spec = read_model(write(tmp_path, {**LLAMA, "model_type": "new_one"}))
    assert spec.n_params == 8_030_261_248
    assert not spec.runs_here
    assert "new_one is not known here" in spec.notes[0]


def test_one_without_the_keys_of_a_plain_one_is_refused(tmp_path: Path) -> None:
    config = {**LLAMA, "model_type": "mamba", "intermediate_size": None}
    with pytest.raises(UnsupportedError, match="model_type mamba") as caught:
        read_model(write(tmp_path, config))
    assert "GGUF" in (caught.value.hint or "")


def test_computed_weights(tmp_path: Path) -> None:
    spec = read_model(write(tmp_path, QWEN4))
    assert [one.name for one in spec.weights] == ["Q4_K_M", "Q8_0", "BF16"]
    assert {one.source for one in spec.weights} == {Source.ESTIMATED}
    assert weights_of(spec, "Q8_0")[Part.TABLE] == 54_400_261_120
    assert weights_of(spec, "Q4_K_M")[Part.TABLE] == 28_800_138_240
    assert weights_of(spec, "BF16")[Part.TABLE] == 102_400_491_520
    for weights in spec.weights:
        assert sum(weights.parts.values()) == weights.file_bytes


@pytest.mark.parametrize(
    ("config", "quantization", "file_bytes"),
    [
        (LLAMA, "Q8_0", 8_540_775_840),
        (LLAMA, "Q4_K_M", 4_920_739_232),
        (QWEN3, "Q4_K_M", 5_027_783_488),
        (QWEN3_MOE, "Q4_K_M", 18_556_686_912),
        (QWEN4, "Q8_0", 188_225_033_248),
    ],
)
def test_computed_weights_are_near_published_files(
    tmp_path: Path, config: Config, quantization: str, file_bytes: int
) -> None:
    spec = read_model(write(tmp_path, config))
    found = sum(weights_of(spec, quantization).values())
    assert found == pytest.approx(file_bytes, rel=0.015)


def test_an_index_says_what_the_weights_take(tmp_path: Path) -> None:
    write(tmp_path, {**QWEN4, "dtype": "bfloat16"})
    index = {"metadata": {"total_size": 355_000_000_000}, "weight_map": {}}
    (tmp_path / INDEX_FILE).write_text(json.dumps(index))
    spec = read_model(tmp_path)
    assert [one.name for one in spec.weights] == ["Q4_K_M", "Q8_0", "safetensors"]
    largest = spec.weights[-1]
    assert largest.file_bytes == sum(largest.parts.values()) == 355_000_000_000
    assert largest.part(Part.TABLE) == 102_400_491_520
    assert largest.table_row_bytes == 320


def test_rows_of_quantized_safetensors_are_not_known(tmp_path: Path) -> None:
    write(tmp_path, {**QWEN4, "dtype": "bfloat16", "quantization_config": {"a": 1}})
    (tmp_path / INDEX_FILE).write_text('{"metadata": {"total_size": 180000000000}}')
    weights = {one.name: one for one in read_model(tmp_path).weights}["safetensors"]
    assert weights.table_row_bytes == 0
    assert sum(weights.parts.values()) == 180_000_000_000


def test_without_an_index_the_files_are_counted(tmp_path: Path) -> None:
    write(tmp_path, SMOL)
    for name in ("a.safetensors", "b.safetensors"):
        (tmp_path / name).write_bytes(bytes(1000))
    spec = read_model(tmp_path)
    assert spec.weights[0].name == "safetensors"
    assert spec.weights[0].file_bytes == 2000


def test_an_index_below_the_table_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {**QWEN4, "dtype": "bfloat16"})
    (tmp_path / INDEX_FILE).write_text('{"metadata": {"total_size": 9}}')
    with pytest.raises(FormatError, match="smaller than the table"):
        read_model(tmp_path)


def test_matches(tmp_path: Path) -> None:
    assert not hf_config.matches(tmp_path)
    path = write(tmp_path, LLAMA)
    assert hf_config.matches(tmp_path)
    assert hf_config.matches(path)
    assert hf_config.matches(tmp_path / "other.json")  # whether it is there or not
    assert not hf_config.matches(tmp_path / "model.gguf")


def test_the_name_is_the_folders(tmp_path: Path) -> None:
    (folder := tmp_path / "My-Model").mkdir()
    write(folder, LLAMA)
    assert read_model(folder).name == "My-Model"
    write(folder, {**LLAMA, "_name_or_path": "maker/model\x1b[31m"})
    assert read_model(folder).name == "maker/model\\x1b[31m"


def test_nested_lists_may_be_numbers_written_as_floats(tmp_path: Path) -> None:
    spec = read_model(write(tmp_path, {**LLAMA, "intermediate_size": 14336.0}))
    assert spec.ffn_size == 14336


@pytest.mark.parametrize(
    ("config", "values", "sentence"),
    [
        (LLAMA, {"hidden_size": None}, "hidden_size is missing"),
        (LLAMA, {"hidden_size": -1}, "hidden_size is -1"),
        (LLAMA, {"hidden_size": 2**40}, "hidden_size is 1099511627776"),
        (LLAMA, {"hidden_size": float("nan")}, "hidden_size is nan"),
        (LLAMA, {"hidden_size": "4096"}, "hidden_size is '4096'"),
        (LLAMA, {"hidden_size": True}, "hidden_size is True"),
        (LLAMA, {"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000"),
        (LLAMA, {"num_key_value_heads": 64}, "num_key_value_heads is 64"),
        (LLAMA, {"tie_word_embeddings": "yes"}, "tie_word_embeddings is 'yes'"),
        (LLAMA, {"max_position_embeddings": 0}, "max_position_embeddings is 0"),
        (LLAMA, {"model_type": 7}, "model_type is 7"),
        (LLAMA, {"model_type": None}, "model_type is missing"),
        (QWEN3_MOE, {"num_experts_per_tok": 200}, "num_experts_per_tok is 200"),
        (GEMMA3, {"sliding_window": None}, "text_config.sliding_window is missing"),
        (GEMMA3, {"layer_types": ["full_attention"]}, "layer_types has 1 of 62"),
        (GEMMA3, {"layer_types": [3]}, "text_config.layer_types is [3]"),
        (GEMMA3N, {"num_kv_shared_layers": 35}, "num_kv_shared_layers is 35"),
        (QWEN4, {"ngram_vocab_size_base": 2**60}, "ngram_vocab_size_base is 1152"),
        (QWEN4, {"ngram_size": 9}, "ngram_size is 9"),
        (QWEN4, {"ple_layer_ids": [0]}, "ple_layer_ids is [0]"),
        (DEEPSEEK, {"engram_num_embeddings": [5]}, "a number for every layer"),
        (DEEPSEEK, {"kv_source_layer_ids": [99]}, "kv_source_layer_ids is [99]"),
        (DEEPSEEK, {"compress_ratios": [0, -1]}, "compress_ratios is [0, -1]"),
        (LONGCAT, {"ngram_vocab_size_ratio": float("inf")}, "ratio is inf"),
        (LONGCAT, {"moe_topk": 0}, "moe_topk is 0"),
    ],
)
def test_impossible_values_are_refused_with_file_and_key(
    tmp_path: Path, config: Config, values: Config, sentence: str
) -> None:
    path = write(tmp_path, changed(config, **values))
    with pytest.raises(FormatError) as caught:
        read_model(path)
    assert str(path) in caught.value.message
    assert sentence in caught.value.message


@pytest.mark.parametrize(
    "text",
    ["", "[]", "7", "null", '"a"', "{", "[" * 100_000, '{"text_config": 3}', "\x00"],
)
def test_what_is_no_config_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(FormatError, match=r"config\.json"):
        read_model(path)


def test_a_large_file_is_no_config(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with open(path, "wb") as file:
        file.truncate(2**30)  # sparse
    with pytest.raises(FormatError, match=f"larger than {MAX_CONFIG_BYTES:,}"):
        read_model(path)


def test_a_missing_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"config\.json does not exist"):
        read_model(tmp_path)


@pytest.mark.parametrize("name", SAME)
def test_a_config_that_lacks_any_key_is_read_or_refused(
    tmp_path: Path, name: str
) -> None:
    """Nothing but this program's errors comes out, whatever is missing or of no use."""
    config = SAME[name]
    for key in config.get("text_config", config):
        for value in (None, 0, -1, 10**30, "x", [], {}, [10**9], float("nan")):
            path = write(tmp_path, changed(config, **{key: value}))
            try:
                spec = read_model(path)
            except EngramError:
                continue
            assert spec.n_params > 0
            assert all(isinstance(group, CacheGroup) for group in spec.caches)
