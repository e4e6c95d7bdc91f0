"""Ctrl-C while llama.cpp computes.

Python runs its signal handlers between bytecodes only. A long prompt batch would ignore
Ctrl-C until it ends, and a handler that raises inside a callback from C is lost without
a trace. So while native code runs, a compiled handler raises a flag; llama.cpp looks at
it between graph nodes and gives up; afterwards Python's handler is called.

While a model loads it looks between two tensors only, and one may be a table of 28 GB:
there a second Ctrl-C ends the process in the handler itself.
"""

from __future__ import annotations

import ctypes
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.extending import intrinsic

from engram_local.kernels import native

_FLAG_NAME = "engram_local_interrupted"
_CAME, _TWICE_ENDS = 1, 2
_flag = ctypes.c_uint8(0)
"""_CAME: Ctrl-C came; _TWICE_ENDS: the next one after that ends the process."""

_STDERR, _EXIT_CODE = 2, 130
_NEWLINE = np.frombuffer(b"\n", np.uint8)  # what is on the line is unfinished


def requested() -> bool:
    """Return whether Ctrl-C came since the native code was entered."""
    return bool(_flag.value & _CAME)


def request() -> None:
    """Do as Ctrl-C does, from any thread: what native code computes or loads is ended.

    Where none of it runs nothing happens, as each block begins anew.
    """
    _flag.value |= _CAME


def abort_callback() -> int:
    """Return the address of a function that tells llama.cpp when to give up."""
    return int(_abort_callback().address)


class deferred:
    """Keep Ctrl-C from Python while a block runs; then call Python's handler.

    Does nothing outside the main thread, where Python handles no signals, and hears of
    `request` only on Windows, where a signal has a thread of its own. A class, and
    nothing looked up that is not needed: as a generator it cost 100 us per token,
    between two decodes.
    """

    __slots__ = ("_before", "_is_main", "_start")

    def __init__(self, *, twice_ends: bool = False) -> None:
        """twice_ends: a second Ctrl-C ends the process at once, with exit code 130.

        For blocks in which nothing of ours is left behind.
        """
        self._start = _TWICE_ENDS if twice_ends else 0

    def __enter__(self) -> None:
        main = threading.main_thread().ident
        self._is_main = threading.get_ident() == main
        if self._is_main:
            _flag.value = self._start
            if not _NO_SIGNALS:
                self._before = _set_handler(_handler_address())

    def __exit__(self, *exc: object) -> None:
        if not self._is_main:
            return
        if not _NO_SIGNALS:
            _set_handler(self._before)
        came, _flag.value = requested(), 0
        if came:
            handler = signal.getsignal(signal.SIGINT)
            if callable(handler):
                handler(signal.SIGINT, None)


_NO_SIGNALS = sys.platform == "win32"


@contextmanager
def taken_elsewhere() -> Iterator[None]:
    """Leave Ctrl-C to the other threads while a block runs."""
    if _NO_SIGNALS:
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@cache
def _handler_address() -> int:
    return int(_handler().address)


def _set_handler(address: int | None) -> int | None:
    """Set SIGINT's handler in C and return the one before."""
    before: int | None = _libc().signal(signal.SIGINT, address)
    return before


@cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None)
    libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    libc.signal.restype = ctypes.c_void_p
    # Else `signal` puts Python's handler back as one after which system calls go on,
    # and Ctrl-C would not end a wait for a lock or a line.
    libc.siginterrupt(signal.SIGINT, 1)
    return libc


# A named symbol, unlike an address, can stand in code that is cached on disk.
binding.add_symbol(_FLAG_NAME, ctypes.addressof(_flag))


@cache
def _handler() -> Any:
    # Apart from the callback: Windows has no `write` that it could be linked with.
    return native(types.void(types.int32))(_on_interrupt)


@cache
def _abort_callback() -> Any:
    return native(types.uint8(types.voidptr))(_should_abort)


def _flag_pointer(builder: Any) -> Any:
    module, byte = builder.module, ir.IntType(8)
    if _FLAG_NAME not in module.globals:
        ir.GlobalVariable(module, byte, _FLAG_NAME)
    return module.globals[_FLAG_NAME]


@intrinsic
def _write_flag(typing_context, value):  # type: ignore[no-untyped-def]
    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        builder.store(arguments[0], _flag_pointer(builder))
        return context.get_dummy_value()

    return types.void(types.uint8), generate


@intrinsic
def _read_flag(typing_context):  # type: ignore[no-untyped-def]
    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.load(_flag_pointer(builder))

    return types.uint8(), generate


# Symbols of libc, resolved when the compiled code is loaded, so that it can be cached.
_write = types.ExternalFunction(
    "write", types.intp(types.int32, types.voidptr, types.uintp)
)
_exit = types.ExternalFunction("_exit", types.void(types.int32))


def _on_interrupt(_signal):  # type: ignore[no-untyped-def]  # pragma: no cover
    flag = _read_flag()
    if flag == _CAME | _TWICE_ENDS:
        _write(_STDERR, _NEWLINE.ctypes, _NEWLINE.size)
        _exit(_EXIT_CODE)
    _write_flag(np.uint8(flag | _CAME))


def _should_abort(_data):  # type: ignore[no-untyped-def]  # pragma: no cover
    return _read_flag() & np.uint8(_CAME)
