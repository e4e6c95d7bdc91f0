"""Shapes of model families, from the keys of a Hugging Face config.

Counts follow the tensors that each family has; caches and states are those that
llama.cpp keeps (src/models/*.cpp), for the architectures it has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engram_local.errors import FormatError, UnsupportedError
from engram_local.formats.fields import Fields
from engram_local.memory.constants import derive_sizes
from engram_local.model_spec import CacheGroup, Part, StateGroup, TableShape

_MOST_LAYERS = 10_000
_MOST_WIDTH = 2**20
_MOST_EXPERTS = 2**16
_F32_BYTES = 4
_ABSENT = "This llama.cpp does not have the architecture."


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a family's keys say, beside the sizes that all families have."""

    architecture: str
    layers: int
    """Values that every token reads in the layers."""

    caches: tuple[CacheGroup, ...]
    ffn_size: int
    experts: int = 0
    """Values of all of them."""

    n_experts: int = 0
    n_experts_used: int = 0
    states: tuple[StateGroup, ...] = ()
    tables: tuple[TableShape, ...] = ()
    n_streams: int = 1
    runs_here: bool = True
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Dims:
    """The sizes that all families have, under the same keys."""

    hidden: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    vocab: int
    tied: bool

    @property
    def params(self) -> dict[Part, int]:
        """Values of the token embedding and of the output matrix."""
        count = self.vocab * self.hidden
        return {Part.EMBEDDING: count, Part.OUTPUT: 0 if self.tied else count}


