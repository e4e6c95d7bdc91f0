"""A Python function at a hook: what it raises belongs to one decode."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from engram_local.llama.hook import NATIVE_FUNCTION, HiddenHook, PythonFunction


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


class Wanted:
    """What a hook asks its filter for."""

    def __init__(self) -> None:
        self.hook = HiddenHook(width=4, n_layers=2, max_tokens=1)
        self.names: list[tuple[bytes, ...]] = []
        self.hook._filter.set_names = self.note  # type: ignore[method-assign]

    def note(self, names: Sequence[bytes]) -> None:
        self.names.append(tuple(names))


@pytest.mark.parametrize("is_on", [True, False])
def test_what_was_hooked_before_comes_back(is_on: bool) -> None:
    wanted = Wanted()
    first, second = (PythonFunction(lambda *_: None, 4) for _ in range(2))
    wanted.hook.install([b"a", b"b"], first, only_reads=True)
    wanted.hook.enable(is_on)
    with (
        pytest.raises(KeyboardInterrupt),
        wanted.hook.replaced([b"c"], second),
    ):
        assert wanted.names[-1] == (b"c",)
        raise KeyboardInterrupt
    assert wanted.names[-1] == ((b"a", b"b") if is_on else ())
    assert wanted.hook._installed is first
    assert wanted.hook._only_reads


def test_where_nothing_was_hooked_nothing_is_afterwards() -> None:
    wanted = Wanted()
    function = PythonFunction(lambda *_: None, 4)
    with wanted.hook.replaced([b"c"], function):
        assert wanted.names[-1] == (b"c",)
    assert wanted.names[-1] == ()
    assert wanted.hook._installed is None
