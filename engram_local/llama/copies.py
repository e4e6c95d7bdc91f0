"""How fast bytes go from RAM to a device, through functions that ggml exports.

From ordinary memory, as weights that lie in RAM are copied; pinned memory is faster.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from engram_local.errors import BackboneError
from engram_local.llama.devices import find_device
from engram_local.llama.ggml import library_path
from engram_local.units import MIB, format_bytes

N_BYTES = 256 * MIB
"""More than caches hold, and a copy takes 10 ms and more."""

_INT8 = 24  # GGML_TYPE_I8
_HANDLE, _SIZE = ctypes.c_void_p, ctypes.c_size_t


class _InitParams(ctypes.Structure):
    """ggml_init_params, of ggml's public header."""

    _fields_ = (("size", _SIZE), ("buffer", _HANDLE), ("no_alloc", ctypes.c_bool))


def measure_copies(name: str, *, n_bytes: int = N_BYTES, n_rounds: int = 5) -> float:
    """Return bytes per second from RAM to the device called `name`: "CUDA0".

    The best of some rounds. Raises BackboneError if there is no such device or it has
    not so much memory left.
    """
    data = np.ones(n_bytes, np.uint8)
    times_s = []
    with _tensor(name, n_bytes) as (base, tensor):
        copy = _typed(base, "ggml_backend_tensor_set", None, *_COPY_ARGUMENTS)
        for _ in range(n_rounds + 1):  # the first one maps pages
            start = time.perf_counter()
            copy(tensor, data.ctypes.data, 0, n_bytes)
            times_s.append(time.perf_counter() - start)
    return n_bytes / min(times_s[1:])


_COPY_ARGUMENTS = (_HANDLE, _HANDLE, _SIZE, _SIZE)


@contextmanager
def _tensor(name: str, n_bytes: int) -> Iterator[tuple[ctypes.CDLL, int]]:
    """Give a tensor of so many bytes in a device's memory while it lasts."""
    device = find_device(name)
    base = ctypes.CDLL(library_path())
    with ExitStack() as stack:
        size = _typed(base, "ggml_tensor_overhead", _SIZE)()
        context = _typed(base, "ggml_init", _HANDLE, _InitParams)(
            _InitParams(2 * size, None, True)
        )
        stack.callback(_typed(base, "ggml_free", None, _HANDLE), context)
        new_tensor = _typed(
            base, "ggml_new_tensor_1d", _HANDLE, _HANDLE, ctypes.c_int, ctypes.c_int64
        )
        tensor = new_tensor(context, _INT8, n_bytes)
        kind = _typed(base, "ggml_backend_dev_buffer_type", _HANDLE, _HANDLE)(device)
        buffer = _typed(
            base, "ggml_backend_alloc_ctx_tensors_from_buft", _HANDLE, _HANDLE, _HANDLE
        )(context, kind)
        if not buffer:
            raise BackboneError(f"{name} has no {format_bytes(n_bytes)} left")
        stack.callback(_typed(base, "ggml_backend_buffer_free", None, _HANDLE), buffer)
        yield base, tensor


def _typed(library: ctypes.CDLL, name: str, result: Any, *arguments: Any) -> Any:
    function = getattr(library, name)
    function.restype, function.argtypes = result, arguments
    return function
