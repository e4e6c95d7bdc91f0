"""Sizes that all families of a Hugging Face config have, and parts of shapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engram_local.formats.fields import Fields
from engram_local.model_spec import CacheGroup, Part, StateGroup, TableShape

MOST_LAYERS = 10_000
MOST_WIDTH = 2**20
MOST_EXPERTS = 2**16


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
    hidden = fields.integer("hidden_size", 1, MOST_WIDTH)
    n_heads = fields.integer("num_attention_heads", 1, 2**16)
    # LongCat calls its layers num_layers.
    layers = "num_layers" if "num_layers" in fields else "num_hidden_layers"
    return Dims(
        hidden=hidden,
        n_layers=fields.integer(layers, 1, MOST_LAYERS),
        n_heads=n_heads,
        n_kv_heads=fields.integer("num_key_value_heads", 1, n_heads, n_heads),
        head_dim=fields.integer("head_dim", 1, 2**16, max(1, hidden // n_heads)),
        vocab=fields.integer("vocab_size", 1, 2**24),
        tied=fields.flag("tie_word_embeddings", tied),
    )


def read_experts(fields: Fields) -> tuple[int, int, int]:
    """Return the number of experts, those used and the width of one; 0 without."""
    keys = ("num_experts", "num_local_experts", "n_routed_experts")
    key = next((key for key in keys if key in fields), None)
    if key is None or not (n_experts := fields.integer(key, 0, MOST_EXPERTS)):
        return 0, 0, 0
    used = fields.integer("num_experts_per_tok", 1, n_experts)
    wide = "moe_intermediate_size"
    width = fields.integer(wide if wide in fields else "intermediate_size", 1, 2**24)
    return n_experts, used, width


def attention(dims: Dims) -> int:
    """Return the values of a layer's four matrices."""
    return 2 * dims.hidden * dims.head_dim * (dims.n_heads + dims.n_kv_heads)


def latent_attention(fields: Fields, dims: Dims) -> tuple[int, int]:
    """Return the size of a token's latent and the values of a layer's attention."""
    h, heads = dims.hidden, dims.n_heads
    latent = fields.integer("kv_lora_rank", 1, MOST_WIDTH)
    rotated = fields.integer("qk_rope_head_dim", 0, 2**16)
    plain = fields.integer("qk_nope_head_dim", 1, 2**16)
    out = heads * fields.integer("v_head_dim", 1, 2**16)
    rank = fields.integer("q_lora_rank", 0, MOST_WIDTH, 0)
    queries = heads * (plain + rotated)
    values = rank * (h + queries + 1) if rank else h * queries
    values += h * (latent + rotated) + latent + latent * (heads * plain + out) + out * h
    return latent + rotated, values


def full_layers(fields: Fields, n_layers: int, every: int) -> list[bool]:
    """Return for each layer whether it sees the whole context.

    every: the distance of such layers where the config does not say.
    """
    for key in ("sliding_window_pattern", "full_attention_interval"):
        if key in fields:
            every = fields.integer(key, 1, MOST_LAYERS)
    if "layer_types" not in fields:
        return [(layer + 1) % every == 0 for layer in range(n_layers)]
    kinds = fields.texts("layer_types")
    if len(kinds) != n_layers:
        raise fields.refuse(f"layer_types has {len(kinds)} of {n_layers} layers")
    return [kind not in ("sliding_attention", "linear_attention") for kind in kinds]


def windowed(
    full: Sequence[bool], full_size: int, window_size: int, window: int
) -> tuple[CacheGroup, ...]:
    """Return the caches of layers of which some see a window only."""
    n_full, n_windowed = sum(full), len(full) - sum(full)
    groups = []
    if n_full:
        groups.append(cache("attention", n_full, full_size, full_size))
    if n_windowed:
        size = window_size
        groups.append(cache("sliding window", n_windowed, size, size, window=window))
    return tuple(groups)


def cache(
    kind: str, n_layers: int, key: int, value: int, *, window: int = 0, ratio: int = 1
) -> CacheGroup:
    """Return so many layers' caches of keys and values of these sizes."""
    return CacheGroup(
        kind=kind,
        n_layers=n_layers,
        key_size=key,
        value_size=value,
        window=window,
        ratio=ratio,
    )


def ngram_table(
    layer_id: int, n_rows: int, width: int, orders: tuple[int, ...], heads: int
) -> TableShape:
    """Return a table that gives a row for every order and head."""
    return TableShape(
        layer_id=layer_id,
        n_rows=n_rows,
        width=max(1, width),
        rows_per_token=len(orders) * heads,
        orders=orders,
        n_heads=heads,
    )


def per_token_table(n_rows: int, width: int) -> TableShape:
    """Return a table with a row per token id, needed before the first layer."""
    return ngram_table(0, n_rows, width, (1,), 1)


def per_layer_projection(dims: Dims, inner: int) -> int:
    """Return the values that make a row into inputs of all layers, with final norms."""
    return dims.hidden * inner * dims.n_layers + inner + dims.hidden
