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
    spec = replace(describe(keys), tables=(_table(keys),))
    return with_notes(spec, _NO_LEAD)


def _table(keys: ModelKeys) -> TableShape:
    """Return its tables, of an order and head each, as one: the input needs all."""
    longest = _either(keys, "ngram.neighbor_num", "ngram.neighbor_count")
    n_heads = _either(keys, "ngram.split_num", "ngram.split_count")
    found = tables(keys.header)
    widths = {table.shape[0] for table in found}
    if len(found) != (longest - 1) * n_heads or len(widths) != 1:
        raise FormatError(
            f"{keys.header.path} has {len(found)} tables of width {sorted(widths)} for "
            f"orders up to {longest} with {n_heads} heads"
        )
    return TableShape(
        layer_id=0,
        n_rows=sum(table.shape[1] for table in found),
        width=widths.pop(),
        rows_per_token=len(found),
        orders=tuple(range(2, longest + 1)),
        n_heads=n_heads,
    )


def _either(keys: ModelKeys, name: str, other: str) -> int:
    """Return a number that forks call by one of two names."""
    return keys.integer(name if keys.has(name) else other)
