"""A Python function at a hook: what it raises belongs to one decode."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from numpy.typing import NDArray

from engram_local.llama.hook import NATIVE_FUNCTION, PythonFunction


def call(function: PythonFunction) -> int:
    """Hand over a token as the compiled filter does."""
    hidden = np.zeros((1, 4), np.float32)
    pointer = hidden.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    return int(NATIVE_FUNCTION(function.address)(0, pointer, 1, None))


def test_an_error_that_nobody_took_does_not_fail_the_next_call() -> None:
    errors = [ValueError("no")]

    def on_hidden(_line: int, _hidden: NDArray[np.float32]) -> None:
        if errors:
            raise errors.pop()

    function = PythonFunction(on_hidden, 4)
    assert call(function) == 1
    assert call(function) == 0  # Ctrl-C ended the decode before `raise_error`


def test_an_error_is_raised_once() -> None:
    def on_hidden(_line: int, _hidden: NDArray[np.float32]) -> None:
        raise ValueError("no")

    function = PythonFunction(on_hidden, 4)
    assert call(function) == 1
    with pytest.raises(ValueError, match="no"):
        function.raise_error()
    function.raise_error()
