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
from tests.conftest import GOLDEN, TIERS, skip_without_direct_reads
from tests.fakes import read_golden
from tests.model.conftest import EXACT

pytestmark = pytest.mark.model

Arrays = dict[str, NDArray[Any]]

CHUNKINGS = {"one batch": None, "token by token": [1], "uneven": [7, 1, 30, 2]}
NLL_BOUND = 5e-4
"""Seen: 2.5e-5."""


@pytest.fixture(scope="module", params=["peft_a", "peft_b"])
def name(request: pytest.FixtureRequest) -> str:
    """Which adapter."""
    return str(request.param)


@pytest.fixture(scope="module")
def reference(name: str) -> Arrays:
    """What engram-peft computed with it."""
    return read_golden(GOLDEN / name / "reference.safetensors")[0]


@pytest.fixture(
    scope="module",
    params=[(tier, prefetch) for tier in TIERS for prefetch in (True, False)],
    ids=lambda value: f"{value[0]}, prefetch {'on' if value[1] else 'off'}",
)
def engine(
    request: pytest.FixtureRequest,
    exact: Path,
    adapter: Callable[[str], Path],
    name: str,
) -> Iterator[Engine]:
    """The float32 backbone with the adapter."""
    tier, prefetch = request.param
    if tier == "direct":
        skip_without_direct_reads(adapter(name).parent)
    settings = replace(EXACT, memory_tier=tier, prefetch=prefetch)
    with Engine.open(exact, memory=adapter(name), settings=settings) as engine:
        yield engine


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
    memory = AttachedMemory(read_memory(read_header(adapter(name))), "mmap")
    n_tokens = 32  # the reference holds the first 32 positions
    memory.submit(reference["token_ids"][:n_tokens].tolist())
    for line, layer_id in enumerate(memory.layer_ids):
        hidden = reference[f"{layer_id}.hidden_in"].copy()
        memory.add_delta(line, hidden)
        wanted = reference[f"{layer_id}.hidden_out"]
        delta = wanted - reference[f"{layer_id}.hidden_in"]
        assert np.abs(hidden - wanted).max() < 2e-4 * np.abs(delta).max()
    memory.close()
