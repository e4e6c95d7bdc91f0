"""Compiling where the cache can be written, and where it cannot."""

from __future__ import annotations

import pytest

from engram_local import kernels
from engram_local.kernels import kernel, native, report_compiling


def without_file(source: str) -> object:
    """Return a function that no cache file can belong to."""
    names: dict[str, object] = {}
    exec(source, names)  # a read-only installation looks the same to numba
    return names["function"]


def test_a_kernel_without_a_cache_is_compiled_all_the_same() -> None:
    function = without_file("def function(x):\n    return x + 1")
    assert kernel("i8(i8)")(function)(41) == 42
    assert native("i8(i8)")(function).ctypes(41) == 42


def test_code_that_does_not_compile_is_an_error() -> None:
    with pytest.raises(Exception, match="nonsense"):
        kernel("i8(i8)")(without_file("def function(x):\n    return nonsense(x)"))


def test_compiling_is_reported_and_loading_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts: list[float] = []
    monkeypatch.setattr(kernels, "_n_ready", 0)
    report_compiling(parts.append)
    try:
        kernels._count(0.001)
        assert parts == []
        kernels._count(1.0)
        assert parts == [2 / kernels.N_KERNELS]
    finally:
        report_compiling(None)
