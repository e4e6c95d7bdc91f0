"""The golden cache sizes are still those of the llama.cpp that is installed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import llama_cpp
import pytest

from engram_local.formats.architectures import KNOWN
from tests.model.llama_caches import GOLDEN, measure

pytestmark = pytest.mark.model

CASES: dict[str, Any] = json.loads(GOLDEN.read_text("utf-8"))
FEW = ("llama", "gemma3", "gemma4", "deepseek2", "glmdsa", "deepseek4", "qwen4exp")
"""One of each kind of cache; `python -m tests.model.llama_caches` measures all."""


@pytest.mark.parametrize("name", FEW)
def test_llama_cpp_allocates_what_was_logged(name: str) -> None:
    case = CASES[name]
    assert measure(case) == case["logged"]


def test_every_known_architecture_is_in_the_library() -> None:
    library = next((Path(llama_cpp.__file__).parent / "lib").glob("libllama.*"))
    names = set(re.findall(rb"[a-z0-9_-]+", library.read_bytes()))
    assert {name for name in KNOWN if name.encode() not in names} == set()
