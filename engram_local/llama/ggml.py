"""The functions of libggml-base that llama-cpp-python does not wrap.

Only exported functions are called; no ggml struct is mirrored here.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from engram_local.errors import BackboneError

_SUFFIX = {"darwin": ".dylib", "win32": ".dll"}.get(sys.platform, ".so")
_SIGNATURES: dict[str, tuple[list[Any], Any]] = {
    "ggml_get_name": ([ctypes.c_void_p], ctypes.c_char_p),
    "ggml_nrows": ([ctypes.c_void_p], ctypes.c_int64),
    "ggml_nbytes": ([ctypes.c_void_p], ctypes.c_size_t),
    "ggml_backend_tensor_get": (
        [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t],
        None,
    ),
    "ggml_backend_tensor_set": (
        [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t],
        None,
    ),
}


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


@cache
def library() -> ctypes.CDLL:
    """Return libggml-base with the signatures of what is used here."""
    loaded = ctypes.CDLL(library_path())
    for name, (arguments, result) in _SIGNATURES.items():
        function = getattr(loaded, name)
        function.argtypes, function.restype = arguments, result
    return loaded


def tensor_name(tensor: int) -> bytes:
    """Return the name of a graph node."""
    name: bytes = library().ggml_get_name(tensor)
    return name


def read_rows(tensor: int, width: int) -> NDArray[np.float32]:
    """Copy a float32 node from its backend: (n_rows, width) float32."""
    n_rows = int(library().ggml_nrows(tensor))
    rows = np.empty((n_rows, width), np.float32)
    found_bytes = int(library().ggml_nbytes(tensor))
    if found_bytes != rows.nbytes:
        raise BackboneError(
            f"the graph node {tensor_name(tensor).decode()} has {found_bytes} bytes, "
            f"{n_rows} rows of {width} float32 need {rows.nbytes}"
        )
    library().ggml_backend_tensor_get(tensor, rows.ctypes.data, 0, rows.nbytes)
    return rows


def write_rows(tensor: int, rows: NDArray[np.float32]) -> None:
    """Copy `rows` into a node on its backend; the nodes that follow read them."""
    library().ggml_backend_tensor_set(tensor, rows.ctypes.data, 0, rows.nbytes)
