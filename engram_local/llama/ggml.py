"""Where llama-cpp-python keeps libggml-base, whose functions compiled code calls."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import llama_cpp

from engram_local.errors import BackboneError

_SUFFIX = {"darwin": ".dylib", "win32": ".dll"}.get(sys.platform, ".so")


@cache
def library_path() -> str:
    """Return the path of libggml-base, next to llama-cpp-python's libllama."""
    folder = Path(llama_cpp.__file__).parent / "lib"
    names = (f"libggml-base{_SUFFIX}", f"ggml-base{_SUFFIX}")
    path = next((folder / name for name in names if (folder / name).exists()), None)
    if path is None:
        raise BackboneError(
            f"{folder} has no libggml-base",
            hint="install llama-cpp-python again",
        )
    return str(path)
