"""What this build of llama.cpp can compute on."""

from __future__ import annotations

import llama_cpp


def supports_gpu() -> bool:
    """Return whether the installed build of llama.cpp can use a GPU."""
    return bool(llama_cpp.llama_supports_gpu_offload())
