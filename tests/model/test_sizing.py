"""The plan's terms against what llama.cpp says it allocated."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from engram_local.bench.synthetic_llama import SHAPES, write_backbone
from engram_local.figures import Source
from engram_local.formats.models import read_model
from engram_local.llama.runtime import Backbone
from engram_local.settings import Settings
from engram_local.sizing.allocations import Placement, ram_terms
from engram_local.sizing.preflight import request_of
from engram_local.units import MIB

pytestmark = pytest.mark.model

_SIZE = re.compile(r"(model|KV|compute) buffer size = +([\d.]+) MiB")


@pytest.fixture(scope="module", params=["default", *SHAPES])
def model(
    request: pytest.FixtureRequest,
    quantized: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The default backbone, and the two that `bench` makes."""
    if request.param == "default":
        return quantized
    path = tmp_path_factory.mktemp("synthetic") / f"{request.param}.gguf"
    write_backbone(path, SHAPES[request.param])
    return path


@pytest.mark.parametrize(
    "settings",
    [
        Settings(n_ctx=8192),
        Settings(n_ctx=1000, n_ubatch=64, cache_type_k="q8_0", cache_type_v="q8_0"),
        Settings(n_ctx=4096, n_batch=1024, n_ubatch=1024, flash_attention="off"),
    ],
    ids=["8192", "1000-q8_0", "4096-no-flash-attention"],
)
def test_terms_are_what_llama_cpp_allocates(
    model: Path, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    spec = read_model(model)
    terms = {
        term.name: term
        for term in ram_terms(spec, spec.weights[0], request_of(settings), Placement())
    }
    with caplog.at_level(logging.INFO, logger="llama.cpp"):
        Backbone(model, settings).close()
    logged = {name: float(size) * MIB for name, size in _SIZE.findall(caplog.text)}
    mapped = [line for line in caplog.messages if "CPU_Mapped model buffer" in line]
    weights = sum(float(_SIZE.findall(line)[0][1]) * MIB for line in mapped)

    planned = terms["token embedding"].n_bytes
    planned += terms["weights"].n_bytes if "weights" in terms else 0
    assert weights > 0
    assert abs(planned - weights) <= max(0.002 * weights, 16 * MIB)
    assert abs(terms["KV cache"].n_bytes - logged["KV"]) <= 0.005 * logged["KV"]
    assert terms["KV cache"].source is Source.EXACT
    compute = terms["compute buffers"].n_bytes
    assert 0 <= compute - logged["compute"] + 0.01 * MIB <= 256 * MIB
