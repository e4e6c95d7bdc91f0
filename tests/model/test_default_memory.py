"""The shipped memory is found by itself and knows what it was taught."""

from __future__ import annotations

import pytest

from engram_local.engine import Engine
from engram_local.settings import Settings
from models.train.evaluate import EVAL_FOLDER, mean_nll, questions

pytestmark = pytest.mark.model

N_TERMS = 8


def test_taught_terms_are_known_and_others_are_not() -> None:
    with Engine.open(settings=Settings(n_ctx=512)) as engine:
        assert engine.memory is not None
        assert engine.memory.module.path.name == "smollm2-135m-wordnet.gguf"
        nll = {
            (name, on): mean_nll(
                engine,
                list(questions(engine, EVAL_FOLDER / f"{name}.tsv", N_TERMS)),
                memory=on,
            )
            for name in ("trained", "heldout")
            for on in (False, True)
        }
    assert nll["trained", True] < 0.5 * nll["trained", False]
    assert nll["trained", True] < 0.85 * nll["heldout", True]
