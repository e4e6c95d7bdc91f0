"""Where llama-cpp-python keeps ggml's libraries, whose functions we call."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import llama_cpp

from engram_local.errors import BackboneError

_SUFFIX = {"darwin": ".dylib", "win32": ".dll"}.get(sys.platform, ".so")


@cache
def library_path(name: str = "ggml-base") -> str:
    """Return the path of a library next to llama-cpp-python's libllama.

    name: without prefix and suffix. Raises BackboneError.
    """
    folder = Path(llama_cpp.__file__).parent / "lib"
    names = (f"lib{name}{_SUFFIX}", f"{name}{_SUFFIX}")
    path = next((folder / one for one in names if (folder / one).exists()), None)
    if path is None:
        raise BackboneError(
            f"{folder} has no lib{name}",
            hint="install llama-cpp-python again",
        )
    return str(path)
