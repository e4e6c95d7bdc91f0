"""Shapes of families with an n-gram memory: DeepSeek-V4.1, Qwen3.8-Flash-Next, LongCat.

Counts follow the tensors of the released weights.
"""

from __future__ import annotations

from engram_local.formats.fields import Fields
from engram_local.formats.hf_dims import (
    MOST_EXPERTS,
    MOST_LAYERS,
    MOST_WIDTH,
    Dims,
    Shape,
    cache,
    full_layers,
    latent_attention,
    ngram_table,
    read_experts,
)
from engram_local.memory.constants import derive_sizes
from engram_local.model_spec import INDEXER, CacheGroup, StateGroup, TableShape

_F32_BYTES = 4
_ABSENT = "This llama.cpp does not have the architecture."


def deepseek_v41(fields: Fields, dims: Dims) -> Shape:
    """Engram tables, residual streams, and few layers that keep keys for the others."""
    h = dims.hidden
    n_experts, used, width = read_experts(fields)
    shared = fields.integer("n_shared_experts", 0, 2**16)
    streams = fields.integer("hc_mult", 1, 64)
    mix = streams * (2 + streams)
    per_layer = _low_rank_attention(fields, dims) + 2 * h
    per_layer += 2 * (mix * streams * h + mix + 3)
    per_layer += (h + 2) * n_experts + 3 * h * width * shared
    tables = _engram_tables(fields)
    gate = sum(
        2 * streams * h + h * (streams + 1) * table.rows_per_token * table.width
        for table in tables
    )
    sparse, caches = _compressed(fields, dims)
    return Shape(
        architecture="deepseek41",
        layers=dims.n_layers * per_layer + gate + sparse + h,
        experts=dims.n_layers * n_experts * 3 * h * width,
        n_experts=n_experts,
        n_experts_used=used,
        ffn_size=width * (used + shared),
        caches=caches,
        tables=tables,
        n_streams=streams,
        runs_here=False,
        notes=(_ABSENT, "Draft layers and vision are not counted."),
    )