def read_dims(fields: Fields, tied: bool) -> Dims:
    """Return the sizes; FormatError with the key where one is missing.

    tied: what the family does where the config does not say.
    """
    hidden = fields.integer("hidden_size", 1, _MOST_WIDTH)
    n_heads = fields.integer("num_attention_heads", 1, 2**16)
    # LongCat calls its layers num_layers.
    layers = "num_layers" if "num_layers" in fields else "num_hidden_layers"
    return Dims(
        hidden=hidden,
        n_layers=fields.integer(layers, 1, _MOST_LAYERS),
        n_heads=n_heads,
        n_kv_heads=fields.integer("num_key_value_heads", 1, n_heads, n_heads),
        head_dim=fields.integer("head_dim", 1, 2**16, max(1, hidden // n_heads)),
        vocab=fields.integer("vocab_size", 1, 2**24),
        tied=fields.flag("tie_word_embeddings", tied),
    )


def read_shape(fields: Fields, model_type: str, dims: Dims) -> Shape:
    """Return the shape of a family; one that is not known is taken for a plain one.

    Raises FormatError where a key is wrong or missing, UnsupportedError where the
    family is not known and has not the keys of a plain one either.
    """
    family = _FAMILIES.get(model_type)
    if family is not None:
        return family(fields, dims)
    if "intermediate_size" not in fields:
        raise UnsupportedError(
            f"{fields.path}: model_type {model_type} is not known here, and it has no "
            "intermediate_size to take it for a plain transformer",
            hint="use a GGUF file of the model, its header has all sizes",
        )
    return _plain(fields, dims, model_type, unknown=True)


def _plain(
    fields: Fields, dims: Dims, architecture: str, unknown: bool = False
) -> Shape:
    """Attention with grouped heads, dense or with experts: Llama, Mistral, Qwen."""
    note = (
        f"The family {architecture} is not known here: sizes are those of a plain "
        "transformer with grouped attention heads.",
    )
    n_experts, used, width = _experts(fields)
    per_layer = _attention(dims) + 2 * dims.hidden + _extras(fields, dims, architecture)
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
        caches=(_cache("attention", dims.n_layers, size, size),),
        runs_here=not unknown,
        notes=note if unknown else (),
    )


def _experts(fields: Fields) -> tuple[int, int, int]:
    """Return the number of experts, those used and the width of one; 0 without."""
    keys = ("num_experts", "num_local_experts", "n_routed_experts")
    key = next((key for key in keys if key in fields), None)
    if key is None or not (n_experts := fields.integer(key, 0, _MOST_EXPERTS)):
        return 0, 0, 0
    used = fields.integer("num_experts_per_tok", 1, n_experts)
    wide = "moe_intermediate_size"
    width = fields.integer(wide if wide in fields else "intermediate_size", 1, 2**24)
    return n_experts, used, width


def _extras(fields: Fields, dims: Dims, architecture: str) -> int:
    """Return the values of a layer's biases and of its norms of queries and keys."""
    queries, keys = dims.n_heads * dims.head_dim, dims.n_kv_heads * dims.head_dim
    if architecture.startswith("qwen3"):
        return 2 * dims.head_dim
    if architecture == "qwen2":
        return queries + 2 * keys
    biases = fields.flag("attention_bias", False)
    return queries + 2 * keys + dims.hidden if biases else 0


def _gemma3(fields: Fields, dims: Dims) -> Shape:
    width = fields.integer("intermediate_size", 1, 2**24)
    norms = 4 * dims.hidden + 2 * dims.head_dim
    per_layer = _attention(dims) + 3 * dims.hidden * width + norms
    full = _full_layers(fields, dims.n_layers, every=6)
    size = dims.n_kv_heads * dims.head_dim
    return Shape(
        architecture="gemma3",
        layers=dims.n_layers * per_layer + dims.hidden,
        ffn_size=width,
        caches=_windowed(full, size, size, fields.integer("sliding_window", 1)),
    )


def _gemma3n(fields: Fields, dims: Dims) -> Shape:
    h, streams, rank = dims.hidden, 4, fields.integer("laurel_rank", 1, 2**16)
    width = _widest(fields, "intermediate_size")
    inner = fields.integer("hidden_size_per_layer_input", 1, 2**16)
    norms = 6 * h + 2 * dims.head_dim
    altup = streams**2 + streams**3 + 2 * h + streams * h
    per_layer = _attention(dims) + 3 * h * width + 2 * h * (inner + rank)
    full = _full_layers(fields, dims.n_layers, every=5)
    size = dims.n_kv_heads * dims.head_dim
    # llama.cpp fills the table up to the size of the vocabulary.
    rows = max(dims.vocab, fields.integer("vocab_size_per_layer_input", 1, 2**24))
    shared = fields.integer("num_kv_shared_layers", 0, dims.n_layers - 1)
    return Shape(
        architecture="gemma3n",
        layers=dims.n_layers * (per_layer + norms + altup)
        + 2 * (streams - 1) * h * h
        + _per_layer_projection(dims, inner),
        ffn_size=width,
        caches=_windowed(
            full[: dims.n_layers - shared],
            size,
            size,
            fields.integer("sliding_window", 1),
        ),
        tables=(_per_token_table(rows, inner * dims.n_layers),),
        n_streams=streams,
    )


def _gemma4(fields: Fields, dims: Dims) -> Shape:
    h, n = dims.hidden, dims.n_layers
    inner = fields.integer("hidden_size_per_layer_input", 0, 2**16, 0)
    shared = fields.integer("num_kv_shared_layers", 0, n - 1, 0)
    full = _full_layers(fields, n, every=6)
    wide = fields.integer("global_head_dim", 1, 2**16, dims.head_dim)
    same = fields.flag("attention_k_eq_v", False)  # in full layers
    few = fields.integer("num_global_key_value_heads", 1, 2**16, dims.n_kv_heads)
    wide_kv = wide * (few if same else dims.n_kv_heads)
    kv = dims.n_kv_heads * dims.head_dim
    width = fields.integer("intermediate_size", 1, 2**24)
    last = width * (2 if fields.flag("use_double_wide_mlp", False) else 1)
    n_experts, used, one = 0, 0, 0
    if fields.flag("enable_moe_block", False):
        n_experts = fields.integer("num_experts", 1, _MOST_EXPERTS)
        used = fields.integer("top_k_experts", 1, n_experts)
        one = fields.integer("moe_intermediate_size", 1, 2**24)
    layers = h + (_per_layer_projection(dims, inner) - h if inner else 0)
    for is_full in full:
        head, size = (wide, wide_kv) if is_full else (dims.head_dim, kv)
        layers += 2 * h * dims.n_heads * head + 2 * head
        layers += h * size * (1 if is_full and same else 2)
    layers += 3 * h * ((n - shared) * width + shared * last) + wide // 2
    layers += n * (4 * h + 1 + (2 * h * inner + h if inner else 0))
    layers += n * (h * n_experts + 4 * h if n_experts else 0)
    return Shape(
        architecture="gemma4",
        layers=layers,
        experts=n * n_experts * 3 * h * one,
        n_experts=n_experts,
        n_experts_used=used,
        ffn_size=max(width, last) + used * one,
        caches=_windowed(
            full[: n - shared], wide_kv, kv, fields.integer("sliding_window", 1)
        ),
        tables=(_per_token_table(dims.vocab, inner * n),) if inner else (),
    )


def _gpt_oss(fields: Fields, dims: Dims) -> Shape:
    h = dims.hidden
    n_experts, used, width = _experts(fields)
    queries, keys = dims.n_heads * dims.head_dim, dims.n_kv_heads * dims.head_dim
    biases = queries + 2 * keys + h + dims.n_heads
    per_layer = _attention(dims) + biases + 2 * h + (h + 1) * n_experts
    full = _full_layers(fields, dims.n_layers, every=2)
    return Shape(
        architecture="gpt-oss",
        layers=dims.n_layers * per_layer + h,
        experts=dims.n_layers * n_experts * (3 * h * width + 2 * width + h),
        n_experts=n_experts,
        n_experts_used=used,
        ffn_size=width * max(1, used),
        caches=_windowed(full, keys, keys, fields.integer("sliding_window", 1)),
    )


def _deepseek_v3(fields: Fields, dims: Dims) -> Shape:
    h = dims.hidden
    n_experts, used, width = _experts(fields)
    dense = fields.integer("first_k_dense_replace", 0, dims.n_layers, 0)
    dense_width = fields.integer("intermediate_size", 1, 2**24)
    shared = fields.integer("n_shared_experts", 0, 2**16, 0)
    latent, attention = _latent_attention(fields, dims)
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
        caches=(_cache("attention", dims.n_layers, latent, 0),),
        notes=("Draft layers are not counted.",),
    )


