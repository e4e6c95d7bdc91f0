"""Gemma 3n and Gemma 4: an embedding per token id and layer, one row for all layers."""

from __future__ import annotations

from dataclasses import replace

from engram_local.formats.header import Header
from engram_local.formats.model_keys import ModelKeys
from engram_local.formats.plain_model import describe
from engram_local.formats.weights import tables
from engram_local.model_spec import ModelSpec, TableShape

_GEMMA3N_STREAMS = 4  # AltUp inputs; llama.cpp has the number in its code


def matches(header: Header) -> bool:
    """Return whether the model is of this kind; larger Gemma 4 have no table."""
    return header.architecture in ("gemma3n", "gemma4")


def read_model(header: Header) -> ModelSpec:
    """Return the model; raise FormatError where its numbers contradict each other."""
    spec = describe(ModelKeys.of(header))
    shapes = tuple(
        TableShape(
            layer_id=0,
            n_rows=table.shape[1],
            width=table.shape[0],
            rows_per_token=1,
            orders=(1,),
            n_heads=1,
        )
        for table in tables(header)
    )
    n_streams = _GEMMA3N_STREAMS if spec.architecture == "gemma3n" else 1
    return replace(spec, tables=shapes, n_streams=n_streams)