def _low_rank_attention(fields: Fields, dims: Dims) -> int:
    """Return the values of a layer's attention with one latent for all heads."""
    h, latent = dims.hidden, dims.n_kv_heads * dims.head_dim
    queries = dims.n_heads * dims.head_dim
    rank = fields.integer("q_lora_rank", 1, MOST_WIDTH)
    groups = fields.integer("o_groups", 1, 2**16)
    out = groups * fields.integer("o_lora_rank", 1, MOST_WIDTH)
    matrices = rank * (h + queries) + h * latent + out * (queries // groups + h)
    return matrices + rank + latent + dims.n_heads


def _compressed(fields: Fields, dims: Dims) -> tuple[int, tuple[CacheGroup, ...]]:
    """Return the values of indexers and compressors, and all caches.

    A layer of `kv_source_layer_ids` keeps keys for itself and for those that follow.
    """
    h, latent = dims.hidden, dims.n_kv_heads * dims.head_dim
    heads = fields.integer("index_n_heads", 1, 2**16)
    width = fields.integer("index_head_dim", 1, 2**16)
    rank = fields.integer("q_lora_rank", 1, MOST_WIDTH)
    ratios = fields.integers("compress_ratios", high=2**16)
    sources = fields.integers("kv_source_layer_ids", high=len(ratios) - 1)
    by_ratio = sorted((max(1, ratios[source]) for source in sources), reverse=True)
    indexed = len(fields.integers("index_source_layer_ids", high=MOST_LAYERS))
    values = indexed * heads * (width * rank + h)
    values += len(sources) * (width * latent + width + latent * h + latent)
    values += sum(latent * h for ratio in by_ratio if ratio > 1)
    window = fields.integer("sliding_window", 1)
    windows = cache("sliding window", dims.n_layers, latent, 0, window=window)
    compressed = (
        cache(kind, by_ratio.count(ratio), size, 0, ratio=ratio)
        for kind, size in (("compressed", latent), (INDEXER, width))
        for ratio in dict.fromkeys(by_ratio)
    )
    return values, (windows, *compressed)


def _engram_tables(fields: Fields) -> tuple[TableShape, ...]:
    layer_ids = fields.integers("engram_layer_ids", high=MOST_LAYERS)
    rows = fields.integers("engram_num_embeddings", low=1)
    if len(rows) != len(layer_ids):
        raise fields.refuse("engram_num_embeddings needs a number for every layer")
    orders = tuple(range(2, fields.integer("engram_max_ngram_size", 2, 64) + 1))
    heads = fields.integer("engram_n_heads", 1, 2**10)
    width = fields.integer("engram_head_dim", 1, MOST_WIDTH)
    return tuple(
        ngram_table(layer_id, n_rows, width, orders, heads)
        for layer_id, n_rows in zip(layer_ids, rows, strict=True)
    )


def qwen4_exp(fields: Fields, dims: Dims) -> Shape:
    """Linear attention, every fourth layer attends; residual streams, one table."""
    h = dims.hidden
    n_experts, used, width = read_experts(fields)
    shared = fields.integer("shared_expert_intermediate_size", 0, 2**24)
    streams = fields.integer("hc_count", 2, 64)
    mixer = streams * h * (1 + 2 * fields.integer("hc_lowrank", 1, 2**16))
    n_full = sum(full_layers(fields, dims.n_layers, every=4))
    n_linear = dims.n_layers - n_full
    linear, state = _linear_attention(fields, dims)
    full, caches = _indexed_attention(fields, dims, n_full)
    tables = _qwen_table(fields, dims)
    memory, states = _qwen_memory(fields, dims, streams) if tables else (0, ())
    per_layer = 2 * (mixer + streams * h * streams) + h * n_experts + h + 3 * h * shared
    return Shape(
        architecture="qwen4exp",
        layers=dims.n_layers * per_layer
        + n_full * full
        + n_linear * linear
        + mixer
        + memory,
        experts=dims.n_layers * n_experts * 3 * h * width,
        n_experts=n_experts,
        n_experts_used=used,
        ffn_size=width * used + shared,
        caches=caches,
        states=(StateGroup(n_layers=n_linear, n_bytes=state), *states),
        tables=tables,
        n_streams=streams,
        notes=("Draft layers and vision are not counted.",),
    )


def _indexed_attention(
    fields: Fields, dims: Dims, n_layers: int
) -> tuple[int, tuple[CacheGroup, ...]]:
    """Return the values of one layer, and the caches of all."""
    h, size = dims.hidden, dims.n_kv_heads * dims.head_dim
    index = fields.integer("indexer_head_dim", 0, 2**16, 0)
    heads = fields.integer("indexer_n_heads", 0, 2**16, 0) + 1  # and the keys
    values = 3 * h * dims.n_heads * dims.head_dim + 2 * h * size + 2 * dims.head_dim
    caches = [cache("attention", n_layers, size, size)]
    if index:
        values += heads * h * index + 2 * index
        caches.append(cache(INDEXER, n_layers, index, 0))
    return values, tuple(caches)


def _linear_attention(fields: Fields, dims: Dims) -> tuple[int, int]:
    """Return the values of one layer and the bytes of its state."""
    n_keys = fields.integer("linear_num_key_heads", 1, 2**16)
    n_values = fields.integer("linear_num_value_heads", 1, 2**16)
    key = fields.integer("linear_key_head_dim", 1, 2**16)
    inner = n_values * fields.integer("linear_value_head_dim", 1, 2**16)
    taps = fields.integer("linear_conv_kernel_dim", 1, 2**10)
    mixed = 2 * n_keys * key + inner
    values = dims.hidden * (mixed + 2 * inner + 2 * n_values)
    values += taps * mixed + 2 * n_values + inner // n_values
    state = (taps - 1) * mixed + key * inner
    return values, state * _F32_BYTES


def _qwen_memory(
    fields: Fields, dims: Dims, streams: int
) -> tuple[int, tuple[StateGroup, ...]]:
    """Return the values beside the table, and the state of the convolution."""
    h, wide = dims.hidden, streams * dims.hidden
    taps = fields.integer("ple_conv_kernel_size", 1, 2**10)
    dilation = fields.integer("ngram_size", 2, 8)
    values = h * wide + h * h + 3 * wide + taps * wide
    n_bytes = (taps - 1) * dilation * wide * _F32_BYTES
    return values, (StateGroup(n_layers=1, n_bytes=n_bytes),)


def _qwen_table(fields: Fields, dims: Dims) -> tuple[TableShape, ...]:
    """Return the table of the first layer that has one; layers count from one."""
    layer_ids = fields.integers("ple_layer_ids", 1, dims.n_layers)
    if not layer_ids:
        return ()
    orders = tuple(range(2, fields.integer("ngram_size", 2, 8) + 1))
    heads = fields.integer("heads_per_ngram", 1, 64)
    start = fields.integer("ngram_vocab_size_base", 2, 2**31)
    step = fields.integer("make_ngram_vocab_size_divisible_by", 1, 2**20, 1)
    width = fields.integer("ple_embed_dim", 1, MOST_WIDTH, dims.hidden)
    sizes = derive_sizes([start] * len(orders), n_layers=1, n_heads=heads)[0]
    n_rows = -(-sum(sizes) // step) * step
    width //= len(orders) * heads
    return (ngram_table(layer_ids[0] - 1, n_rows, width, orders, heads),)


def longcat(fields: Fields, dims: Dims) -> Shape:
    """Two attentions and two dense feed-forwards a layer beside its experts."""
    h = dims.hidden
    n_experts = fields.integer("n_routed_experts", 1, MOST_EXPERTS)
    idle = fields.integer("zero_expert_num", 0, MOST_EXPERTS, 0)
    used = fields.integer("moe_topk", 1, n_experts)
    width = fields.integer("expert_ffn_hidden_size", 1, 2**24)
    dense = fields.integer("ffn_hidden_size", 1, 2**24)
    latent, attention = latent_attention(fields, dims)
    table = _longcat_table(fields, dims)
    router = (h + 1) * (n_experts + idle)
    per_layer = 2 * attention + 2 * 3 * h * dense + 4 * h + router
    projection = table.rows_per_token * table.width * h
    return Shape(
        architecture="longcat_flash_ngram",
        layers=dims.n_layers * per_layer + projection + h,
        experts=dims.n_layers * n_experts * 3 * h * width,
        n_experts=n_experts,
        n_experts_used=used,
        ffn_size=max(width * used, dense),
        caches=(cache("attention", 2 * dims.n_layers, latent, 0),),
        tables=(table,),
        runs_here=False,
        notes=(
            _ABSENT,
            f"{idle} experts compute nothing; the active parameters are the most that "
            "a token reads.",
        ),
    )


def _longcat_table(fields: Fields, dims: Dims) -> TableShape:
    """Return its tables as one: all are needed at the input."""
    most = fields.integer("emb_neighbor_num", 2, 64)
    heads = fields.integer("emb_split_num", 1, 2**10)
    n_tables = (most - 1) * heads
    ratio = fields.number("ngram_vocab_size_ratio", high=2**20)
    first = int(ratio * dims.vocab) + 1
    n_rows = sum(first + 2 * number for number in range(n_tables))
    orders = tuple(range(2, most + 1))
    return ngram_table(0, n_rows, max(1, dims.hidden // n_tables), orders, heads)
