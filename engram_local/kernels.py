"""Compiling with numba: eager, without the GIL, cached on disk where that is possible.

Compiled code is kept beside the source or in the user's cache folder. Where neither can
be written, it is compiled anew at every start, which takes about ten seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

Function = TypeVar("Function", bound=Callable[..., Any])


N_KERNELS = 26
"""What an engine with a memory needs; a test counts them."""

_LOADED_S = 0.05  # code that is on disk takes a tenth of this
_n_ready = 0
_report: Callable[[float], None] | None = None


def report_compiling(report: Callable[[float], None] | None) -> None:
    """Call `report` with the part that is done, 0 to 1, after each compilation.

    It is not called for code that is loaded from disk.
    """
    global _report
    _report = report


def kernel(signature: Any, **options: Any) -> Callable[[Function], Any]:
    """Compile a function that Python calls; it releases the GIL."""

    def compile_it(function: Function) -> Any:
        return _cached(numba.njit, signature, function, nogil=True, **options)

    return compile_it


def native(signature: Any) -> Callable[[Function], Any]:
    """Compile a function that C calls; `.address` is its pointer."""
    return lambda function: _cached(numba.cfunc, signature, function)


def _cached(
    compiler: Any, signature: Any, function: Callable[..., Any], **options: Any
) -> Any:
    start = time.perf_counter()
    try:
        compiled = compiler(signature, cache=True, **options)(function)
    except RuntimeError as error:
        if "cannot cache" not in str(error):
            raise
        compiled = compiler(signature, **options)(function)
    _count(time.perf_counter() - start)
    return compiled


def _count(elapsed_s: float) -> None:
    global _n_ready
    _n_ready += 1
    if _report is not None and elapsed_s > _LOADED_S:
        _report(min(_n_ready / N_KERNELS, 1.0))


def layout(*names: str, reals: tuple[str, ...] = ()) -> np.dtype[Any]:
    """Return the type of a record for native functions: int64 fields, then float64.

    A function called by C gets one address; behind it lie those of arrays, and numbers.
    """
    integers = [(name, np.int64) for name in names]
    return np.dtype(integers + [(name, np.float64) for name in reals])


def make_record(kind: np.dtype[Any], **values: Any) -> Any:
    """Return a record, (1,), of all fields; an array stands for its address.

    Whoever keeps the record keeps the arrays.
    """
    record = np.zeros(1, kind)
    assert set(values) == set(kind.names or ())
    for name, value in values.items():
        record[name] = value.ctypes.data if isinstance(value, np.ndarray) else value
    return record


@intrinsic
def pointer(typing_context, address):  # type: ignore[no-untyped-def]
    """Return an int64 address as a pointer that C functions take."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())

    return numba.types.voidptr(numba.i8), generate
