"""Models like Qwen3.8-Flash-Next (`qwen4exp`) of any size, with random weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from engram_local import catalog
from engram_local.bench.qwen4exp_shape import Qwen4ExpShape
from engram_local.bench.random_pieces import RandomPieces, table_piece
from engram_local.formats.header import Header, Value, read_header
from engram_local.formats.model_writer import write_model
from engram_local.formats.pieces import Piece, Progress
from engram_local.memory.constants import derive_multipliers, offsets_of

_ARCHITECTURE = "qwen4exp"
_RMS_EPSILON = 1e-6
_ROPE_BASE = 10_000.0


def write_qwen4exp(
    path: Path, shape: Qwen4ExpShape, *, progress: Progress | None = None
) -> None:
    """Write a model with the default model's tokenizer; the table comes last.

    Raises FileError if the default model is not installed or the file cannot be
    written, UsageError for a type of weights that is not made here.
    """
    vocabulary = read_header(catalog.default_model())
    n_tokens = shape.n_tokens or len(vocabulary.texts("tokenizer.ggml.tokens"))
    write_model(
        path,
        _ARCHITECTURE,
        name=f"synthetic qwen4exp {shape.hidden_size}x{shape.n_layers}",
        keys=_keys(shape, vocabulary, n_tokens),
        pieces=list(_pieces(shape, n_tokens)),
        vocabulary=vocabulary,
        n_tokens=n_tokens,
        progress=progress,
    )


def _keys(shape: Qwen4ExpShape, vocabulary: Header, n_tokens: int) -> dict[str, Value]:
    eos = shape.eos_token_id
    if eos is None:
        eos = vocabulary.integer("tokenizer.ggml.eos_token_id")
    keys = _backbone_keys(shape) | {
        "ple.layers": np.array([shape.table_layer], np.uint32),
        "ple.ngram_size": shape.max_ngram,
        "ple.heads_per_ngram": shape.n_heads,
        "ple.conv_kernel": shape.conv_kernel,
        "ple.eos_token_id": eos,
        "embedding_length_per_layer_input": shape.row_width,
        "ple.layer_multipliers": np.array(_multipliers(shape, n_tokens), np.uint64),
        "ple.head_vocab_sizes": np.array(shape.sizes, np.uint64),
        "ple.head_offsets": np.array(offsets_of(shape.sizes), np.uint64),
    }
    if shape.image_token_id is not None:
        keys["ple.image_token_id"] = shape.image_token_id
    return keys


def _multipliers(shape: Qwen4ExpShape, n_tokens: int) -> tuple[int, ...]:
    if not shape.wide_multipliers:
        return derive_multipliers(
            seed=shape.seed, layer_id=0, n_canonical=n_tokens, max_ngram=shape.max_ngram
        )
    drawn = np.random.default_rng(shape.seed).integers(
        2**62, 2**63, shape.max_ngram, np.uint64
    )
    return tuple(2 * int(number) + 1 for number in drawn)


def _backbone_keys(shape: Qwen4ExpShape) -> dict[str, Value]:
    pairs = shape.n_rotated // 2
    ratios = [
        0 if shape.is_linear(layer_id) else shape.indexer_block
        for layer_id in range(shape.n_layers)
    ]
    sections = [pairs - 2 * (pairs // 3), pairs // 3, pairs // 3, 0]
    return {
        "block_count": shape.n_layers,
        "context_length": shape.context_length,
        "embedding_length": shape.hidden_size,
        "full_attention_interval": shape.full_every,
        "attention.head_count": shape.n_attention_heads,
        "attention.head_count_kv": shape.n_kv_heads,
        "attention.key_length": shape.head_size,
        "attention.value_length": shape.head_size,
        "attention.layer_norm_rms_epsilon": _RMS_EPSILON,
        "attention.indexer.head_count": shape.n_indexer_heads,
        "attention.indexer.key_length": shape.indexer_size,
        "attention.indexer.top_k": shape.indexer_top_k,
        "attention.compress_ratios": np.array(ratios, np.uint32),
        "rope.dimension_count": shape.n_rotated,
        "rope.dimension_sections": np.array(sections, np.int32),
        "rope.freq_base": _ROPE_BASE,
        "ssm.conv_kernel": shape.state_kernel,
        "ssm.state_size": shape.state_size,
        "ssm.group_count": shape.n_key_heads,
        "ssm.time_step_rank": shape.n_value_heads,
        "ssm.inner_size": shape.state_size * shape.n_value_heads,
        "expert_count": shape.n_experts,
        "expert_used_count": shape.n_experts_used,
        "expert_feed_forward_length": shape.expert_size,
        "expert_shared_feed_forward_length": shape.shared_size,
        "hyper_connection.count": shape.n_streams,
        "hyper_connection.low_rank": shape.stream_rank,
    }


def _pieces(shape: Qwen4ExpShape, n_tokens: int) -> Iterator[Piece]:
    d, wide = shape.hidden_size, shape.n_streams * shape.hidden_size
    make = RandomPieces(shape.weight_type, std=d**-0.5)
    yield make.matrix("token_embd", n_tokens, d)
    if not shape.tied_output:
        yield make.matrix("output", n_tokens, d)
    yield make.ones("output_hc_norm", wide)
    yield make.matrix("output_hc_down", shape.stream_rank, wide)
    yield make.matrix("output_hc_up", wide, shape.stream_rank)
    for layer_id in range(shape.n_layers):
        yield from _layer(shape, make, layer_id)
    yield table_piece(
        "per_layer_token_embd", shape.n_rows, shape.row_width, shape.row_type
    )


def _layer(shape: Qwen4ExpShape, make: RandomPieces, layer_id: int) -> Iterator[Piece]:
    block = f"blk.{layer_id}"
    for part in ("attn", "ffn"):
        yield from _mixer(shape, make, f"{block}.hc_{part}")
    if shape.is_linear(layer_id):
        yield from _linear_attention(shape, make, block, layer_id)
    else:
        yield from _full_attention(shape, make, block)
    if layer_id == shape.table_layer:
        yield from _fusion(shape, make, block)
    yield from _experts(shape, make, block)


def _mixer(shape: Qwen4ExpShape, make: RandomPieces, name: str) -> Iterator[Piece]:
    wide = shape.n_streams * shape.hidden_size
    yield make.ones(f"{name}_norm", wide)
    yield make.matrix(f"{name}_down", shape.stream_rank, wide)
    yield make.matrix(f"{name}_up", wide, shape.stream_rank)
    yield make.matrix(f"{name}_inject", shape.n_streams, wide)


def _linear_attention(
    shape: Qwen4ExpShape, make: RandomPieces, block: str, layer_id: int
) -> Iterator[Piece]:
    d, n_heads = shape.hidden_size, shape.n_value_heads
    values = shape.state_size * n_heads
    channels = 2 * shape.state_size * shape.n_key_heads + values
    generator = np.random.default_rng([shape.seed, layer_id])
    taps = generator.uniform(-1, 1, (channels, shape.state_kernel)).astype(np.float32)
    decay = generator.uniform(0.1, 1.0, n_heads).astype(np.float32)
    yield make.matrix(f"{block}.attn_qkv", channels, d)
    yield make.matrix(f"{block}.attn_gate", values, d)
    yield make.values(f"{block}.ssm_conv1d.weight", taps)
    yield make.values(f"{block}.ssm_dt.bias", np.zeros(n_heads, np.float32))
    yield make.values(f"{block}.ssm_a", -decay)
    yield make.matrix(f"{block}.ssm_beta", n_heads, d)
    yield make.matrix(f"{block}.ssm_alpha", n_heads, d)
    yield make.ones(f"{block}.ssm_norm", shape.state_size)
    yield make.matrix(f"{block}.ssm_out", d, values)


def _full_attention(
    shape: Qwen4ExpShape, make: RandomPieces, block: str
) -> Iterator[Piece]:
    d, head_size = shape.hidden_size, shape.head_size
    # Of each head the query, then its gate.
    yield make.matrix(f"{block}.attn_q", 2 * head_size * shape.n_attention_heads, d)
    yield make.matrix(f"{block}.attn_k", head_size * shape.n_kv_heads, d)
    yield make.matrix(f"{block}.attn_v", head_size * shape.n_kv_heads, d)
    yield make.matrix(f"{block}.attn_output", d, head_size * shape.n_attention_heads)
    yield make.ones(f"{block}.attn_q_norm", head_size)
    yield make.ones(f"{block}.attn_k_norm", head_size)
    queries = shape.n_indexer_heads * shape.indexer_size
    yield make.matrix(f"{block}.indexer.q_proj", queries, d)
    yield make.matrix(f"{block}.indexer.k_proj", shape.indexer_size, d)
    yield make.ones(f"{block}.indexer.q_norm", shape.indexer_size)
    yield make.ones(f"{block}.indexer.k_norm", shape.indexer_size)


def _fusion(shape: Qwen4ExpShape, make: RandomPieces, block: str) -> Iterator[Piece]:
    d, wide = shape.hidden_size, shape.n_streams * shape.hidden_size
    generator = np.random.default_rng([shape.seed, 1])
    taps = generator.uniform(-1, 1, (wide, shape.conv_kernel)).astype(np.float32)
    yield make.matrix(f"{block}.ple_key", wide, d)
    yield make.matrix(f"{block}.ple_value", d, d)
    for norm in ("key", "query", "conv"):
        yield make.ones(f"{block}.ple_norm_{norm}", wide)
    yield make.values(f"{block}.ple_conv1d.weight", taps)


def _experts(shape: Qwen4ExpShape, make: RandomPieces, block: str) -> Iterator[Piece]:
    d, size, shared = shape.hidden_size, shape.expert_size, shape.shared_size
    yield make.matrix(f"{block}.ffn_gate_inp", shape.n_experts, d)
    yield make.matrix(f"{block}.ffn_gate_exps", shape.n_experts, size, d)
    yield make.matrix(f"{block}.ffn_up_exps", shape.n_experts, size, d)
    yield make.matrix(f"{block}.ffn_down_exps", shape.n_experts, d, size)
    yield make.ones(f"{block}.ffn_gate_inp_shexp", d)
    yield make.matrix(f"{block}.ffn_gate_shexp", shared, d)
    yield make.matrix(f"{block}.ffn_up_shexp", shared, d)
    yield make.matrix(f"{block}.ffn_down_shexp", d, shared)
