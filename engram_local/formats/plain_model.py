"""A model GGUF of any architecture -> ModelSpec, by the keys that all have.

Dialects with n-gram tables of their own start from this one.
"""

from __future__ import annotations

from dataclasses import replace

from engram_local.figures import Source
from engram_local.formats.architectures import DRAFTS, KNOWN, LOOPED
from engram_local.formats.caches import n_passes, read_caches, read_states
from engram_local.formats.header import Header
from engram_local.formats.model_keys import ModelKeys
from engram_local.formats.weights import count_elements, read_weights, tables
from engram_local.model_spec import CacheGroup, ModelSpec, Part


def read_model(header: Header) -> ModelSpec:
    """Return the model; raise FormatError if a needed key is absent or impossible."""
    spec = describe(ModelKeys.of(header))
    if not tables(header):
        return spec
    note = "it has an n-gram table of a kind that is not known here"
    return with_notes(spec, note)


def describe(
    keys: ModelKeys, caches: tuple[CacheGroup, ...] | None = None
) -> ModelSpec:
    """Return what the common keys say: all but tables.

    caches: where the common keys do not tell them.
    """
    header = keys.header
    counts = count_elements(keys)
    n_experts = keys.integer("expert_count", 0)
    n_used = keys.largest("expert_used_count")
    tied = "output.weight" not in header.tensors
    head = counts[Part.OUTPUT]
    if tied:
        head += header.tensor("token_embd.weight").n_elements
    experts = counts[Part.EXPERTS] * n_used
    return ModelSpec(
        name=header.text("general.name", header.path.stem),
        architecture=keys.prefix,
        source=Source.EXACT,
        origin=str(header.path),
        n_params=sum(counts.values()),
        n_active_params=counts[Part.LAYERS] + head + experts // max(n_experts, 1),
        context_length=keys.integer("context_length"),
        vocab_size=vocab_size(keys),
        hidden_size=keys.integer("embedding_length"),
        n_layers=keys.n_layers * n_passes(keys),
        n_heads=keys.largest("attention.head_count") or 1,
        ffn_size=_ffn_size(keys, n_used),
        head_size=_head_size(keys),
        caches=read_caches(keys) if caches is None else caches,
        states=read_states(keys),
        weights=(read_weights(keys),),
        n_experts=n_experts,
        n_experts_used=n_used,
        tied_output=tied,
        n_drafts=keys.n_blocks - keys.n_layers,
        n_streams=keys.integer("hyper_connection.count", 1),
        runs_here=keys.prefix in KNOWN,
        notes=_notes(keys, guessed=caches is None and keys.rules not in KNOWN),
    )


def with_notes(spec: ModelSpec, *notes: str) -> ModelSpec:
    """Return the spec with more notes."""
    return replace(spec, notes=spec.notes + notes)


def vocab_size(keys: ModelKeys) -> int:
    """Return the tokens of the vocabulary, else the rows of the embedding."""
    header = keys.header
    if "tokenizer.ggml.tokens" in header.metadata:
        return len(header.texts("tokenizer.ggml.tokens"))
    return header.tensor("token_embd.weight").shape[-1]


def _ffn_size(keys: ModelKeys, n_used: int) -> int:
    """Return the widest feed-forward of one token.

    Mamba has none: then the inner width of its mixer.
    """
    dense = keys.largest("feed_forward_length")
    expert = keys.largest("expert_feed_forward_length") or (dense if n_used else 0)
    shared = keys.integer(
        "expert_shared_feed_forward_length",
        expert * keys.integer("expert_shared_count", 0),
    )
    widest = max(dense, expert * n_used + shared)
    return widest or keys.integer("ssm.inner_size", keys.integer("embedding_length"))


def _head_size(keys: ModelKeys) -> int:
    """Return the width of a query; 0 = as wide as the keys, which are latents."""
    if keys.integer("attention.key_length_mla", 0):
        return 0
    width = keys.integer("embedding_length") // (
        keys.largest("attention.head_count") or 1
    )
    full = keys.integer("attention.key_length", width)
    return max(full, keys.integer("attention.key_length_swa", full))


def _notes(keys: ModelKeys, *, guessed: bool) -> tuple[str, ...]:
    notes = []
    if keys.prefix not in KNOWN:
        notes.append(f"this llama.cpp does not know the architecture {keys.prefix}")
    if guessed:
        notes.append("the size of its cache is an upper bound: grouped-query attention")
    if keys.rules in DRAFTS:
        notes.append("it is a draft model: it runs beside another one only")
    if keys.rules in LOOPED:
        notes.append("a token goes through its blocks more than once, which takes time")
    return tuple(notes)
