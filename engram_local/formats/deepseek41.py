"""DeepSeek V4.1 with Engram tables: four ways to write them into a GGUF.

No llama.cpp release runs them; forks and a proposal write:

* llama.cpp's proposal and ik_llama.cpp: `engram.primes`, `engram.pad_id` ...
* ds4: rows of bytes that `engram.encoding` explains, in this file or another
* others: `engram.layers`, `engram.head_bucket_sizes`, `engram.pad_token_id` ..., or
  `engram.hash_multipliers`; their pad id is a raw token id

Early files have `deepseek4.engram.*` keys, or none of the hash constants.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from engram_local.errors import FormatError, UnsupportedError
from engram_local.formats.header import Header, TensorInfo
from engram_local.formats.model_keys import ModelKeys
from engram_local.formats.native_table import read_table_spec
from engram_local.formats.plain_model import describe, with_notes
from engram_local.memory.constants import offsets_of
from engram_local.model_spec import INDEXER, CacheGroup, ModelSpec, TableShape
from engram_local.spec import (
    Boundary,
    HashSpec,
    LayerSpec,
    MemorySpec,
    RowType,
    TableSpec,
    Window,
)
from engram_local.units import escape_control, format_count

_TABLE = re.compile(r"blk\.(\d+)\.engram_embd\.weight")
_COMPRESSOR = re.compile(r"blk\.(\d+)\.attn_compressor_kv\.weight")
_OWNERS = "attention.kv_source_layer_ids"
_NAMES = {
    "layer_ids": ("layer_ids", "layers"),
    "max_ngram": ("max_ngram_size", "ngram_size"),
    "width": ("key_length", "head_dim"),
    "multipliers": ("multipliers", "hash_multipliers"),
    "sizes": ("primes", "head_bucket_sizes"),
    "offsets": ("offsets", "head_offsets"),
    "pad_id": ("pad_id", "pad_token_id"),
    "token_map": ("token_map",),
}
"""What a number is called, in all dialects."""

_CONSTANTS = ("multipliers", "sizes", "pad_id", "token_map")
_PUBLISHED_ORDERS, _PUBLISHED_HEADS = 4, 8
_MAX_NGRAM = 64  # as in memory files
_FP8_ENCODING = "e4m3_e8m0_32_row264"


def matches(header: Header) -> bool:
    """Return whether the model is of this kind, whatever prefix its keys have."""
    return (
        header.architecture == "deepseek41"
        or any(key.startswith("deepseek4.engram.") for key in header.metadata)
        or (header.architecture == "deepseek4" and bool(_tables(header)))
    )


def read_model(header: Header) -> ModelSpec:
    """Return the model; raise FormatError where its numbers contradict each other.

    Tables whose hash constants are missing are described by their tensors.
    """
    engram, keys = _Engram.of(header), _model_keys(header)
    spec = describe(keys, _caches(keys))
    shapes = _shapes(engram, spec.n_layers)
    spec = replace(
        spec,
        runs_here=False,
        tables=shapes,
        n_params=spec.n_params + _scale_bytes_less(engram, shapes),
    )
    return with_notes(spec, *_notes(engram, keys))


def read_memory_spec(header: Header) -> MemorySpec:
    """Return hashes and tables, so that rows can be computed without llama.cpp.

    A table's offset counts from the start of its tensor's file. Raises FormatError
    where numbers are missing or contradict each other, UnsupportedError for row types
    that are not read here and for tables in other files.
    """
    engram = _Engram.of(header)
    token_map = engram.token_map()
    fill_id = engram.pad_id(token_map)
    found = _tables(header)
    return MemorySpec(
        layers=tuple(
            LayerSpec(
                layer_id=layer_id,
                hash=engram.hash(line, fill_id),
                table=_table_spec(engram, found, layer_id),
            )
            for line, layer_id in enumerate(engram.numbers("layer_ids"))
        ),
        n_canonical=max(token_map) + 1,
    )


@dataclass(frozen=True, slots=True)
class _Engram:
    """The keys `*.engram.*`, by any of their names."""

    keys: ModelKeys

    @classmethod
    def of(cls, header: Header) -> _Engram:
        prefix = "deepseek41"
        if not any(key.startswith("deepseek41.engram.") for key in header.metadata):
            prefix = "deepseek4"
        return cls(ModelKeys(header=header, prefix=prefix, rules="deepseek41"))

    def name(self, what: str) -> str | None:
        names = (f"engram.{name}" for name in _NAMES[what])
        return next((name for name in names if self.keys.has(name)), None)

    def number(self, what: str, default: int | None = None) -> int:
        return self.keys.integer(self._needed(what, default), default)

    def numbers(self, what: str) -> tuple[int, ...]:
        return self.keys.words(self._needed(what))

    def text(self, key: str) -> str:
        return self.keys.header.text(f"{self.keys.prefix}.engram.{key}", "")

    @property
    def missing(self) -> list[str]:
        return [_NAMES[what][0] for what in _CONSTANTS if self.name(what) is None]

    @property
    def max_ngram(self) -> int:
        longest = self.number("max_ngram", _PUBLISHED_ORDERS)
        if not 2 <= longest <= _MAX_NGRAM:
            name = self._needed("max_ngram", longest)
            raise self.keys.wrong(name, f"is {format_count(longest)}")
        return longest

    @property
    def n_heads(self) -> int:
        """Return the heads of one order, from their own key or from all sizes."""
        default = _PUBLISHED_HEADS
        if self.name("sizes") and self.name("layer_ids"):
            n_orders = len(self.numbers("layer_ids")) * (self.max_ngram - 1)
            default = len(self.numbers("sizes")) // max(n_orders, 1)
        return self.keys.integer("engram.head_count", default)

    def token_map(self) -> list[int]:
        """Return the canonical id of each token; at least one."""
        name = self._needed("token_map")
        values = self.keys.header.integers(f"{self.keys.prefix}.{name}")
        if len(values) == 0 or int(np.min(values)) < 0:
            raise self.keys.wrong(name, "has no ids, or ids below zero")
        return [int(value) for value in values]

    def pad_id(self, token_map: list[int]) -> int:
        """Return the canonical pad id."""
        pad_id = self.number("pad_id")
        if self.name("pad_id") == "engram.pad_id":
            return pad_id
        if pad_id >= len(token_map):
            raise self.keys.wrong("engram.pad_token_id", f"is {format_count(pad_id)}")
        return token_map[pad_id]

    def hash(self, line: int, fill_id: int) -> HashSpec:
        """Return the hash of one memory layer, by its place in the file's lists."""
        n_slots = (self.max_ngram - 1) * self.n_heads
        sizes = self._of_layer("sizes", line, n_slots)
        return HashSpec(
            multipliers=self._of_layer("multipliers", line, self.max_ngram),
            sizes=sizes,
            offsets=self._of_layer("offsets", line, n_slots)
            if self.name("offsets")
            else offsets_of(sizes),
            n_heads=self.n_heads,
            window=Window.NEWEST_FIRST,
            boundary=Boundary.PAD,
            fill_id=fill_id,
        )

    def rows(self, line: int) -> int | None:
        """Return the rows that a layer's sizes add up to; None without sizes."""
        if self.name("sizes") is None:
            return None
        n_slots = (self.max_ngram - 1) * self.n_heads
        return sum(self._of_layer("sizes", line, n_slots))

    def _of_layer(self, what: str, line: int, n: int) -> tuple[int, ...]:
        numbers, n_layers = self.numbers(what), len(self.numbers("layer_ids"))
        if len(numbers) != n_layers * n:
            raise self.keys.wrong(
                self._needed(what),
                f"has {len(numbers)} values, {n_layers} layers of {n} are needed",
            )
        return numbers[line * n : (line + 1) * n]

    def _needed(self, what: str, default: int | None = None) -> str:
        name = self.name(what) or f"engram.{_NAMES[what][0]}"
        if default is None and not self.keys.has(name):
            raise FormatError(
                f"{self.keys.header.path} has no {self.keys.prefix}.{name}",
                hint="it is an early file without hash constants: get a newer one",
            )
        return name


