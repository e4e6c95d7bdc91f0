"""What Python's standard library does not offer of the operating system.

* SIGBUS: reading a mapped page that its file no longer has kills a process without a
  word. A compiled handler says what happened and exits with code 1. It covers our maps
  and llama.cpp's.
* mincore: how much of a mapping is in memory.

On systems other than Linux both do nothing, and say so by returning False or None.
"""

from __future__ import annotations

import ctypes
import mmap
import signal
import sys
from functools import cache
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from engram_local.kernels import native

_MESSAGE = np.frombuffer(
    b"error[file-lost]: a mapped file could not be read: it became shorter or its "
    b"drive failed while it was in use\n"
    b"hint: restore the model or memory file and start again\n",
    np.uint8,
)
_STDERR = 2
_EXIT_CODE = 1


def install_bus_error_handler() -> bool:
    """End the process with a sentence on SIGBUS; return whether that is possible."""
    if not sys.platform.startswith("linux"):
        return False
    libc = _libc()
    libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    libc.signal.restype = ctypes.c_void_p
    libc.signal(signal.SIGBUS, _bus_error_handler().address)
    return True


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


@cache
def _bus_error_handler() -> Any:
    return native(numba.void(numba.i4))(_on_bus_error)


# Symbols of libc, resolved when the compiled code is loaded, so that it can be cached.
_write = numba.types.ExternalFunction(
    "write", numba.intp(numba.i4, numba.types.voidptr, numba.types.uintp)
)
_exit = numba.types.ExternalFunction("_exit", numba.void(numba.i4))


def _on_bus_error(_signal):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Only `write` and `_exit`: no Python can run inside a fault."""
    _write(_STDERR, _MESSAGE.ctypes, _MESSAGE.size)
    _exit(_EXIT_CODE)


def resident_bytes(buffer: NDArray[np.uint8]) -> int | None:
    """Return how many bytes of a mapped buffer are in memory; None if unknown.

    The answer is in whole pages. mincore answers "all" for files that the user may
    not write, and is not asked then by the caller.
    """
    if not sys.platform.startswith("linux") or not buffer.size:
        return None
    start = buffer.ctypes.data // mmap.PAGESIZE * mmap.PAGESIZE
    n_bytes = buffer.ctypes.data + buffer.nbytes - start
    flags = np.empty(-(-n_bytes // mmap.PAGESIZE), np.uint8)
    mincore = _libc().mincore
    mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
    if mincore(start, n_bytes, flags.ctypes.data) != 0:
        return None
    return int((flags & 1).sum()) * mmap.PAGESIZE
