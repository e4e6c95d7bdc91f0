"""Shapes of families without an n-gram memory: grouped heads, windows, experts.

Counts follow the tensors that each family has in llama.cpp, src/models/*.cpp.
"""

from __future__ import annotations

from engram_local.errors import FormatError
from engram_local.formats.fields import Fields
from engram_local.formats.hf_dims import (
    MOST_EXPERTS,
    Dims,
    Shape,
    attention,
    cache,
    full_layers,
    latent_attention,
    per_layer_projection,
    per_token_table,
    read_experts,
    windowed,
)


def plain(
    fields: Fields, dims: Dims, architecture: str, unknown: bool = False
) -> Shape:
    """Attention with grouped heads, dense or with experts: Llama, Mistral, Qwen.

    unknown: whether this is a guess, which is said in the notes.
    """
    note = (
        f"The family {architecture} is not known here: sizes are those of a plain "
        "transformer with grouped attention heads.",
    )
    n_experts, used, width = read_experts(fields)
    per_layer = attention(dims) + 2 * dims.hidden + _extras(fields, dims, architecture)
    if n_experts:
        per_layer += dims.hidden * n_experts
    else:
        width = fields.integer("intermediate_size", 1, 2**24)
        per_layer += 3 * dims.hidden * width
    size = dims.n_kv_heads * dims.head_dim
    return Shape(
        architecture=architecture,
        layers=dims.n_layers * per_layer + dims.hidden,
        experts=dims.n_layers * n_experts * 3 * dims.hidden * width,
        n_experts=n_experts,
        n_experts_used=used,
        ffn_size=width * max(1, used),
        caches=(cache("attention", dims.n_layers, size, size),),
        runs_here=not unknown,
        notes=note if unknown else (),
    )


def _extras(fields: Fields, dims: Dims, architecture: str) -> int:
    """Return the values of a layer's biases and of its norms of queries and keys."""
    queries, keys = dims.n_heads * dims.head_dim, dims.n_kv_heads * dims.head_dim
    if architecture.startswith("qwen3"):
        return 2 * dims.head_dim
    if architecture == "qwen2":
        return queries + 2 * keys
    biases = fields.flag("attention_bias", False)
    return queries + 2 * keys + dims.hidden if biases else 0


def gemma3(fields: Fields, dims: Dims) -> Shape:
    """A window in all layers but every sixth."""
    width = fields.integer("intermediate_size", 1, 2**24)
    norms = 4 * dims.hidden + 2 * dims.head_dim
    per_layer = attention(dims) + 3 * dims.hidden * width + norms
    full = full_layers(fields, dims.n_layers, every=6)
    size = dims.n_kv_heads * dims.head_dim
    return Shape(
        architecture="gemma3",
        layers=dims.n_layers * per_layer + dims.hidden,
        ffn_size=width,
        caches=windowed(full, size, size, _window(fields)),
    )


def gemma3n(fields: Fields, dims: Dims) -> Shape:
    """Four streams (AltUp), a row per token for all layers, shared caches."""
    h, streams, rank = dims.hidden, 4, fields.integer("laurel_rank", 1, 2**16)
    width = _widest(fields, "intermediate_size")
    inner = fields.integer("hidden_size_per_layer_input", 1, 2**16)
    norms = 6 * h + 2 * dims.head_dim
    altup = streams**2 + streams**3 + 2 * h + streams * h
    per_layer = attention(dims) + 3 * h * width + 2 * h * (inner + rank)
    full = full_layers(fields, dims.n_layers, every=5)
    size = dims.n_kv_heads * dims.head_dim
    # llama.cpp fills the table up to the size of the vocabulary.
    rows = max(dims.vocab, fields.integer("vocab_size_per_layer_input", 1, 2**24))
    shared = fields.integer("num_kv_shared_layers", 0, dims.n_layers - 1)
    return Shape(
        architecture="gemma3n",
        layers=dims.n_layers * (per_layer + norms + altup)
        + 2 * (streams - 1) * h * h
        + per_layer_projection(dims, inner),
        ffn_size=width,
        caches=windowed(
            full[: dims.n_layers - shared],
            size,
            size,
            _window(fields),
        ),
        tables=(per_token_table(rows, inner * dims.n_layers),),
        n_streams=streams,
    )