def _model_keys(header: Header) -> ModelKeys:
    """Return the model's own keys, which have one of two prefixes."""
    prefixes = (header.architecture, "deepseek41", "deepseek4")
    known = (p for p in prefixes if f"{p}.block_count" in header.metadata)
    prefix = next(known, header.architecture)
    return ModelKeys(header=header, prefix=escape_control(prefix), rules="deepseek41")


def _tables(header: Header) -> dict[int, TensorInfo]:
    """Return the tables in this file by their layers."""
    found = ((_TABLE.fullmatch(name), t) for name, t in header.tensors.items())
    return {int(match[1]): tensor for match, tensor in found if match}


def _shapes(engram: _Engram, n_layers: int) -> tuple[TableShape, ...]:
    found = _tables(engram.keys.header)
    layer_ids = tuple(sorted(found))
    if engram.name("layer_ids"):
        layer_ids = engram.numbers("layer_ids")
    distinct = set(layer_ids)
    if len(distinct) < len(layer_ids) or not found.keys() <= distinct <= {
        *range(n_layers)
    }:
        raise FormatError(
            f"{engram.keys.header.path}: layers {list(layer_ids)} of {n_layers} should "
            f"have a table, {sorted(found)} do"
        )
    shapes = (
        _shape(engram, line, layer_id, found.get(layer_id))
        for line, layer_id in enumerate(layer_ids)
    )
    return tuple(shape for shape in shapes if shape is not None)


