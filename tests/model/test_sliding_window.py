"""A model that forgets: going back is exact, or everything is evaluated again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter

from engram_local.engine import Engine
from engram_local.formats.header import read_header
from engram_local.formats.tokenizer_writer import add_tokenizer
from engram_local.llama.runtime import Backbone
from engram_local.settings import Settings

pytestmark = pytest.mark.model

_WINDOW, _LAYERS, _WIDTH, _HEADS, _FFN = 16, 6, 64, 2, 128
_SETTINGS = Settings(
    n_ctx=1024, n_batch=64, n_ubatch=64, flash_attention="off", cache_type_k="f32",
    cache_type_v="f32", temperature=0.0, max_tokens=4,
)  # fmt: skip


@pytest.fixture(scope="module")
def model(quantized: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gemma3 of random weights: five of six layers see 16 tokens."""
    path = tmp_path_factory.mktemp("gemma3") / "model.gguf"
    vocabulary = read_header(quantized)
    n_vocab = len(vocabulary.texts("tokenizer.ggml.tokens"))
    writer = GGUFWriter(path, "gemma3")
    writer.add_context_length(1024)
    writer.add_embedding_length(_WIDTH)
    writer.add_block_count(_LAYERS)
    writer.add_feed_forward_length(_FFN)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(1)
    writer.add_key_length(32)
    writer.add_value_length(32)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_sliding_window(_WINDOW)
    add_tokenizer(writer, vocabulary)
    rng = np.random.default_rng(0)

    def add(name: str, *shape: int) -> None:
        values = rng.normal(0, 0.1, shape) if len(shape) > 1 else np.ones(shape)
        writer.add_tensor(f"{name}.weight", values.astype(np.float32))

    add("token_embd", n_vocab, _WIDTH)
    add("output_norm", _WIDTH)
    for layer in range(_LAYERS):
        block = f"blk.{layer}"
        for name in ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"):
            add(f"{block}.{name}", _WIDTH)
        for name in ("attn_q_norm", "attn_k_norm"):
            add(f"{block}.{name}", 32)
        add(f"{block}.attn_q", 32 * _HEADS, _WIDTH)
        add(f"{block}.attn_k", 32, _WIDTH)
        add(f"{block}.attn_v", 32, _WIDTH)
        add(f"{block}.attn_output", _WIDTH, 32 * _HEADS)
        add(f"{block}.ffn_gate", _FFN, _WIDTH)
        add(f"{block}.ffn_up", _FFN, _WIDTH)
        add(f"{block}.ffn_down", _WIDTH, _FFN)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def backbone(model: Path) -> Iterator[Backbone]:
    """A fresh one."""
    backbone = Backbone(model, _SETTINGS)
    yield backbone
    backbone.close()


def test_it_goes_back_within_what_is_kept(backbone: Backbone) -> None:
    ids = list(range(100, 130))
    backbone.decode(ids, 0)
    expected = backbone.logits().copy()
    backbone.decode([7, 8, 9], len(ids))
    assert backbone.trim(len(ids) - 1)
    backbone.decode(ids[-1:], len(ids) - 1)
    np.testing.assert_allclose(backbone.logits(), expected, atol=1e-5)


def test_it_says_when_it_has_forgotten(backbone: Backbone) -> None:
    for start in range(0, 640, 64):
        backbone.decode(list(range(start, start + 64)), start)
    assert not backbone.trim(100)
    assert backbone.trim(639)


def test_a_shorter_prompt_is_evaluated_again(model: Path) -> None:
    long, short = "one two three " * 200, "one two three " * 20
    with Engine.open(model, memory=None, settings=_SETTINGS) as engine:
        fresh = [
            event.text for event in engine.generate(short) if hasattr(event, "text")
        ]
        list(engine.generate(long))
        again = [
            event.text for event in engine.generate(short) if hasattr(event, "text")
        ]
    assert again == fresh
