"""Backbones of the llama architecture of any size, with random weights."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from engram_local import catalog
from engram_local.bench.random_pieces import RandomPieces
from engram_local.errors import UsageError
from engram_local.formats.header import Value, read_header
from engram_local.formats.model_writer import write_model
from engram_local.formats.pieces import Piece, Progress
from engram_local.spec import BackboneShape, RowType

SHAPES = {
    # Qwen2.5's width, heads and ffn; 30 layers where those have 24 and 28, because the
    # vocabulary is a third of theirs: 0.49e9 and 1.48e9 parameters.
    "0.5B": BackboneShape(
        n_layers=30, hidden_size=896, n_heads=14, n_kv_heads=2, ffn_size=4864
    ),
    "1.5B": BackboneShape(
        n_layers=30, hidden_size=1536, n_heads=12, n_kv_heads=2, ffn_size=8960
    ),
}
"""Backbones by their parameters, with the vocabulary of the default model."""

CONTEXT_LENGTH = 4096

_ARCHITECTURE = "llama"
_RMS_EPSILON = 1e-5
_ROPE_BASE = 10_000.0
_CUSTOM = re.compile(r"(\d{2,6})x(\d{1,4})")
_HEAD_SIZE = 64
_WEIGHT_STD = 0.02  # as most models are initialised; hidden states stay near 1


def parse_shape(text: str) -> BackboneShape:
    """Return the shape called `text`: a key of SHAPES, or WIDTHxDEPTH.

    Raises UsageError for anything else.
    """
    if text in SHAPES:
        return SHAPES[text]
    match = _CUSTOM.fullmatch(text)
    width, depth = (int(number) for number in match.groups()) if match else (0, 0)
    if depth < 1 or width < 1 or width % _HEAD_SIZE:
        raise UsageError(
            f"{text!r} is no shape of a backbone",
            hint=f"use {' or '.join(SHAPES)}, or WIDTHxDEPTH with a width divisible by "
            f"{_HEAD_SIZE}: 2048x24",
        )
    return _custom_shape(width, depth)


def _custom_shape(width: int, depth: int) -> BackboneShape:
    """Heads of 64, six or more queries per key, ffn 5.5 times the width (Qwen2.5)."""
    n_heads = width // _HEAD_SIZE
    return BackboneShape(
        n_layers=depth,
        hidden_size=width,
        n_heads=n_heads,
        n_kv_heads=key_heads(n_heads, n_queries=6),
        ffn_size=width * 11 // 2,
    )


def key_heads(n_heads: int, *, n_queries: int) -> int:
    """Return how many key heads there are if each has `n_queries` query heads, or more
    where they do not divide.
    """
    most = max(1, n_heads // n_queries)
    return max(n for n in range(1, most + 1) if n_heads % n == 0)


def write_backbone(
    path: Path,
    shape: BackboneShape,
    weight_type: RowType = RowType.Q4_0,
    *,
    progress: Progress | None = None,
) -> None:
    """Write a backbone with the default model's vocabulary.

    weight_type: of every matrix, one of random_pieces.WEIGHT_TYPES. The output matrix
    is the token embedding. Raises UsageError for another type, FileError if the default
    model is not installed or the file cannot be written.
    """
    vocabulary = read_header(catalog.default_model())
    n_tokens = len(vocabulary.texts("tokenizer.ggml.tokens"))
    write_model(
        path,
        _ARCHITECTURE,
        name=f"synthetic {shape.hidden_size}x{shape.n_layers}",
        keys=_keys(shape, n_tokens),
        pieces=list(_pieces(shape, n_tokens, weight_type)),
        vocabulary=vocabulary,
        progress=progress,
    )


def _keys(shape: BackboneShape, n_tokens: int) -> dict[str, Value]:
    return {
        "vocab_size": n_tokens,
        "context_length": CONTEXT_LENGTH,
        "embedding_length": shape.hidden_size,
        "block_count": shape.n_layers,
        "feed_forward_length": shape.ffn_size,
        "attention.head_count": shape.n_heads,
        "attention.head_count_kv": shape.n_kv_heads,
        "attention.layer_norm_rms_epsilon": _RMS_EPSILON,
        "rope.dimension_count": shape.head_size,
        "rope.freq_base": _ROPE_BASE,
    }


def _pieces(
    shape: BackboneShape, n_tokens: int, weight_type: RowType
) -> Iterator[Piece]:
    d, keys = shape.hidden_size, shape.n_kv_heads * shape.head_size
    make = RandomPieces(weight_type, std=_WEIGHT_STD)
    yield make.matrix("token_embd", n_tokens, d)
    for layer_id in range(shape.n_layers):
        block = f"blk.{layer_id}"
        yield make.ones(f"{block}.attn_norm", d)
        yield make.matrix(f"{block}.attn_q", d, d)
        yield make.matrix(f"{block}.attn_k", keys, d)
        yield make.matrix(f"{block}.attn_v", keys, d)
        yield make.matrix(f"{block}.attn_output", d, d)
        yield make.ones(f"{block}.ffn_norm", d)
        yield make.matrix(f"{block}.ffn_gate", shape.ffn_size, d)
        yield make.matrix(f"{block}.ffn_up", shape.ffn_size, d)
        yield make.matrix(f"{block}.ffn_down", d, shape.ffn_size)
    yield make.ones("output_norm", d)
