"""Weights that stay in RAM although their layer is computed on a GPU."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from engram_local.llama.ggml import library_path

_EXPERTS = r"\.ffn_(up|down|gate|gate_up)_(ch|)exps"


class _Override(ctypes.Structure):
    """llama_model_tensor_buft_override, of llama.cpp's public header."""

    _fields_ = (("pattern", ctypes.c_char_p), ("buffer_type", ctypes.c_void_p))


def expert_patterns(n_layers: int) -> list[str]:
    """Return patterns of the experts of the first `n_layers`, as llama.cpp's -ncmoe."""
    return [rf"blk\.{layer}{_EXPERTS}" for layer in range(n_layers)]


def stay_in_ram(patterns: Sequence[str]) -> Any:
    """Return an array for `tensor_buft_overrides`; keep it while the model loads.

    patterns: regular expressions that are searched for in tensor names.
    """
    library = ctypes.CDLL(library_path())
    cpu = library.ggml_backend_cpu_buffer_type
    cpu.restype = ctypes.c_void_p
    overrides = (_Override * (len(patterns) + 1))()  # the last one ends the list
    for override, pattern in zip(overrides, patterns, strict=False):
        override.pattern = pattern.encode()
        override.buffer_type = cpu()
    return overrides
