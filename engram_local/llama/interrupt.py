"""Ctrl-C while llama.cpp computes.

Python runs its signal handlers between bytecodes only. A long prompt batch would ignore
Ctrl-C until it ends, and a handler that raises inside a callback from C is lost without
a trace. So while native code runs, a compiled handler raises a flag; llama.cpp looks at
it between graph nodes and gives up; afterwards Python's handler is called.
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

from llvmlite import binding, ir
from numba import types
from numba.extending import intrinsic

from engram_local.kernels import native

_FLAG_NAME = "engram_local_interrupted"
_flag = ctypes.c_uint8(0)


def requested() -> bool:
    """Return whether Ctrl-C came since the native code was entered."""
    return bool(_flag.value)


def abort_callback() -> int:
    """Return the address of a function that tells llama.cpp when to give up."""
    return int(_compiled()[1].address)


@contextmanager
def deferred() -> Iterator[None]:
    """Keep Ctrl-C from Python while the block runs; then call Python's handler.

    Does nothing outside the main thread, where Python handles no signals, and on
    Windows, where a signal has a thread of its own.
    """
    if threading.current_thread() is not threading.main_thread() or _NO_SIGNALS:
        yield
        return
    _flag.value = 0
    before = _set_handler(int(_compiled()[0].address))
    try:
        yield
    finally:
        _set_handler(before)
        came, _flag.value = requested(), 0
    handler = signal.getsignal(signal.SIGINT)
    if came and callable(handler):
        handler(signal.SIGINT, None)


_NO_SIGNALS = sys.platform == "win32"


def _set_handler(address: int | None) -> int | None:
    """Set SIGINT's handler in C and return the one before."""
    before: int | None = _libc().signal(signal.SIGINT, address)
    return before


@cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None)
    libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    libc.signal.restype = ctypes.c_void_p
    return libc


@cache
def _compiled() -> tuple[Any, Any]:
    # A named symbol, unlike an address, can stand in code that is cached on disk.
    binding.add_symbol(_FLAG_NAME, ctypes.addressof(_flag))
    return (
        native(types.void(types.int32))(_on_interrupt),
        native(types.uint8(types.voidptr))(_should_abort),
    )


def _flag_pointer(builder: Any) -> Any:
    module, byte = builder.module, ir.IntType(8)
    if _FLAG_NAME not in module.globals:
        ir.GlobalVariable(module, byte, _FLAG_NAME)
    return module.globals[_FLAG_NAME]


@intrinsic
def _raise_flag(typing_context):  # type: ignore[no-untyped-def]
    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        builder.store(ir.Constant(ir.IntType(8), 1), _flag_pointer(builder))
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def _read_flag(typing_context):  # type: ignore[no-untyped-def]
    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.load(_flag_pointer(builder))

    return types.uint8(), generate


def _on_interrupt(_signal):  # type: ignore[no-untyped-def]  # pragma: no cover
    _raise_flag()


def _should_abort(_data):  # type: ignore[no-untyped-def]  # pragma: no cover
    return _read_flag()
