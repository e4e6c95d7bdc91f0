"""Gemma 3n and Gemma 4: an embedding per token id and layer, one row for all layers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from engram_local.formats.header import Header, TensorInfo
from engram_local.formats.limits import check_limits
from engram_local.formats.model_keys import ModelKeys
from engram_local.formats.native_table import read_table_spec
from engram_local.formats.plain_model import describe
from engram_local.formats.weights import tables
from engram_local.memory.module import NativeModule
from engram_local.model_spec import ModelSpec, TableShape
from engram_local.spec import Boundary, HashSpec, LayerSpec, MemorySpec, Window

_WIDTH = "embedding_length_per_layer_input"
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
    if spec.architecture != "gemma3n":
        return replace(spec, tables=shapes)
    return replace(spec, tables=shapes, n_streams=_GEMMA3N_STREAMS, loads_table=True)


def read_native(header: Header) -> NativeModule | None:
    """Return the table of a Gemma 4, whose row id is the token id.

    None: a model without one, or a Gemma 3n, whose table llama.cpp keeps in memory.
    Raises as `qwen4exp.read_native`.
    """
    found, keys = tables(header), ModelKeys.of(header)
    check_limits(keys)
    if header.architecture != "gemma4" or not found:
        return None
    table, width = found[0], keys.integer(_WIDTH)
    layer = LayerSpec(
        layer_id=0, hash=_row_per_token(table), table=read_table_spec(header, table)
    )
    return NativeModule(
        path=table.path,
        spec=MemorySpec(layers=(layer,), n_canonical=table.shape[1]),
        node="inp_per_layer_selected",
        node_scale=float(np.sqrt(np.float32(width))),
    )


def _row_per_token(table: TensorInfo) -> HashSpec:
    return HashSpec(
        multipliers=(1,),
        sizes=(table.shape[1],),
        offsets=(0,),
        n_heads=1,
        window=Window.NEWEST_FIRST,
        boundary=Boundary.PAD,
        fill_id=0,
        min_ngram=1,
    )