def gemma4(fields: Fields, dims: Dims) -> Shape:
    """Windows and whole contexts of different widths; the last layers own no cache."""
    h, n = dims.hidden, dims.n_layers
    inner = fields.integer("hidden_size_per_layer_input", 0, 2**16, 0)
    own = n - fields.integer("num_kv_shared_layers", 0, n - 1, 0)
    full = full_layers(fields, n, every=6)
    attention_values, wide, narrow = _gemma4_attention(fields, dims, full)
    width = fields.integer("intermediate_size", 1, 2**24)
    last = width * (2 if fields.flag("use_double_wide_mlp", False) else 1)
    n_experts, used, one = _gemma4_experts(fields)
    per_layer = 4 * h + 1 + (2 * h * inner + h if inner else 0)
    per_layer += h * n_experts + 4 * h if n_experts else 0
    shared = per_layer_projection(dims, inner) if inner else h
    return Shape(
        architecture="gemma4",
        layers=attention_values
        + 3 * h * (own * width + (n - own) * last)
        + n * per_layer
        + shared,
        experts=n * n_experts * 3 * h * one,
        n_experts=n_experts,
        n_experts_used=used,
        ffn_size=max(width, last) + used * one,
        caches=windowed(full[:own], wide, narrow, _window(fields)),
        tables=(per_token_table(dims.vocab, inner * n),) if inner else (),
    )


def _gemma4_attention(
    fields: Fields, dims: Dims, full: list[bool]
) -> tuple[int, int, int]:
    """Return the values of all layers, and the width of a key with and without window.

    Layers that own no cache have matrices of keys and values all the same.
    """
    h = dims.hidden
    head = fields.integer("global_head_dim", 1, 2**16, 512)
    same = fields.flag("attention_k_eq_v", False)  # in layers without window
    few = fields.integer("num_global_key_value_heads", 1, 2**16, dims.n_kv_heads)
    wide = head * (few if same else dims.n_kv_heads)
    narrow = dims.n_kv_heads * dims.head_dim
    of_full = 2 * h * dims.n_heads * head + h * wide * (1 if same else 2) + 2 * head
    of_windowed = attention(dims) + 2 * dims.head_dim
    n_full = sum(full)
    values = n_full * of_full + (len(full) - n_full) * of_windowed
    return values + head // 2, wide, narrow  # rope's frequencies, once


def _gemma4_experts(fields: Fields) -> tuple[int, int, int]:
    if not fields.flag("enable_moe_block", False):
        return 0, 0, 0
    n_experts = fields.integer("num_experts", 1, MOST_EXPERTS)
    used = fields.integer("top_k_experts", 1, n_experts)
    return n_experts, used, fields.integer("moe_intermediate_size", 1, 2**24)


def _window(fields: Fields) -> int:
    return fields.integer("sliding_window", 1)


def _widest(fields: Fields, key: str) -> int:
    """Return a number that some configs write once for every layer."""
    try:
        return fields.integer(key, 1, 2**24)
    except FormatError:
        return max(fields.integers(key, 1, 2**24), default=1)


def gpt_oss(fields: Fields, dims: Dims) -> Shape:
    """Experts with biases; a window in every other layer."""
    h = dims.hidden
    n_experts, used, width = read_experts(fields)
    queries, keys = dims.n_heads * dims.head_dim, dims.n_kv_heads * dims.head_dim
    biases = queries + 2 * keys + h + dims.n_heads
    per_layer = attention(dims) + biases + 2 * h + (h + 1) * n_experts
    full = full_layers(fields, dims.n_layers, every=2)
    return Shape(
        architecture="gpt-oss",
        layers=dims.n_layers * per_layer + h,
        experts=dims.n_layers * n_experts * (3 * h * width + 2 * width + h),
        n_experts=n_experts,
        n_experts_used=used,
        ffn_size=width * max(1, used),
        caches=windowed(full, keys, keys, _window(fields)),
    )


def deepseek_v3(fields: Fields, dims: Dims) -> Shape:
    """One latent per token for all heads; the first layers are dense."""
    h = dims.hidden
    n_experts, used, width = read_experts(fields)
    dense = fields.integer("first_k_dense_replace", 0, dims.n_layers, 0)
    dense_width = fields.integer("intermediate_size", 1, 2**24)
    shared = fields.integer("n_shared_experts", 0, 2**16, 0)
    latent, attention = latent_attention(fields, dims)
    n_sparse = dims.n_layers - dense
    router = h * n_experts + n_experts
    return Shape(
        architecture="deepseek2",
        layers=dims.n_layers * (attention + 2 * h)
        + dense * 3 * h * dense_width
        + n_sparse * (3 * h * width * shared + router)
        + h,
        experts=n_sparse * n_experts * 3 * h * width,
        n_experts=n_experts,
        n_experts_used=used,
        ffn_size=max(width * (used + shared), dense_width if dense else 0),
        caches=(cache("attention", dims.n_layers, latent, 0),),
        notes=("Draft layers are not counted.",),
    )
