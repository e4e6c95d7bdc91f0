"""Our tiers in llama.cpp's words."""

from __future__ import annotations

from typing import Literal

import llama_cpp
import pytest

from engram_local.llama.placement import LoadModes, NativeLoad, load_modes

LAZY_OFF, LAZY_ON = llama_cpp.LLAMA_LAZY_MODE_OFF, llama_cpp.LLAMA_LAZY_MODE_ON
AUTO, NONE = llama_cpp.LLAMA_LOAD_MODE_AUTO, llama_cpp.LLAMA_LOAD_MODE_NONE
MLOCK = llama_cpp.LLAMA_LOAD_MODE_MLOCK


@pytest.mark.parametrize(
    ("tier", "lock", "modes"),
    [
        ("mmap", False, LoadModes(lazy_mode=LAZY_ON, load_mode=AUTO)),
        ("ram", False, LoadModes(lazy_mode=LAZY_OFF, load_mode=NONE, no_host=True)),
        ("ram", True, LoadModes(lazy_mode=LAZY_OFF, load_mode=MLOCK, no_host=True)),
    ],
)
def test_each_tier_has_its_modes(
    tier: Literal["mmap", "ram"], lock: bool, modes: LoadModes
) -> None:
    assert load_modes(NativeLoad(tier=tier, lock=lock, n_bytes=1)) == modes


def test_without_a_table_llama_cpp_decides() -> None:
    params = llama_cpp.llama_model_default_params()
    modes = load_modes(None)
    assert modes.lazy_mode == params.lazy_mode
    assert modes.load_mode == params.load_mode
    assert modes.no_host == params.no_host
