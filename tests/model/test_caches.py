"""The golden cache sizes are still those of the llama.cpp that is installed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.model.llama_caches import GOLDEN, measure

pytestmark = pytest.mark.model

CASES: dict[str, Any] = json.loads(GOLDEN.read_text("utf-8"))
FEW = ("llama", "gemma3", "gemma4", "deepseek2", "glmdsa", "deepseek4", "qwen4exp")
"""One of each kind of cache; `python -m tests.model.llama_caches` measures all."""


@pytest.mark.parametrize("name", FEW)
def test_llama_cpp_allocates_what_was_logged(name: str) -> None:
    case = CASES[name]
    assert measure(case) == case["logged"]