def _shape(
    engram: _Engram, line: int, layer_id: int, tensor: TensorInfo | None
) -> TableShape | None:
    """Return one table; None where neither tensor nor constants tell its rows."""
    n_rows = engram.rows(line)
    if tensor is not None:
        _check_rows(engram, tensor, n_rows)
        n_rows = tensor.shape[1]
    if n_rows is None:
        return None
    width = tensor.shape[0] if tensor is not None else 0
    return TableShape(
        layer_id=layer_id,
        n_rows=n_rows,
        width=engram.number("width", width),
        rows_per_token=(engram.max_ngram - 1) * engram.n_heads,
        orders=tuple(range(2, engram.max_ngram + 1)),
        n_heads=engram.n_heads,
    )


def _check_rows(engram: _Engram, tensor: TensorInfo, n_rows: int | None) -> None:
    path = engram.keys.header.path
    if len(tensor.shape) != 2:
        raise FormatError(f"{path}: {tensor.name} has the shape {tensor.shape}")
    if n_rows is not None and n_rows != tensor.shape[1]:
        raise FormatError(
            f"{path}: {tensor.name} has {format_count(tensor.shape[1])} rows, its "
            f"heads add up to {format_count(n_rows)}"
        )


def _scale_bytes_less(engram: _Engram, shapes: tuple[TableShape, ...]) -> int:
    """Return how many parameters tables have more than elements; scales are bytes."""
    found = _tables(engram.keys.header)
    return sum(
        shape.n_rows * shape.width - found[shape.layer_id].n_elements
        for shape in shapes
        if shape.layer_id in found
    )


def _table_spec(
    engram: _Engram, found: dict[int, TensorInfo], layer_id: int
) -> TableSpec:
    header = engram.keys.header
    if layer_id not in found:
        raise UnsupportedError(
            f"{header.path}: the table of layer {layer_id} is not in this file"
        )
    row_type = RowType.FP8 if engram.text("encoding") == _FP8_ENCODING else None
    return read_table_spec(header, found[layer_id], row_type=row_type)


def _caches(keys: ModelKeys) -> tuple[CacheGroup, ...] | None:
    """Return the window of all layers, and what some keep of all tokens.

    A layer that owns compressed entries has an indexer's keys beside them; others read
    those of the owner before. None where the file does not tell the ratios.
    """
    if not keys.has("attention.compress_ratios"):
        return None
    n_heads = keys.largest("attention.head_count_kv", 1)
    window = CacheGroup(
        kind="sliding window",
        n_layers=keys.n_layers,
        key_size=keys.integer("attention.key_length") * n_heads,
        value_size=0,
        window=keys.integer("attention.sliding_window"),
    )
    sizes = {
        "compressed": window.key_size,
        INDEXER: keys.integer("attention.indexer.key_length", 0),
    }
    kept = sorted(Counter(_ratios_kept(keys)).items(), reverse=True)
    return (
        window,
        *(
            replace(window, kind=kind, n_layers=n, key_size=size, window=0, ratio=ratio)
            for kind, size in sizes.items()
            for ratio, n in kept
            if size
        ),
    )


def _ratios_kept(keys: ModelKeys) -> list[int]:
    """Return the ratio of each layer that owns compressed entries.

    Of all layers with a ratio where the file does not tell the owners.
    """
    ratios = keys.integers("attention.compress_ratios")[: keys.n_layers]
    owners = _owners(keys)
    if not owners:
        return [ratio for ratio in ratios if ratio]
    if max(owners) >= len(ratios):
        raise keys.wrong(
            "attention.compress_ratios",
            f"has {len(ratios)} values, layer {max(owners)} needs one",
        )
    return [max(ratios[layer], 1) for layer in owners]


def _owners(keys: ModelKeys) -> set[int]:
    """Return the layers with compressed entries of their own; empty = not told."""
    if keys.has(_OWNERS):
        return set(keys.integers(_OWNERS))
    found = map(_COMPRESSOR.fullmatch, keys.header.tensors)
    layers = {int(match[1]) for match in found if match}
    return {layer for layer in layers if layer < keys.n_layers}  # no draft heads


def _notes(engram: _Engram, keys: ModelKeys) -> tuple[str, ...]:
    notes = ["llama.cpp does not run Engram tables yet, so nothing confirms its cache"]
    if keys.has("attention.compress_ratios") and not _owners(keys):
        notes.append(
            "the size of its cache is an upper bound: which layers keep compressed "
            "entries is not told"
        )
    if engram.keys.prefix != "deepseek41":
        notes.append("an early file: its keys begin with deepseek4.engram")
    if engram.missing:
        notes.append(
            f"an early file: the hash constants {', '.join(engram.missing)} are "
            "missing, so its rows cannot be found"
        )
    if encoding := engram.text("encoding"):
        notes.append(f"rows are encoded as {escape_control(encoding)}")
    if engram.text("storage") == "external":
        notes.append("its tables are in files of their own")
    if keys.prefix != keys.header.architecture:
        notes.append(f"its keys begin with {keys.prefix}")
    return tuple(notes)
