"""Names of models with a table of their own: `qwen4exp`, `gemma4:512x10`."""

from __future__ import annotations

import re
from pathlib import Path

from engram_local.bench.qwen4exp_shape import Qwen4ExpShape
from engram_local.bench.synthetic_gemma4 import Gemma4Shape, write_gemma4
from engram_local.bench.synthetic_qwen4exp import write_qwen4exp
from engram_local.errors import UsageError
from engram_local.formats.pieces import Progress
from engram_local.spec import RowType

NativeShape = Qwen4ExpShape | Gemma4Shape

SIZES = {"qwen4exp": (512, 4), "gemma4": (512, 10)}
"""Width and depth where none are given.

qwen4exp:512x4 reads 16 rows per token, as the real model, and computes so fast that a
drive is noticed: 1,300 to 1,900 tokens of prompt a second on one shared x86-64 core,
1,200 with a cold table of 8 GiB.
"""

_NAME = re.compile(r"(\w+)(?::(\d{2,6})x(\d{1,4}))?")


def is_native(text: str) -> bool:
    """Return whether a shape is of these models, by what its name begins with."""
    return text.partition(":")[0] in SIZES


def parse_native(
    text: str, *, table_bytes: int | None = None, row_type: RowType | None = None
) -> NativeShape:
    """Return the shape called `text`: a key of SIZES, alone or with :WIDTHxDEPTH.

    table_bytes: about; None = a small one. row_type: None = one that fits. Raises
    UsageError for another name or an impossible size, FormatError for a width that
    does not fit the type of the rows.
    """
    match = _NAME.fullmatch(text)
    if match is None or match[1] not in SIZES:
        raise UsageError(
            f"{text!r} is no shape of a model with a table of its own",
            hint=f"use {' or '.join(SIZES)}, or with a size: qwen4exp:1024x8",
        )
    width, depth = SIZES[match[1]]
    if match[2]:
        width, depth = int(match[2]), int(match[3])
    make = Qwen4ExpShape if match[1] == "qwen4exp" else Gemma4Shape
    shape: NativeShape = make.scaled(width, depth, row_type)
    return shape if table_bytes is None else shape.with_table(table_bytes)


def write_native(
    path: Path, shape: NativeShape, *, progress: Progress | None = None
) -> None:
    """Write a model of this shape; raise as `write_qwen4exp` and `write_gemma4`."""
    if isinstance(shape, Qwen4ExpShape):
        write_qwen4exp(path, shape, progress=progress)
    else:
        write_gemma4(path, shape, progress=progress)
