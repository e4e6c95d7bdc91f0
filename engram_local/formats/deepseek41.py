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
from dataclasses import replace

from engram_local.errors import FormatError, UnsupportedError
from engram_local.formats.engram_keys import EngramKeys
from engram_local.formats.header import Header, TensorInfo
from engram_local.formats.model_keys import ModelKeys
from engram_local.formats.native_table import read_table_spec
from engram_local.formats.plain_model import describe, with_notes
from engram_local.model_spec import INDEXER, CacheGroup, ModelSpec, TableShape
from engram_local.spec import (
    LayerSpec,
    MemorySpec,
    RowType,
    TableSpec,
)
from engram_local.units import escape_control, format_count

_TABLE = re.compile(r"blk\.(\d+)\.engram_embd\.weight")
_COMPRESSOR = re.compile(r"blk\.(\d+)\.attn_compressor_kv\.weight")
_OWNERS = "attention.kv_source_layer_ids"
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
    engram, keys = EngramKeys.of(header), _model_keys(header)
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
    engram = EngramKeys.of(header)
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


def _shapes(engram: EngramKeys, n_layers: int) -> tuple[TableShape, ...]:
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
    engram: EngramKeys, line: int, layer_id: int, tensor: TensorInfo | None
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


def _check_rows(engram: EngramKeys, tensor: TensorInfo, n_rows: int | None) -> None:
    path = engram.keys.header.path
    if len(tensor.shape) != 2:
        raise FormatError(f"{path}: {tensor.name} has the shape {tensor.shape}")
    if n_rows is not None and n_rows != tensor.shape[1]:
        raise FormatError(
            f"{path}: {tensor.name} has {format_count(tensor.shape[1])} rows, its "
            f"heads add up to {format_count(n_rows)}"
        )


def _scale_bytes_less(engram: EngramKeys, shapes: tuple[TableShape, ...]) -> int:
    """Return how many parameters tables have more than elements; scales are bytes."""
    found = _tables(engram.keys.header)
    return sum(
        shape.n_rows * shape.width - found[shape.layer_id].n_elements
        for shape in shapes
        if shape.layer_id in found
    )


def _table_spec(
    engram: EngramKeys, found: dict[int, TensorInfo], layer_id: int
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


def _notes(engram: EngramKeys, keys: ModelKeys) -> tuple[str, ...]:
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
