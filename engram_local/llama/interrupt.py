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


class deferred:
    """Keep Ctrl-C from Python while a block runs; then call Python's handler.

    Does nothing outside the main thread, where Python handles no signals, and on
    Windows, where a signal has a thread of its own. A class, and nothing looked up that
    is not needed: as a generator it cost 100 us per token, between two decodes.
    """

    __slots__ = ("_before", "_is_main")

    def __enter__(self) -> None:
        main = threading.main_thread().ident
        self._is_main = threading.get_ident() == main and not _NO_SIGNALS
        if self._is_main:
            _flag.value = 0
            self._before = _set_handler(_handler_address())

    def __exit__(self, *exc: object) -> None:
        if not self._is_main:
            return
        _set_handler(self._before)
        if _flag.value:
            _flag.value = 0
            handler = signal.getsignal(signal.SIGINT)
            if callable(handler):
                handler(signal.SIGINT, None)


_NO_SIGNALS = sys.platform == "win32"


@cache
def _handler_address() -> int:
    return int(_compiled()[0].address)


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
