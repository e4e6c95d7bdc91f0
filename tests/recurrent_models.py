"""Tiny models of llama.cpp's other kinds of memory, with random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import GGUFWriter

from engram_local.catalog import default_model
from engram_local.formats.header import read_header
from engram_local.formats.tokenizer_writer import add_tokenizer
from tests.native_models import N_TOKENS

_WIDTH, _N_LAYERS, _HEAD, _FFN, _KERNEL = 64, 4, 32, 128, 4
_INNER, _STATE, _RANK = 2 * _WIDTH, 16, 4


class Writer:
    """A GGUF in the making."""

    def __init__(self, path: Path, architecture: str) -> None:
        self.gguf = GGUFWriter(path, architecture)
        self._random = np.random.default_rng(0)
        self.gguf.add_context_length(2048)
        self.gguf.add_embedding_length(_WIDTH)
        self.gguf.add_block_count(_N_LAYERS)
        self.gguf.add_layer_norm_rms_eps(1e-6)
        add_tokenizer(self.gguf, read_header(default_model()), N_TOKENS)
        self.matrix("token_embd", N_TOKENS, _WIDTH)

    def matrix(self, name: str, *shape: int) -> None:
        """Add random weights that keep the size of what they are multiplied with."""
        self.values(name, self._random.normal(0, shape[-1] ** -0.5, shape))

    def values(self, name: str, values: object) -> None:
        """Add these weights."""
        if not name.endswith((".bias", "ssm_a", "ssm_d")):
            name += ".weight"
        self.gguf.add_tensor(name, np.asarray(values, np.float32))

    def close(self) -> None:
        """Write the file."""
        self.gguf.write_header_to_file()
        self.gguf.write_kv_data_to_file()
        self.gguf.write_tensors_to_file()
        self.gguf.close()


def tiny_lfm2(path: Path, *, window: int | None = None) -> Path:
    """Write two layers of short convolutions and two of attention."""
    writer = Writer(path, "lfm2")
    n_kv_heads = [0, 1] * (_N_LAYERS // 2)
    writer.gguf.add_feed_forward_length(_FFN)
    writer.gguf.add_head_count(_WIDTH // _HEAD)
    writer.gguf.add_head_count_kv(n_kv_heads)
    writer.gguf.add_shortconv_l_cache(_KERNEL)
    if window is not None:
        writer.gguf.add_sliding_window(window)
    writer.values("token_embd_norm", np.ones(_WIDTH))
    for layer, n_heads in enumerate(n_kv_heads):
        block = f"blk.{layer}"
        for name in ("attn_norm", "ffn_norm"):
            writer.values(f"{block}.{name}", np.ones(_WIDTH))
        writer.matrix(f"{block}.ffn_gate", _FFN, _WIDTH)
        writer.matrix(f"{block}.ffn_up", _FFN, _WIDTH)
        writer.matrix(f"{block}.ffn_down", _WIDTH, _FFN)
        if n_heads:
            _attention(writer, block)
        else:
            writer.matrix(f"{block}.shortconv.conv", _WIDTH, _KERNEL)
            writer.matrix(f"{block}.shortconv.in_proj", 3 * _WIDTH, _WIDTH)
            writer.matrix(f"{block}.shortconv.out_proj", _WIDTH, _WIDTH)
    writer.close()
    return path


def _attention(writer: Writer, block: str) -> None:
    for name in ("attn_q_norm", "attn_k_norm"):
        writer.values(f"{block}.{name}", np.ones(_HEAD))
    writer.matrix(f"{block}.attn_q", _WIDTH, _WIDTH)
    writer.matrix(f"{block}.attn_k", _HEAD, _WIDTH)
    writer.matrix(f"{block}.attn_v", _HEAD, _WIDTH)
    writer.matrix(f"{block}.attn_output", _WIDTH, _WIDTH)


def tiny_mamba(path: Path) -> Path:
    """Write four layers that have a state, and no KV cache."""
    writer = Writer(path, "mamba")
    writer.gguf.add_feed_forward_length(0)
    writer.gguf.add_head_count(0)
    writer.gguf.add_ssm_conv_kernel(_KERNEL)
    writer.gguf.add_ssm_inner_size(_INNER)
    writer.gguf.add_ssm_state_size(_STATE)
    writer.gguf.add_ssm_time_step_rank(_RANK)
    writer.values("output_norm", np.ones(_WIDTH))
    for layer in range(_N_LAYERS):
        block = f"blk.{layer}"
        writer.values(f"{block}.attn_norm", np.ones(_WIDTH))
        writer.matrix(f"{block}.ssm_in", 2 * _INNER, _WIDTH)
        writer.matrix(f"{block}.ssm_conv1d", _INNER, _KERNEL)
        writer.values(f"{block}.ssm_conv1d.bias", np.zeros(_INNER))
        writer.matrix(f"{block}.ssm_x", _RANK + 2 * _STATE, _INNER)
        writer.matrix(f"{block}.ssm_dt", _INNER, _RANK)
        writer.values(f"{block}.ssm_dt.bias", np.zeros(_INNER))
        decay = -np.arange(1, _STATE + 1) / _STATE
        writer.values(f"{block}.ssm_a", np.tile(decay, (_INNER, 1)))
        writer.values(f"{block}.ssm_d", np.ones(_INNER))
        writer.matrix(f"{block}.ssm_out", _WIDTH, _INNER)
    writer.close()
    return path
