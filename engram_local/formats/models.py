"""Any model GGUF -> ModelSpec: opens it and picks the dialect."""

from __future__ import annotations

from pathlib import Path

from engram_local.errors import FormatError
from engram_local.formats import deepseek41, gemma4, longcat, plain_model, qwen4exp
from engram_local.formats.backbone import require_model
from engram_local.formats.header import Header
from engram_local.formats.split import read_model_header
from engram_local.model_spec import ModelSpec

_DIALECTS = (  # all others are read by the common keys
    (qwen4exp.matches, qwen4exp.read_model),
    (gemma4.matches, gemma4.read_model),
    (deepseek41.matches, deepseek41.read_model),
    (longcat.matches, longcat.read_model),
)


def read_model(path: Path) -> ModelSpec:
    """Return the model at `path`, of which any part may be given where it is split.

    Reads headers only. Raises FileError if it is no model or a part is missing,
    FormatError if a number in it is impossible.
    """
    return describe(read_model_header(path))


def describe(header: Header) -> ModelSpec:
    """Return the model of a header; raises as `read_model`."""
    require_model(header)
    special = (read for matches, read in _DIALECTS if matches(header))
    read = next(special, plain_model.read_model)
    try:
        return read(header)
    except FormatError as error:
        if str(header.path) in error.message:
            raise
        raise FormatError(f"{header.path}: {error.message}", hint=error.hint) from error
