"""What Python's standard library does not offer of the operating system.

* SIGBUS: reading a mapped page that its file no longer has kills a process without a
  word. A compiled handler says what happened and exits with code 1. It covers our maps
  and llama.cpp's.
* cachestat, mincore: how much of a file is in memory; madvise on a mapping that is
  not ours.
* pread, advice, semaphores and an atomic counter, for compiled code that works without
  the GIL.

On systems other than Linux the first two do nothing, and say so by returning False or
None; the last are not to be compiled there.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import sys
from functools import cache
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.extending import intrinsic, register_jitable
from numpy.typing import NDArray

from engram_local.kernels import native

_MESSAGE = np.frombuffer(
    b"error[file-lost]: a mapped file could not be read: it became shorter or its "
    b"drive failed while it was in use\n"
    b"hint: restore the model or memory file and start again\n",
    np.uint8,
)
_CACHESTAT = 451  # the system call's number, the same on all processors but Alpha's
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


def cached_pages(descriptor: int, begin: int, n_bytes: int) -> int | None:
    """Return how many pages of a part of a file are in memory, the partly meant too.

    n_bytes > 0. None if the system cannot tell (cachestat is in Linux since 6.5), or
    will not: the caller would have to own the file, or be allowed to write it.
    """
    if not sys.platform.startswith("linux"):
        return None
    part = (ctypes.c_uint64 * 2)(begin, n_bytes)
    counts = (ctypes.c_uint64 * 5)()  # in memory, dirty, being written, evicted (2)
    arguments = (_CACHESTAT, descriptor, part, counts, 0)
    return int(counts[0]) if _libc().syscall(*arguments) == 0 else None


def resident_bytes(buffer: NDArray[np.uint8]) -> int | None:
    """Return how many bytes of a mapped buffer are in memory; None if unknown.

    The answer is in whole pages. mincore answers "all" where `cached_pages` would say
    nothing: page_cache.py does not ask it then.
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


def drop_mapped(address: int, n_bytes: int) -> bool:
    """Take whole pages of a mapped file out of this process; False if that fails.

    Reading them again brings them back from the file.
    """
    madvise = _libc().madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return int(madvise(address, n_bytes, mmap.MADV_DONTNEED)) == 0


def other_processors() -> set[int]:
    """Return the processors that this process may use, but for the caller's own."""
    if not sys.platform.startswith("linux"):
        return set()
    return os.sched_getaffinity(os.getpid()) - {_libc().sched_getcpu()}


# What follows is called by compiled code only. sem_t is 32 bytes on 64-bit Linux; it
# lies in memory that its user keeps alive, and needs no sem_destroy there.
SEMAPHORE_BYTES = 64

sem_init = numba.types.ExternalFunction(
    "sem_init", numba.i4(numba.types.voidptr, numba.i4, numba.u4)
)
"""(semaphore, 0 = for the threads of this process, first value) -> 0."""

sem_wait = numba.types.ExternalFunction("sem_wait", numba.i4(numba.types.voidptr))
"""Returns -1 when a signal came: see `wait`."""

sem_trywait = numba.types.ExternalFunction("sem_trywait", numba.i4(numba.types.voidptr))
"""Returns -1 where `wait` would sleep."""

sem_post = numba.types.ExternalFunction("sem_post", numba.i4(numba.types.voidptr))

pread = numba.types.ExternalFunction(
    "pread", numba.intp(numba.i4, numba.types.voidptr, numba.types.uintp, numba.i8)
)
"""(file descriptor, address, bytes, offset) -> bytes read, or -1 and `errno`."""

posix_fadvise = numba.types.ExternalFunction(
    "posix_fadvise", numba.i4(numba.i4, numba.i8, numba.i8, numba.i4)
)
"""(file descriptor, offset, bytes, advice) -> 0 or an error number."""

WILL_NEED = 3  # POSIX_FADV_WILLNEED, on every Linux but s390's

madvise = numba.types.ExternalFunction(
    "madvise", numba.i4(numba.types.voidptr, numba.types.uintp, numba.i4)
)
"""(address, bytes, advice) -> 0, or -1 and `errno`."""

POPULATE_READ = 22  # MADV_POPULATE_READ, since Linux 5.14; before that it is refused

_errno_location = numba.types.ExternalFunction(
    "__errno_location", numba.types.voidptr()
)


@intrinsic
def call(typing_context, function, argument):  # type: ignore[no-untyped-def]
    """Call a native function, int64 function(void*), both given by address.

    What it does is compiled once, where a compiled function that is called by name
    becomes a part of each caller.
    """

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        pointer_type = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.IntType(64), [pointer_type]).as_pointer()
        target = builder.inttoptr(arguments[0], kind)
        return builder.call(target, [builder.inttoptr(arguments[1], pointer_type)])

    return numba.i8(numba.i8, numba.i8), generate


@intrinsic
def fence(typing_context):  # type: ignore[no-untyped-def]
    """Read and write all that stands before this before all that stands behind it.

    For a count that another thread reads to learn how much has been written. Takes no
    time on x86, which keeps that order by itself; ARM does not.
    """

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        builder.fence("acq_rel")
        return context.get_dummy_value()

    return numba.types.void(), generate


@intrinsic
def fetch_add(typing_context, address, value):  # type: ignore[no-untyped-def]
    """Add to the int64 at an address and return what was there before, atomically."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        place = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.atomic_rmw("add", place, arguments[1], "seq_cst")

    return numba.i8(numba.i8, numba.i8), generate


@register_jitable
def wait(semaphore):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Sleep until the semaphore was posted; a signal in between changes nothing."""
    while sem_wait(semaphore) != 0:
        pass


@register_jitable
def errno():  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Return why the last C function of this thread failed."""
    return numba.carray(_errno_location(), (1,), numba.i4)[0]


_lseek = numba.types.ExternalFunction("lseek", numba.i8(numba.i4, numba.i8, numba.i4))
_clock_gettime = numba.types.ExternalFunction(
    "clock_gettime", numba.i4(numba.i4, numba.types.voidptr)
)
_SEEK_END = 2
_CLOCK_MONOTONIC = 1


@register_jitable
def file_bytes(descriptor):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Return a file's size; moves the descriptor's position."""
    return _lseek(np.int32(descriptor), 0, np.int32(_SEEK_END))


@register_jitable
def now_ns(buffer):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Return a clock's nanoseconds; buffer: (2,) int64 to work in."""
    _clock_gettime(np.int32(_CLOCK_MONOTONIC), buffer.ctypes)
    return buffer[0] * 1_000_000_000 + buffer[1]
