"""A model card, `models/*.toml` -> what a sizing report needs of a model.

A card holds what the maker published, in numbers, and where each stands. A number that
is not known is not in it. Keys are explained in models/README.md.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from engram_local.errors import FormatError
from engram_local.figures import Source
from engram_local.formats.fields import Fields, read_limited
from engram_local.formats.weight_sizes import (
    active_params,
    computed_weights,
    split_bytes,
)
from engram_local.model_spec import (
    INDEXER,
    CacheGroup,
    ModelSpec,
    Part,
    StateGroup,
    TableShape,
    Weights,
)

MAX_CARD_BYTES = 64 * 1024
_MAX_HEADER_BYTES = 64 * 1024 * 1024
"""Of a GGUF: a vocabulary with its merges. More than that is a part left out."""

_COUNTED = {
    "embedding": Part.EMBEDDING,
    "output": Part.OUTPUT,
    "layers": Part.LAYERS,
    "experts": Part.EXPERTS,
    "unused": Part.UNUSED,
}
"""Parts by their keys; the table's size follows from its rows."""

_CACHE_KINDS = ("attention", "sliding window", INDEXER, "compressed")
_Params = dict[Part, int]


def read_card(path: Path) -> ModelSpec:
    """Return the model that a card describes.

    Raises FileError where the file cannot be read, FormatError with file and key where
    it says something impossible, has an unknown key or a number without a source.
    """
    card = _open(path)
    tables = tuple(_table(fields) for fields in card.sections("tables"))
    params = _params(card.section("parameters"), tables)
    name = card.text("name")
    n_experts = card.integer("n_experts", default=0)
    n_used = card.integer("n_experts_used", high=n_experts, default=0)
    tied = card.flag("tied_output", default=False)
    spec = ModelSpec(
        name=name,
        architecture=card.text("architecture"),
        source=Source.PUBLISHED,
        origin=name,
        n_params=sum(params.values()),
        n_active_params=active_params(
            params, n_experts=n_experts, n_experts_used=n_used, tied_output=tied
        ),
        context_length=card.integer("context_length", low=1),
        vocab_size=card.integer("vocab_size", low=1),
        hidden_size=card.integer("hidden_size", low=1),
        n_layers=card.integer("n_layers", low=1),
        n_heads=card.integer("n_heads", low=1),
        ffn_size=card.integer("ffn_size", default=0),
        head_size=card.integer("head_size", high=2**16, default=0),
        caches=tuple(_cache(fields) for fields in card.sections("caches")),
        weights=_all_weights(card, params, tables),
        states=tuple(_state(fields) for fields in card.sections("states")),
        tables=tables,
        n_experts=n_experts,
        n_experts_used=n_used,
        tied_output=tied,
        n_streams=card.integer("n_streams", low=1, default=1),
        runs_here=card.flag("runs_here", default=True),
        repository=card.text("repository", ""),
        notes=card.texts("notes"),
        urls=_sources(card),
    )
    card.refuse_unknown()
    return spec


def _open(path: Path) -> Fields:
    data = read_limited(path, MAX_CARD_BYTES)
    try:
        return Fields(tomllib.loads(data.decode("utf-8")), path)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is one
        raise FormatError(f"{path} is no TOML: {error}") from error


def _table(fields: Fields) -> TableShape:
    table = TableShape(
        layer_id=fields.integer("layer_id"),
        n_rows=fields.integer("n_rows", low=1),
        width=fields.integer("width", low=1, high=2**20),
        rows_per_token=fields.integer("rows_per_token", low=1, high=2**16),
        orders=fields.integers("orders", low=1, high=64),
        n_heads=fields.integer("n_heads", low=1, high=2**16),
    )
    fields.refuse_unknown()
    return table


def _cache(fields: Fields) -> CacheGroup:
    kind = fields.text("kind")
    if kind not in _CACHE_KINDS:
        raise fields.refuse(f"{kind} is no kind of cache: {', '.join(_CACHE_KINDS)}")
    group = CacheGroup(
        kind=kind,
        n_layers=fields.integer("n_layers", low=1, high=2**16),
        key_size=fields.integer("key_size", low=1, high=2**24),
        value_size=fields.integer("value_size", high=2**24),
        window=fields.integer("window", default=0),
        ratio=fields.integer("ratio", low=1, high=2**16, default=1),
    )
    fields.refuse_unknown()
    return group


def _state(fields: Fields) -> StateGroup:
    group = StateGroup(
        n_layers=fields.integer("n_layers", low=1, high=2**16),
        n_bytes=fields.integer("n_bytes", low=1),
    )
    fields.refuse_unknown()
    return group


def _params(fields: Fields, tables: tuple[TableShape, ...]) -> _Params:
    """Return the values of every part; `total`, where it is given, is their sum."""
    params: _Params = {
        part: fields.integer(key, default=0) for key, part in _COUNTED.items()
    }
    params[Part.TABLE] = sum(table.n_rows * table.width for table in tables)
    found = sum(params.values())
    if "total" in fields and (total := fields.integer("total")) != found:
        raise fields.refuse(f"total is {total:,}, the parts are {found:,}")
    fields.refuse_unknown()
    if not params[Part.LAYERS]:
        raise fields.refuse("layers is missing")
    return {part: count for part, count in params.items() if count}


def _all_weights(
    card: Fields, params: _Params, tables: tuple[TableShape, ...]
) -> tuple[Weights, ...]:
    n_rows = sum(table.n_rows for table in tables)
    found = [_weights(one, params, n_rows) for one in card.sections("weights")]
    if not found:  # nothing was published: as it was trained
        return computed_weights(params, tables, names=("BF16",))
    return tuple(sorted(found, key=lambda weights: weights.file_bytes))


def _weights(fields: Fields, params: _Params, n_rows: int) -> Weights:
    width_bytes = fields.integer("table_row_bytes", high=2**24, default=0)
    file_bytes = fields.integer("file_bytes", low=1)
    known = _known_parts(fields.section("parts"))
    if width_bytes:
        known[Part.TABLE] = n_rows * width_bytes
    all_loaded = fields.flag("unused_inside", default=False)
    wanted = {
        part: count
        for part, count in params.items()
        if part not in known and (part is not Part.UNUSED or all_loaded)
    }
    rest = file_bytes - sum(known.values())
    if rest < 0 or (not wanted and rest > _MAX_HEADER_BYTES):
        raise fields.refuse(f"the parts differ from file_bytes by {abs(rest):,}")
    weights = Weights(
        name=fields.text("name"),
        file_bytes=file_bytes,
        parts=known | (split_bytes(rest, wanted) if wanted else {}),
        source=Source.ESTIMATED if wanted else Source.PUBLISHED,
        table_row_bytes=width_bytes,
        native=fields.flag("native", default=False),
        url=fields.text("url"),
    )
    fields.refuse_unknown()
    return weights


def _known_parts(fields: Fields) -> _Params:
    parts = {
        part: fields.integer(key) for key, part in _COUNTED.items() if key in fields
    }
    fields.refuse_unknown()
    return parts


def _sources(card: Fields) -> dict[str, str]:
    """Return where the numbers stand; FormatError where a section has no source."""
    fields = card.section("sources")
    listed = ("caches", "states", "tables")
    needed = ["shape", "parameters", *(key for key in listed if key in card)]
    for key in needed:
        if not fields.text(key).strip():
            raise fields.refuse(f"{key} is empty")
    return {key: fields.text(key) for key in fields.names}
