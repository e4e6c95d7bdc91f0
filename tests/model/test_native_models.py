"""Synthetic models with a table of their own, in llama.cpp."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engram_local.engine import Engine
from engram_local.formats.native import read_native
from engram_local.formats.split import read_model_header
from tests.model.conftest import EXACT
from tests.native_models import N_TOKENS

pytestmark = pytest.mark.model

TEXT = "Once upon a time a fox met a whale."


def test_it_answers_in_its_own_tokens(native_model: Path) -> None:
    with Engine.open(native_model, settings=EXACT) as engine:
        token_ids = engine.tokenize(TEXT)
        assert max(token_ids) < N_TOKENS and len(token_ids) < len(TEXT)
        assert engine.n_vocab == N_TOKENS
        scores = np.array(engine.score(token_ids))
    assert np.isfinite(scores).all()
    # The mean of a model that knows nothing, whose logits have a deviation of 1 or so.
    assert scores.mean() == pytest.approx(np.log(N_TOKENS), abs=1.5)


@pytest.mark.parametrize("name", ["qwen4exp", "gemma4"])
def test_in_parts_it_is_the_same(name: str, request: pytest.FixtureRequest) -> None:
    whole = request.getfixturevalue(name)
    parts = request.getfixturevalue(f"{name}_parts")
    module = read_native(read_model_header(parts[0]))
    assert module is not None and module.path == parts[-1] != parts[0]
    scores = []
    for path in (whole, parts[0]):
        with Engine.open(path, settings=EXACT) as engine:
            scores.append(list(engine.score(engine.tokenize(TEXT))))
    assert scores[0] == scores[1]