def _deepseek_v41(fields: Fields, dims: Dims) -> Shape:
    h = dims.hidden
    n_experts, used, width = _experts(fields)
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
    rank = fields.integer("q_lora_rank", 1, _MOST_WIDTH)
    groups = fields.integer("o_groups", 1, 2**16)
    out = groups * fields.integer("o_lora_rank", 1, _MOST_WIDTH)
    matrices = rank * (h + queries) + h * latent + out * (queries // groups + h)
    return matrices + rank + latent + dims.n_heads


def _compressed(fields: Fields, dims: Dims) -> tuple[int, tuple[CacheGroup, ...]]:
    """Return the values of indexers and compressors, and all caches.

    A layer of `kv_source_layer_ids` keeps keys for itself and for those that follow.
    """
    h, latent = dims.hidden, dims.n_kv_heads * dims.head_dim
    heads = fields.integer("index_n_heads", 1, 2**16)
    width = fields.integer("index_head_dim", 1, 2**16)
    rank = fields.integer("q_lora_rank", 1, _MOST_WIDTH)
    ratios = fields.integers("compress_ratios", high=2**16)
    sources = fields.integers("kv_source_layer_ids", high=len(ratios) - 1)
    by_ratio = sorted((max(1, ratios[source]) for source in sources), reverse=True)
    indexed = len(fields.integers("index_source_layer_ids", high=_MOST_LAYERS))
    values = indexed * heads * (width * rank + h)
    values += len(sources) * (width * latent + width + latent * h + latent)
    values += sum(latent * h for ratio in by_ratio if ratio > 1)
    window = fields.integer("sliding_window", 1)
    windows = _cache("sliding window", dims.n_layers, latent, 0, window=window)
    compressed = (
        _cache(kind, by_ratio.count(ratio), size, 0, ratio=ratio)
        for kind, size in (("compressed", latent), ("indexer", width))
        for ratio in dict.fromkeys(by_ratio)
    )
    return values, (windows, *compressed)


def _engram_tables(fields: Fields) -> tuple[TableShape, ...]:
    layer_ids = fields.integers("engram_layer_ids", high=_MOST_LAYERS)
    rows = fields.integers("engram_num_embeddings", low=1)
    if len(rows) != len(layer_ids):
        raise fields.refuse("engram_num_embeddings needs a number for every layer")
    orders = tuple(range(2, fields.integer("engram_max_ngram_size", 2, 64) + 1))
    heads = fields.integer("engram_n_heads", 1, 2**10)
    width = fields.integer("engram_head_dim", 1, _MOST_WIDTH)
    return tuple(
        _ngram_table(layer_id, n_rows, width, orders, heads)
        for layer_id, n_rows in zip(layer_ids, rows, strict=True)
    )


def _qwen4_exp(fields: Fields, dims: Dims) -> Shape:
    h = dims.hidden
    n_experts, used, width = _experts(fields)
    shared = fields.integer("shared_expert_intermediate_size", 0, 2**24)
    streams = fields.integer("hc_count", 2, 64)
    rank = fields.integer("hc_lowrank", 1, 2**16)
    index = fields.integer("indexer_head_dim", 0, 2**16, 0)
    n_full = sum(_full_layers(fields, dims.n_layers, every=4))
    n_linear = dims.n_layers - n_full
    table = _qwen_table(fields, dims)
    linear, state = _linear_attention(fields, dims)
    wide = streams * h
    mixer = wide + 2 * wide * rank
    per_layer = 2 * (mixer + wide * streams) + h * n_experts + h + 3 * h * shared
    size = dims.n_kv_heads * dims.head_dim
    indexer = (fields.integer("indexer_n_heads", 0, 2**16, 0) + 1) * h * index
    full = 3 * h * dims.n_heads * dims.head_dim + 2 * h * size + 2 * dims.head_dim
    full += indexer + 2 * index
    memory, states = _qwen_memory(fields, dims, streams) if table else (0, ())
    caches = [_cache("attention", n_full, size, size)]
    if index:
        caches.append(_cache("indexer", n_full, index, 0))
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
        caches=tuple(caches),
        states=(StateGroup(n_layers=n_linear, n_bytes=state), *states),
        tables=table,
        n_streams=streams,
        notes=("Draft layers and vision are not counted.",),
    )


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
    width = fields.integer("ple_embed_dim", 1, _MOST_WIDTH, dims.hidden)
    sizes = derive_sizes([start] * len(orders), n_layers=1, n_heads=heads)[0]
    n_rows = -(-sum(sizes) // step) * step
    width //= len(orders) * heads
    return (_ngram_table(layer_ids[0] - 1, n_rows, width, orders, heads),)


def _longcat(fields: Fields, dims: Dims) -> Shape:
    h = dims.hidden
    n_experts = fields.integer("n_routed_experts", 1, _MOST_EXPERTS)
    idle = fields.integer("zero_expert_num", 0, _MOST_EXPERTS, 0)
    used = fields.integer("moe_topk", 1, n_experts)
    width = fields.integer("expert_ffn_hidden_size", 1, 2**24)
    dense = fields.integer("ffn_hidden_size", 1, 2**24)
    latent, attention = _latent_attention(fields, dims)
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
        caches=(_cache("attention", 2 * dims.n_layers, latent, 0),),
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
    return _ngram_table(0, n_rows, max(1, dims.hidden // n_tables), orders, heads)


def _latent_attention(fields: Fields, dims: Dims) -> tuple[int, int]:
    """Return the size of a token's latent and the values of a layer's attention."""
    h, heads = dims.hidden, dims.n_heads
    latent = fields.integer("kv_lora_rank", 1, _MOST_WIDTH)
    rotated = fields.integer("qk_rope_head_dim", 0, 2**16)
    plain = fields.integer("qk_nope_head_dim", 1, 2**16)
    out = heads * fields.integer("v_head_dim", 1, 2**16)
    rank = fields.integer("q_lora_rank", 0, _MOST_WIDTH, 0)
    queries = heads * (plain + rotated)
    values = rank * (h + queries + 1) if rank else h * queries
    values += h * (latent + rotated) + latent + latent * (heads * plain + out) + out * h
    return latent + rotated, values


def _attention(dims: Dims) -> int:
    """Return the values of a layer's four matrices."""
    return 2 * dims.hidden * dims.head_dim * (dims.n_heads + dims.n_kv_heads)


def _widest(fields: Fields, key: str) -> int:
    """Return a number that some configs write once for every layer."""
    try:
        return fields.integer(key, 1, 2**24)
    except FormatError:
        return max(fields.integers(key, 1, 2**24), default=1)


def _full_layers(fields: Fields, n_layers: int, every: int) -> list[bool]:
    """Return for each layer whether it sees the whole context.

    every: the distance of such layers where the config does not say.
    """
    for key in ("sliding_window_pattern", "full_attention_interval"):
        if key in fields:
            every = fields.integer(key, 1, _MOST_LAYERS)
    if "layer_types" not in fields:
        return [(layer + 1) % every == 0 for layer in range(n_layers)]
    kinds = fields.texts("layer_types")
    if len(kinds) != n_layers:
        raise fields.refuse(f"layer_types has {len(kinds)} of {n_layers} layers")
    return [kind not in ("sliding_attention", "linear_attention") for kind in kinds]


def _windowed(
    full: Sequence[bool], full_size: int, window_size: int, window: int
) -> tuple[CacheGroup, ...]:
    """Return the caches of layers of which some see a window only."""
    n_full, n_windowed = sum(full), len(full) - sum(full)
    groups = []
    if n_full:
        groups.append(_cache("attention", n_full, full_size, full_size))
    if n_windowed:
        size = window_size
        groups.append(_cache("sliding window", n_windowed, size, size, window=window))
    return tuple(groups)


def _cache(
    kind: str, n_layers: int, key: int, value: int, *, window: int = 0, ratio: int = 1
) -> CacheGroup:
    return CacheGroup(
        kind=kind,
        n_layers=n_layers,
        key_size=key,
        value_size=value,
        window=window,
        ratio=ratio,
    )


def _ngram_table(
    layer_id: int, n_rows: int, width: int, orders: tuple[int, ...], heads: int
) -> TableShape:
    return TableShape(
        layer_id=layer_id,
        n_rows=n_rows,
        width=max(1, width),
        rows_per_token=len(orders) * heads,
        orders=orders,
        n_heads=heads,
    )


def _per_token_table(n_rows: int, width: int) -> TableShape:
    return _ngram_table(0, n_rows, width, (1,), 1)


def _per_layer_projection(dims: Dims, inner: int) -> int:
    """Return the values that make a row into inputs of all layers, with final norms."""
    return dims.hidden * inner * dims.n_layers + inner + dims.hidden


def _named(architecture: str) -> Callable[[Fields, Dims], Shape]:
    return lambda fields, dims: _plain(fields, dims, architecture)


_FAMILIES: dict[str, Callable[[Fields, Dims], Shape]] = {
    "llama": _named("llama"),
    "mistral": _named("llama"),
    "qwen2": _named("qwen2"),
    "qwen3": _named("qwen3"),
    "qwen3_moe": _named("qwen3moe"),
    "gemma3": _gemma3,
    "gemma3_text": _gemma3,
    "gemma3n": _gemma3n,
    "gemma3n_text": _gemma3n,
    "gemma4": _gemma4,
    "gemma4_text": _gemma4,
    "gpt_oss": _gpt_oss,
    "deepseek_v3": _deepseek_v3,
    "deepseek_v41": _deepseek_v41,
    "qwen4_exp": _qwen4_exp,
    "qwen4_exp_text": _qwen4_exp,
    "longcat_flash_ngram": _longcat,
}
