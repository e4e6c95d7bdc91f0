"""Tiny models of llama.cpp's other kinds of memory, with random weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from engram_local.bench.random_pieces import RandomPieces
from engram_local.catalog import default_model
from engram_local.formats.header import Value, read_header
from engram_local.formats.model_writer import write_model
from engram_local.formats.pieces import Piece
from engram_local.spec import RowType
from tests.native_models import N_TOKENS, small_tiles

_WIDTH, _HEAD, _FFN, _KERNEL = 64, 32, 128, 4
_INNER, _STATE, _RANK = 2 * _WIDTH, 16, 4


def tiny_lfm2(path: Path, *, window: int | None = None) -> Path:
    """Write two layers of short convolutions and two of attention."""
    n_kv_heads = [0, 1, 0, 1]
    keys: dict[str, Value] = {
        "block_count": len(n_kv_heads),
        "feed_forward_length": _FFN,
        "attention.head_count": _WIDTH // _HEAD,
        "attention.head_count_kv": np.array(n_kv_heads, np.uint32),
        "shortconv.l_cache": _KERNEL,
    }
    if window is not None:
        keys["attention.sliding_window"] = window
    return _write(path, "lfm2", keys, _lfm2(_random(), n_kv_heads))


def _lfm2(make: RandomPieces, n_kv_heads: list[int]) -> Iterator[Piece]:
    taps = _random(_KERNEL)
    yield make.matrix("token_embd", N_TOKENS, _WIDTH)
    yield make.ones("token_embd_norm", _WIDTH)
    for layer, n_heads in enumerate(n_kv_heads):
        block = f"blk.{layer}"
        yield make.ones(f"{block}.attn_norm", _WIDTH)
        yield from _feed_forward(make, block)
        if n_heads:
            yield from _attention(make, block, n_heads=_WIDTH // _HEAD)
        else:
            yield taps.matrix(f"{block}.shortconv.conv", _WIDTH, _KERNEL)
            yield make.matrix(f"{block}.shortconv.in_proj", 3 * _WIDTH, _WIDTH)
            yield make.matrix(f"{block}.shortconv.out_proj", _WIDTH, _WIDTH)


def tiny_mamba(path: Path) -> Path:
    """Write four layers that have a state, and no KV cache."""
    keys: dict[str, Value] = {
        "block_count": 4,
        "feed_forward_length": 0,
        "attention.head_count": 0,
        "ssm.conv_kernel": _KERNEL,
        "ssm.inner_size": _INNER,
        "ssm.state_size": _STATE,
        "ssm.time_step_rank": _RANK,
    }
    return _write(path, "mamba", keys, _mamba(_random(), n_layers=4))


def _mamba(make: RandomPieces, n_layers: int) -> Iterator[Piece]:
    taps, ranks = _random(_KERNEL), _random(_RANK)
    zeros, ones = np.zeros(_INNER, np.float32), np.ones(_INNER, np.float32)
    decay = -np.arange(1, _STATE + 1, dtype=np.float32) / _STATE
    yield make.matrix("token_embd", N_TOKENS, _WIDTH)
    yield make.ones("output_norm", _WIDTH)
    for layer in range(n_layers):
        block = f"blk.{layer}"
        yield make.ones(f"{block}.attn_norm", _WIDTH)
        yield make.matrix(f"{block}.ssm_in", 2 * _INNER, _WIDTH)
        yield taps.matrix(f"{block}.ssm_conv1d", _INNER, _KERNEL)
        yield make.values(f"{block}.ssm_conv1d.bias", zeros)
        yield make.matrix(f"{block}.ssm_x", _RANK + 2 * _STATE, _INNER)
        yield ranks.matrix(f"{block}.ssm_dt", _INNER, _RANK)
        yield make.values(f"{block}.ssm_dt.bias", zeros)
        yield make.values(f"{block}.ssm_a", np.tile(decay, (_INNER, 1)))
        yield make.values(f"{block}.ssm_d", ones)
        yield make.matrix(f"{block}.ssm_out", _WIDTH, _INNER)


def tiny_gemma3(path: Path, *, window: int) -> Path:
    """Write six layers, of which five see `window` tokens; all of the vocabulary."""
    keys: dict[str, Value] = {
        "block_count": 6,
        "feed_forward_length": _FFN,
        "attention.head_count": 2,
        "attention.head_count_kv": 1,
        "attention.key_length": _HEAD,
        "attention.value_length": _HEAD,
        "attention.sliding_window": window,
    }
    n_tokens = len(read_header(default_model()).texts("tokenizer.ggml.tokens"))
    pieces = _gemma3(_random(), n_layers=6, n_tokens=n_tokens)
    return _write(path, "gemma3", keys, pieces, n_tokens=n_tokens)


def _gemma3(make: RandomPieces, n_layers: int, n_tokens: int) -> Iterator[Piece]:
    yield make.matrix("token_embd", n_tokens, _WIDTH)
    yield make.ones("output_norm", _WIDTH)
    for layer in range(n_layers):
        block = f"blk.{layer}"
        for name in ("attn_norm", "post_attention_norm", "post_ffw_norm"):
            yield make.ones(f"{block}.{name}", _WIDTH)
        yield from _attention(make, block, n_heads=2)
        yield from _feed_forward(make, block)


def _attention(make: RandomPieces, block: str, *, n_heads: int) -> Iterator[Piece]:
    """All heads share their keys."""
    yield make.ones(f"{block}.attn_q_norm", _HEAD)
    yield make.ones(f"{block}.attn_k_norm", _HEAD)
    yield make.matrix(f"{block}.attn_q", n_heads * _HEAD, _WIDTH)
    yield make.matrix(f"{block}.attn_k", _HEAD, _WIDTH)
    yield make.matrix(f"{block}.attn_v", _HEAD, _WIDTH)
    yield make.matrix(f"{block}.attn_output", _WIDTH, n_heads * _HEAD)


def _feed_forward(make: RandomPieces, block: str) -> Iterator[Piece]:
    yield make.ones(f"{block}.ffn_norm", _WIDTH)
    yield make.matrix(f"{block}.ffn_gate", _FFN, _WIDTH)
    yield make.matrix(f"{block}.ffn_up", _FFN, _WIDTH)
    yield make.matrix(f"{block}.ffn_down", _WIDTH, _FFN)


def _random(width: int = _WIDTH) -> RandomPieces:
    """Weights that keep the size of vectors of this width."""
    with small_tiles():
        return RandomPieces(RowType.F32, std=width**-0.5)


def _write(
    path: Path,
    architecture: str,
    keys: Mapping[str, Value],
    pieces: Iterator[Piece],
    *,
    n_tokens: int = N_TOKENS,
) -> Path:
    common: dict[str, Value] = {
        "context_length": 2048,
        "embedding_length": _WIDTH,
        "attention.layer_norm_rms_epsilon": 1e-6,
    }
    write_model(
        path,
        architecture,
        name=path.stem,
        keys=common | dict(keys),
        pieces=list(pieces),
        vocabulary=read_header(default_model()),
        n_tokens=n_tokens,
    )
    return path
