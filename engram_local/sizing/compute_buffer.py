"""How much a graph needs besides weights and cache: a stand-in until measured."""

from __future__ import annotations

from engram_local.model_spec import ModelSpec


def compute_buffer_bytes(
    spec: ModelSpec, *, n_ctx: int, n_ubatch: int, flash_attention: bool
) -> int:
    """Return a bound."""
    return n_ubatch * 4 * (spec.vocab_size + 4 * spec.hidden_size + spec.ffn_size)
