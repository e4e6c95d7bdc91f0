"""A model that forgets: going back is exact, or everything is evaluated again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engram_local.engine import Engine
from engram_local.llama.runtime import Backbone
from engram_local.settings import Settings
from tests.recurrent_models import tiny_gemma3

pytestmark = pytest.mark.model

_SETTINGS = Settings(
    n_ctx=1024, n_batch=64, n_ubatch=64, flash_attention="off", cache_type_k="f32",
    cache_type_v="f32", temperature=0.0, max_tokens=4,
)  # fmt: skip


@pytest.fixture(scope="module")
def model(quantized: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gemma3 of random weights: five of six layers see 16 tokens."""
    path = tmp_path_factory.mktemp("gemma3") / "model.gguf"
    return tiny_gemma3(path, window=16)


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
