"""Headers of models without a file, of any size."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from engram_local.formats.header import Header, TensorInfo, Value, tensor_bytes

F32, F16, Q4_0, Q8_0, Q2_K, Q4_K, IQ4_NL, I8, F64, BF16 = (
    0,
    1,
    2,
    8,
    10,
    12,
    20,
    24,
    28,
    30,
)

Tensors = Mapping[str, tuple[tuple[int, ...], int]]
"""Shape in ggml order and ggml's type number, by name."""

PATH = Path("model.gguf")


def make_header(architecture: str, keys: Mapping[str, Any], tensors: Tensors) -> Header:
    """Return a header; `keys` are without their prefix, lists become arrays."""
    named = {f"{architecture}.{name}": value for name, value in keys.items()}
    return raw_header({"general.architecture": architecture, **named}, tensors)


def raw_header(metadata: Mapping[str, Any], tensors: Tensors) -> Header:
    """Return a header of just these keys."""
    found, end = {}, 4096
    for name, (shape, type_id) in tensors.items():
        n_bytes = tensor_bytes(shape, type_id)
        found[name] = TensorInfo(
            name=name,
            shape=shape,
            type_id=type_id,
            offset_bytes=end,
            n_bytes=n_bytes,
            room_bytes=n_bytes or 0,
            path=PATH,
        )
        end += n_bytes or 0
    stored = {key: _stored(value) for key, value in metadata.items()}
    return Header(path=PATH, file_bytes=end, metadata=stored, tensors=found)


def _stored(value: Any) -> Value:
    if isinstance(value, list) and not (value and isinstance(value[0], str)):
        return np.array(value, np.uint64 if max(value, default=0) > 2**31 else np.int64)
    return value  # type: ignore[no-any-return]


def numbers(text: str, n: int) -> list[list[int]]:
    """Return the numbers of a text in rows of `n`."""
    found = [int(number) for number in text.split()]
    return [found[start : start + n] for start in range(0, len(found), n)]
