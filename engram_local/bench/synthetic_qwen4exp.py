"""Models like Qwen3.8-Flash-Next (`qwen4exp`) of any size, with random weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from engram_local import catalog
from engram_local.bench.random_bytes import BLOCKS
from engram_local.bench.random_pieces import RandomPieces, table_piece
from engram_local.errors import UsageError
from engram_local.formats.header import Header, Value, read_header
from engram_local.formats.model_writer import write_model
from engram_local.formats.pieces import Piece, Progress
from engram_local.memory.constants import derive_multipliers, derive_sizes, offsets_of
from engram_local.units import format_bytes, format_count

_ARCHITECTURE = "qwen4exp"
_RMS_EPSILON = 1e-6
_ROPE_BASE = 10_000.0
_MAX_ROWS = 2**31 - 1  # llama.cpp numbers rows with int32
_MAX_NGRAM = 8
_MAX_SLOTS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Qwen4ExpShape:
    """The numbers of a model; the defaults give one of a few megabytes.

    The hidden size follows from the table: all rows of a token side by side. Raises
    UsageError for what llama.cpp does not run.
    """

    row_width: int = 32
    rows_per_head: int = 1009
    """At least; each head has a prime of its own."""

    row_type: str = "f16"
    """One of random_bytes.BLOCKS."""

    padding_rows: int = 64
    """The table's rows are a multiple of this, as the real model's are of 128."""

    max_ngram: int = 3
    n_heads: int = 2
    """Rows gathered per n-gram order."""

    table_layer: int = 0
    conv_kernel: int = 4
    wide_multipliers: bool = False
    """Multipliers of 64 bits: products wrap. Released ones keep them below 2^63."""

    eos_token_id: int | None = None
    """What cuts the n-grams; None = the tokenizer's."""

    image_token_id: int | None = None

    n_layers: int = 2
    full_every: int = 2
    """Every so many layers one has full attention, the others a recurrent state."""

    n_attention_heads: int = 2
    n_kv_heads: int = 1
    head_size: int = 32
    n_rotated: int = 16
    state_size: int = 32
    """Of one head of linear attention: keys and values."""

    n_key_heads: int = 2
    n_value_heads: int = 2
    state_kernel: int = 4
    n_experts: int = 4
    n_experts_used: int = 2
    expert_size: int = 32
    shared_size: int = 32
    n_streams: int = 4
    stream_rank: int = 8
    n_indexer_heads: int = 2
    indexer_size: int = 32
    indexer_top_k: int = 4096
    indexer_block: int = 4
    """Tokens that the indexer scores together; 0 = attention to everything."""

    context_length: int = 4096
    n_tokens: int | None = None
    """Of the default model's vocabulary; None = all."""

    weight_type: str = "f32"
    tied_output: bool = False
    """The output matrix is the embedding: such noise says one token for ever."""

    seed: int = 0

    def __post_init__(self) -> None:
        if self.row_type not in BLOCKS:
            raise UsageError(
                f"rows may be {', '.join(BLOCKS)}, not {self.row_type}",
            )
        self._check_table()
        self._check_layers()

    @property
    def n_slots(self) -> int:
        """Rows gathered for one token."""
        return (self.max_ngram - 1) * self.n_heads

    @property
    def hidden_size(self) -> int:
        """Values of one stream."""
        return self.row_width * self.n_slots

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return BLOCKS[self.row_type].row_bytes(self.row_width)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Rows of each slot: primes, no two alike."""
        starts = [self.rows_per_head] * (self.max_ngram - 1)
        return derive_sizes(starts, n_layers=1, n_heads=self.n_heads)[0]

    @property
    def n_rows(self) -> int:
        """Rows of the table, with those that no hash reaches."""
        return -(-sum(self.sizes) // self.padding_rows) * self.padding_rows

    def is_linear(self, layer_id: int) -> bool:
        """Return whether a layer keeps a recurrent state instead of a cache."""
        return (layer_id + 1) % self.full_every != 0

    def with_table(self, table_bytes: int) -> Qwen4ExpShape:
        """Return the same shape with a table of about so many bytes.

        Raises UsageError if that is no row per head.
        """
        rows = table_bytes // (self.n_slots * self.row_bytes)
        if rows < 1:
            raise UsageError(
                f"a table of {format_bytes(table_bytes)} has no row for each of its "
                f"{self.n_slots} slots"
            )
        return replace(self, rows_per_head=rows)

    def _check_table(self) -> None:
        if not 2 <= self.max_ngram <= _MAX_NGRAM or self.n_heads < 1:
            raise UsageError(f"n-grams have 2 to {_MAX_NGRAM} tokens and a head")
        if self.n_slots > _MAX_SLOTS:
            raise UsageError(f"{self.n_slots} rows per token, {_MAX_SLOTS} are allowed")
        if min(self.rows_per_head, self.padding_rows, self.conv_kernel) < 1:
            raise UsageError("a table needs rows, and its convolution a tap")
        if self.n_slots * self.rows_per_head > _MAX_ROWS or self.n_rows > _MAX_ROWS:
            raise UsageError(
                f"{format_count(self.n_slots * self.rows_per_head)} rows, llama.cpp "
                f"numbers {format_count(_MAX_ROWS)}"
            )
        self.row_bytes  # noqa: B018 - raises where the width does not fit

    def _check_layers(self) -> None:
        if not 0 <= self.table_layer < self.n_layers:
            raise UsageError(f"there is no layer {self.table_layer}")
        if self.full_every < 1 or not self.is_linear(self.table_layer):
            raise UsageError("the table's layer needs linear attention")
        if self.full_every > self.n_layers:
            raise UsageError("one layer needs full attention")
        if self.n_streams < 2 or self.stream_rank < 1:
            raise UsageError("a model needs two streams, and a rank to mix them")
        if self.n_value_heads % self.n_key_heads:
            raise UsageError("value heads are shared by a whole number of key heads")
        if self.n_attention_heads % self.n_kv_heads:
            raise UsageError("queries share a whole number of keys")
        if self.n_rotated % 2 or not 0 < self.n_rotated <= self.indexer_size:
            raise UsageError("rotated values are even, and fit the indexer's keys")
        if not 0 < self.n_experts_used <= self.n_experts:
            raise UsageError("a token uses at least one expert, at most all")


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
