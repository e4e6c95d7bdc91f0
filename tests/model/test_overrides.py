"""Weights that stay in RAM: llama.cpp's log says where each tensor went."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from engram_local.bench.synthetic_llama import parse_shape, write_backbone
from engram_local.llama import runtime
from engram_local.llama.overrides import expert_patterns
from engram_local.llama.runtime import Backbone
from engram_local.settings import Settings

pytestmark = pytest.mark.model

_MOVED = "repack tensor blk.0.ffn_up.weight"
"""Only weights that no override keeps in plain RAM are repacked for the processor."""


def test_an_override_keeps_a_tensor_in_plain_ram(
    quantized: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tmp_path / "model.gguf"
    write_backbone(model, parse_shape("128x2"))
    monkeypatch.setattr(runtime, "expert_patterns", lambda n: [r"blk\.0\.ffn_up"])
    lines = []
    for n_layers in (0, 1):
        caplog.clear()
        with caplog.at_level(logging.DEBUG, logger="llama.cpp"):
            Backbone(model, Settings(n_ctx=256, n_cpu_moe=n_layers)).close()
        lines.append(caplog.text)
    if _MOVED not in lines[0]:
        pytest.skip("llama.cpp does not repack Q4_0 on this processor")
    assert _MOVED not in lines[1]
    assert "repack tensor blk.1.ffn_up.weight" in lines[1]


def test_the_first_layers_experts_are_named() -> None:
    assert expert_patterns(0) == []
    assert [pattern[:8] for pattern in expert_patterns(2)] == [r"blk\.0\.", r"blk\.1\."]
