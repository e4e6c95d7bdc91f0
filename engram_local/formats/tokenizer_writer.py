"""A tokenizer from one GGUF into another: whole, its beginning, or with more tokens."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from gguf import GGUFValueType, GGUFWriter
from numpy.typing import NDArray

from engram_local.errors import UsageError
from engram_local.formats.header import Header, Value
from engram_local.units import format_count

_TOKENS = "tokenizer.ggml.tokens"
_MERGES = "tokenizer.ggml.merges"
_TYPES = "tokenizer.ggml.token_type"
_UNUSED = 5  # ggml's number of a token that no text becomes


def add_tokenizer(
    writer: GGUFWriter, source: Header, n_tokens: int | None = None
) -> None:
    """Add the tokenizer and the chat template of `source` to a GGUF.

    n_tokens: how many tokens there shall be, None = as in `source`. The beginning of a
    byte-level BPE vocabulary is a whole tokenizer: special tokens, the 256 bytes, then
    one token per merge. More tokens than `source` has are unused ones. Raises
    UsageError where a special token would be cut off.
    """
    fields = {
        key: value
        for key, value in source.metadata.items()
        if key.startswith("tokenizer.")
    }
    if n_tokens is not None:
        fields = _resized(fields, source, n_tokens)
    for key, value in fields.items():
        add_value(writer, key, value)


def add_value(writer: GGUFWriter, key: str, value: Value) -> None:
    """Add a value to a GGUF; the type of an array is that of its elements."""
    if isinstance(value, str):
        writer.add_string(key, value)
    elif isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    else:
        _add_array(writer, key, value)


_KINDS = {
    np.dtype(np.int32): GGUFValueType.INT32,
    np.dtype(np.uint32): GGUFValueType.UINT32,
    np.dtype(np.uint64): GGUFValueType.UINT64,
    np.dtype(np.float32): GGUFValueType.FLOAT32,
    np.dtype(np.bool_): GGUFValueType.BOOL,
}


def _add_array(
    writer: GGUFWriter, key: str, value: list[str] | NDArray[np.generic]
) -> None:
    if isinstance(value, list):
        # As bytes: a token may hold bytes that are no UTF-8.
        items: list[object] = [
            text.encode("utf-8", "surrogateescape") for text in value
        ]
        kind = GGUFValueType.STRING
    else:
        items, kind = value.tolist(), _KINDS[value.dtype]
    writer.add_key_value(key, items, GGUFValueType.ARRAY, sub_type=kind)


def _resized(
    fields: Mapping[str, Value], source: Header, n_tokens: int
) -> dict[str, Value]:
    tokens = source.texts(_TOKENS)
    known = set(tokens[:n_tokens])
    resized: dict[str, Value] = {}
    for key, value in fields.items():
        if key == _MERGES:
            merges = source.texts(_MERGES)
            value = [pair for pair in merges if pair.replace(" ", "", 1) in known]
        elif isinstance(value, int) and key.endswith("_token_id") and value >= n_tokens:
            raise UsageError(
                f"{format_count(n_tokens)} tokens leave out the one of {key}",
                hint=f"take at least {format_count(value + 1)}",
            )
        elif isinstance(value, list | np.ndarray) and len(value) == len(tokens):
            value = _cut_or_filled(key, value, n_tokens)
        resized[key] = value
    return resized


def _cut_or_filled(
    key: str, value: list[str] | NDArray[np.generic], n_tokens: int
) -> Value:
    n_more = max(0, n_tokens - len(value))
    if isinstance(value, list):
        return value[:n_tokens] + [f"<unused{number}>" for number in range(n_more)]
    filler = np.full(n_more, _UNUSED if key == _TYPES else 0, value.dtype)
    return np.concatenate([value[:n_tokens], filler])
