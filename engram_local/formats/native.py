"""A model with a table of its own -> NativeModule."""

from __future__ import annotations

from engram_local.formats import gemma4, qwen4exp
from engram_local.formats.header import Header
from engram_local.memory.module import NativeModule


def read_native(header: Header) -> NativeModule | None:
    """Return the table that llama.cpp reads lazily, or None if the model has none.

    Raises FormatError where the header contradicts itself.
    """
    if qwen4exp.matches(header):
        return qwen4exp.read_native(header)
    return gemma4.read_native(header) if gemma4.matches(header) else None
