"""Caches and states of many architectures, against what llama.cpp logged for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engram_local.formats.models import read_model
from engram_local.model_spec import CacheGroup, ModelSpec
from engram_local.units import MIB
from tests.model.llama_caches import GOLDEN, N_CTX, N_UBATCH, VOCAB_SIZE, write_model

CASES: dict[str, Any] = json.loads(GOLDEN.read_text("utf-8"))
ROUNDING = 0.0051  # of a number in llama.cpp's log
F16_BYTES = 2


def n_cells(group: CacheGroup) -> int:
    """Return the entries that llama.cpp keeps for one layer."""
    if group.window:
        return padded(min(N_CTX, group.window + N_UBATCH))
    if group.kind == "compressed" or group.ratio > 1:
        return padded(-(-N_CTX // group.ratio))
    return N_CTX


def padded(count: int) -> int:
    return -(-count // 256) * 256


def expected_mib(spec: ModelSpec) -> list[float]:
    """Return the sizes of keys, values and states."""
    cells = [n_cells(group) * group.n_layers * F16_BYTES for group in spec.caches]
    keys = [n * group.key_size for n, group in zip(cells, spec.caches, strict=True)]
    values = [n * group.value_size for n, group in zip(cells, spec.caches, strict=True)]
    states = [group.n_layers * group.n_bytes for group in spec.states]
    return [sum(sizes) / MIB for sizes in (keys, values, states)]


def logged_mib(lines: list[list[float]]) -> list[float]:
    caches = [line for line in lines if line[0] > 1]
    states = [line for line in lines if line[0] <= 1]
    keys, values = (sum(line[place] for line in caches) for place in (2, 3))
    return [keys, values, sum(sum(line[2:]) for line in states)]


@pytest.mark.parametrize("name", list(CASES))
def test_caches_are_what_llama_cpp_allocates(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    shapes = {name: tuple(shape) for name, shape in case["tensors"].items()}
    path = tmp_path / "model.gguf"
    width = case["keys"]["embedding_length"]
    write_model(path, case, {"token_embd.weight": (width, VOCAB_SIZE), **shapes})
    spec = read_model(path)
    slack = 3 * ROUNDING * len(case["logged"])
    assert expected_mib(spec) == pytest.approx(
        logged_mib(case["logged"]), rel=1e-9, abs=slack
    )
    assert spec.runs_here
