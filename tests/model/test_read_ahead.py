"""Rows of a prompt read ahead of llama.cpp: the same answers, and nothing left over."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engram_local.engine import Engine
from engram_local.events import Finished
from tests.model.conftest import EXACT
from tests.native_models import N_TOKENS

pytestmark = pytest.mark.model

SMALL = replace(EXACT, n_batch=16, n_ubatch=16, max_tokens=2)


def ids(n_tokens: int) -> list[int]:
    return list(np.random.default_rng(0).integers(3, N_TOKENS, n_tokens).tolist())


def test_it_changes_no_likelihood(native_model: Path) -> None:
    scores, n_pages = [], []
    for prefetch in (True, False):
        settings = replace(SMALL, prefetch=prefetch)
        with Engine.open(native_model, settings=settings) as engine:
            assert engine.memory is not None
            scores.append(list(engine.score(ids(100))))
            n_pages.append(engine.memory.take_counters().pages_ahead)
    assert scores[0] == scores[1]
    assert n_pages[1] is None
    assert n_pages[0] is not None


def test_its_thread_ends_with_the_engine(native_model: Path) -> None:
    with Engine.open(native_model, settings=SMALL) as engine:
        names = {thread.name for thread in threading.enumerate()}
        assert "engram-prefetch" in names
        engine.score(ids(20))
    assert "engram-prefetch" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("tier", ["ram", "mmap"])
def test_a_table_in_ram_is_not_read_ahead(native_model: Path, tier: str) -> None:
    settings = replace(SMALL, memory_tier=tier)
    with Engine.open(native_model, settings=settings):
        names = {thread.name for thread in threading.enumerate()}
        assert ("engram-prefetch" in names) == (tier == "mmap")


def test_after_a_cancelled_prompt_the_next_one_is_right(native_model: Path) -> None:
    prompt = "Once upon a time a fox met a whale. " * 4
    with Engine.open(native_model, settings=SMALL) as engine:
        events = []
        for event in engine.generate("It was a cold day in autumn. " * 4):
            events.append(event)
            engine.cancel()
        stopped = events[-1]
        assert isinstance(stopped, Finished) and stopped.finish_reason == "cancelled"
        after = list(engine.generate(prompt))[-1]
    with Engine.open(native_model, settings=SMALL) as engine:
        fresh = list(engine.generate(prompt))[-1]
    assert isinstance(after, Finished) and isinstance(fresh, Finished)
    assert after.token_ids == fresh.token_ids
