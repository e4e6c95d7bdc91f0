"""Compiling with numba: eager, without the GIL, cached on disk where that is possible.

Compiled code is kept beside the source or in the user's cache folder. Where neither can
be written, it is compiled anew at every start, which takes a second or two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


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
    try:
        return compiler(signature, cache=True, **options)(function)
    except RuntimeError as error:
        if "cannot cache" not in str(error):
            raise
        return compiler(signature, **options)(function)
