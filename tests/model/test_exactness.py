"""The memory in llama.cpp against engram-peft in PyTorch, on a float32 backbone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engram_local.engine import Engine
from engram_local.formats.engram_gguf import read_memory
from engram_local.formats.header import read_header
from engram_local.memory.attached import AttachedMemory
from engram_local.memory.reference_memory import ReferenceMemory
from tests.conftest import GOLDEN, skip_without_direct_reads
from tests.fakes import read_golden
from tests.model.conftest import EXACT

pytestmark = pytest.mark.model

Arrays = dict[str, NDArray[Any]]

CHUNKINGS = {"one batch": None, "token by token": [1], "uneven": [7, 1, 30, 2]}
NLL_BOUND = 5e-4
"""Seen: 2.5e-5."""

SMALL_NLL_BOUND = 0.002
"""Of the mean, with small projections. Seen: 1.8e-4; a single token 0.05."""


@pytest.fixture(scope="module", params=["peft_a", "peft_b"])
def name(request: pytest.FixtureRequest) -> str:
    """Which adapter."""
    return str(request.param)


@pytest.fixture(scope="module")
def reference(name: str) -> Arrays:
    """What engram-peft computed with it."""
    return read_golden(GOLDEN / name / "reference.safetensors")[0]


EXACT_WEIGHTS = replace(EXACT, memory_weights="f32")
WAYS = {
    "compiled": EXACT_WEIGHTS,
    "compiled, ram": replace(EXACT_WEIGHTS, memory_tier="ram"),
    "compiled, no prefetch": replace(EXACT_WEIGHTS, prefetch=False),
    "compiled, direct": replace(EXACT_WEIGHTS, memory_tier="direct"),
    "reference": replace(EXACT_WEIGHTS, reference=True),
    "reference, ram": replace(EXACT_WEIGHTS, reference=True, memory_tier="ram"),
}


@pytest.fixture(scope="module", params=WAYS.values(), ids=WAYS)
def engine(
    request: pytest.FixtureRequest,
    exact: Path,
    adapter: Callable[[str], Path],
    name: str,
) -> Iterator[Engine]:
    """The float32 backbone with the adapter."""
    if request.param.memory_tier == "direct":
        skip_without_direct_reads(adapter(name).parent)
    with Engine.open(exact, memory=adapter(name), settings=request.param) as engine:
        yield engine


@pytest.fixture(scope="module", params=["int8", "bf16"])
def small_engine(
    request: pytest.FixtureRequest,
    exact: Path,
    adapter: Callable[[str], Path],
    name: str,
) -> Iterator[Engine]:
    """The same with small projections; int8 is the default."""
    settings = replace(EXACT, memory_weights=request.param)
    with Engine.open(exact, memory=adapter(name), settings=settings) as engine:
        yield engine


def test_each_way_is_the_one_it_says(engine: Engine) -> None:
    """They all agree, so nothing else would tell."""
    settings = engine.settings
    wanted = ReferenceMemory if settings.reference else AttachedMemory
    assert isinstance(engine.memory, wanted)
    tier = "mmap" if settings.memory_tier == "auto" else settings.memory_tier
    assert engine.memory.tier == tier


def test_the_text_has_the_same_tokens(engine: Engine, reference: Arrays) -> None:
    text = (GOLDEN / "text_a.txt").read_text("utf-8")
    assert engine.encode(text) == reference["token_ids"].tolist()


@pytest.mark.parametrize("chunk_sizes", CHUNKINGS.values(), ids=CHUNKINGS)
def test_nll_equals_engram_peft(
    engine: Engine, reference: Arrays, chunk_sizes: list[int] | None
) -> None:
    token_ids = reference["token_ids"].tolist()
    nll = np.array(engine.score(token_ids, chunk_sizes=chunk_sizes))
    assert nll.shape == reference["nll_memory"].shape
    assert np.abs(nll - reference["nll_memory"]).max() < NLL_BOUND


@pytest.mark.parametrize("chunk_sizes", CHUNKINGS.values(), ids=CHUNKINGS)
def test_small_weights_cost_little(
    small_engine: Engine, reference: Arrays, chunk_sizes: list[int] | None
) -> None:
    token_ids = reference["token_ids"].tolist()
    nll = np.array(small_engine.score(token_ids, chunk_sizes=chunk_sizes))
    wanted = reference["nll_memory"]
    assert abs(nll.mean() - wanted.mean()) < SMALL_NLL_BOUND
    assert np.abs(nll - wanted).max() < 0.1


def test_small_weights_give_one_result_however_tokens_come(
    small_engine: Engine, reference: Arrays
) -> None:
    """The compiled loop for single tokens and the product for many agree."""
    token_ids = reference["token_ids"].tolist()
    first, *others = (
        np.array(small_engine.score(token_ids, chunk_sizes=chunk_sizes))
        for chunk_sizes in CHUNKINGS.values()
    )
    for other in others:
        assert np.abs(first - other).max() < NLL_BOUND


def test_memory_off_equals_the_bare_backbone(engine: Engine, reference: Arrays) -> None:
    token_ids = reference["token_ids"].tolist()
    engine.use_memory(False)
    nll = np.array(engine.score(token_ids))
    engine.use_memory(True)
    assert np.abs(nll - reference["nll_backbone"]).max() < NLL_BOUND
    # The bound above can tell the two apart:
    difference = np.abs(reference["nll_memory"] - reference["nll_backbone"])
    assert difference.max() > 100 * NLL_BOUND


def test_deltas_equal_engram_peft(
    name: str, reference: Arrays, adapter: Callable[[str], Path]
) -> None:
    n_tokens = 32  # the reference holds the first 32 positions
    memory = AttachedMemory(
        read_memory(read_header(adapter(name))),
        "mmap",
        max_tokens=n_tokens,
        max_batch=n_tokens,
        weight_type="f32",
    )
    memory.submit(reference["token_ids"][:n_tokens].tolist())
    for line, layer_id in enumerate(memory.layer_ids):
        hidden = reference[f"{layer_id}.hidden_in"].copy()
        memory.add_delta(line, hidden)
        wanted = reference[f"{layer_id}.hidden_out"]
        delta = wanted - reference[f"{layer_id}.hidden_in"]
        assert np.abs(hidden - wanted).max() < 2e-4 * np.abs(delta).max()
    memory.close()
