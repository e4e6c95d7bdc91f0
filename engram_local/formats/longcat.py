"""LongCat-Flash-Lite (`longcat-flash-ngram`, of a fork): tables into the embedding."""

from __future__ import annotations

from dataclasses import replace

from engram_local.errors import FormatError
from engram_local.formats.header import Header
from engram_local.formats.model_keys import ModelKeys
from engram_local.formats.plain_model import describe, with_notes
from engram_local.formats.weights import tables
from engram_local.model_spec import ModelSpec, TableShape

_ARCHITECTURE = "longcat-flash-ngram"
_NO_LEAD = "rows are needed before the first layer: nothing hides their reading"


def matches(header: Header) -> bool:
    """Return whether the model is of this kind."""
    return header.architecture == _ARCHITECTURE


def read_model(header: Header) -> ModelSpec:
    """Return the model; raise FormatError where its numbers contradict each other."""
    keys = ModelKeys.of(header)
    spec = replace(describe(keys), tables=_tables(keys))
    return with_notes(spec, _NO_LEAD)


def _tables(keys: ModelKeys) -> tuple[TableShape, ...]:
    """Return one table per order and head; a token reads a row of each."""
    longest = _either(keys, "ngram.neighbor_num", "ngram.neighbor_count")
    n_heads = _either(keys, "ngram.split_num", "ngram.split_count")
    found = {table.name: table for table in tables(keys.header)}
    if len(found) != (longest - 1) * n_heads:
        raise FormatError(
            f"{keys.header.path} has {len(found)} tables for orders up to {longest} "
            f"with {n_heads} heads"
        )
    ordered = [
        keys.header.tensor(f"ngram_embd.{index}.weight") for index in range(len(found))
    ]
    return tuple(
        TableShape(
            layer_id=0,
            n_rows=table.shape[1],
            width=table.shape[0],
            rows_per_token=1,
            orders=(2 + index // n_heads,),
            n_heads=1,
        )
        for index, table in enumerate(ordered)
    )


def _either(keys: ModelKeys, name: str, other: str) -> int:
    """Return a number that forks call by one of two names."""
    return keys.integer(name if keys.has(name) else other)
