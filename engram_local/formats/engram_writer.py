"""Writing a memory file, in pieces, through a temporary name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from gguf import GGUFValueType, GGUFWriter
from numpy.typing import NDArray

from engram_local.errors import FormatError
from engram_local.formats.engram_gguf import (
    ADAPTER_TYPE,
    TYPE_IDS,
    tensor_name,
    weight_layout,
)
from engram_local.formats.pieces import Piece, Progress, write_gguf
from engram_local.memory.module import MemoryModule
from engram_local.memory.rows import encode_rows
from engram_local.spec import LayerSpec, RowType, TableSpec

F32 = NDArray[np.float32]

_CHUNK_ROWS = 65_536


class RowSource(Protocol):
    """Rows of one layer: a numpy array, or a lazy slice of a file."""

    def __getitem__(self, rows: slice, /) -> F32:
        """Return (n_rows, width) float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRows:
    """Rows of one layer as they lie in the file; encoding takes longer than a drive."""

    chunks: Iterable[NDArray[np.uint8]]
    """C order, of any shape."""

    n_bytes: int
    """Of all chunks. What the table has beyond them is a hole in the file: rows that
    read as zeros and take no space."""


def write_memory(
    path: Path,
    module: MemoryModule,
    rows: Sequence[RowSource | StoredRows],
    *,
    architecture: str,
    matrix_type: RowType = RowType.F32,
    progress: Progress | None = None,
) -> None:
    """Write a memory to `path`; a file of that name is replaced when all is written.

    rows: one source per layer; row type and count are those of the layer's table (its
    `offset_bytes` is ignored). matrix_type: of the projections, f32, f16 or bf16.
    Raises FileError if the file cannot be written.
    """
    _check_uniform(module)
    writer = GGUFWriter(None, architecture)
    _add_keys(writer, module, f"{architecture}.engram")
    pieces = [
        piece
        for line in range(len(module.spec.layers))
        for piece in _pieces(module, line, rows[line], matrix_type)
    ]
    write_gguf(path, writer, pieces, progress)


def _check_uniform(module: MemoryModule) -> None:
    """The file has one value for all layers where layers could differ in memory."""
    shapes = {
        (
            layer.hash.n_heads,
            layer.hash.max_ngram,
            layer.hash.window,
            layer.hash.boundary,
            layer.hash.fill_id,
            layer.table.width,
        )
        for layer in module.spec.layers
    }
    if len(shapes) > 1:
        raise FormatError(
            f"the layers of {module.path} differ in heads, orders, width or rule; "
            "a memory file has one of each"
        )


def _pieces(
    module: MemoryModule,
    line: int,
    rows: RowSource | StoredRows,
    matrix_type: RowType,
) -> Iterator[Piece]:
    layer, weights = module.spec.layers[line], module.weights[line]
    for field, (name, shape) in weight_layout(layer, module.fusion).items():
        array = getattr(weights, field)
        if array is not None:
            kind = matrix_type if field in ("key", "value") else RowType.F32
            raw = encode_rows(array.reshape(shape[0], -1), kind)
            yield Piece(
                name=tensor_name(layer.layer_id, name),
                shape=shape,
                type_id=TYPE_IDS[kind],
                n_bytes=raw.nbytes,
                chunks=[raw],
                stored_bytes=raw.nbytes,
            )
    yield _table_piece(layer, rows)


def _table_piece(layer: LayerSpec, rows: RowSource | StoredRows) -> Piece:
    table = layer.table
    width = table.row_bytes if table.row_type is RowType.FP8 else table.width
    stored = rows if isinstance(rows, StoredRows) else _encoded(rows, table)
    return Piece(
        name=tensor_name(layer.layer_id, "embd.weight"),
        shape=(table.n_rows, width),
        type_id=TYPE_IDS[table.row_type],
        n_bytes=table.n_bytes,
        chunks=stored.chunks,
        stored_bytes=stored.n_bytes,
    )


def _encoded(rows: RowSource, table: TableSpec) -> StoredRows:
    chunks = (
        encode_rows(
            rows[start : min(start + _CHUNK_ROWS, table.n_rows)], table.row_type
        )
        for start in range(0, table.n_rows, _CHUNK_ROWS)
    )
    return StoredRows(chunks=chunks, n_bytes=table.n_bytes)


def _add_keys(writer: GGUFWriter, module: MemoryModule, prefix: str) -> None:
    layers, fusion = module.spec.layers, module.fusion
    first = layers[0].hash
    writer.add_type("adapter")
    writer.add_string("adapter.type", ADAPTER_TYPE)
    integers = {
        "head_count": first.n_heads,
        "key_length": layers[0].table.width,
        "max_ngram_size": first.max_ngram,
        "pad_id": first.fill_id,
        "branch_count": fusion.n_branches,
        "conv_kernel": fusion.conv_kernel,
        "conv_dilation": fusion.conv_dilation,
        "backbone.embedding_length": module.fingerprint.embedding_length,
        "backbone.block_count": module.fingerprint.block_count,
        "backbone.vocab_size": module.fingerprint.vocab_size,
    }
    for key, value in integers.items():
        writer.add_uint32(f"{prefix}.{key}", value)
    writer.add_string(f"{prefix}.window", first.window.value)
    writer.add_string(f"{prefix}.boundary", first.boundary.value)
    writer.add_string(
        f"{prefix}.backbone.tokens_sha256", module.fingerprint.tokens_sha256
    )
    writer.add_float32(f"{prefix}.norm_epsilon", fusion.norm_epsilon)
    writer.add_float32(f"{prefix}.conv_norm_epsilon", fusion.conv_norm_epsilon)
    _add_arrays(writer, module, prefix)


def _add_arrays(writer: GGUFWriter, module: MemoryModule, prefix: str) -> None:
    layers = module.spec.layers

    def add(key: str, values: list[int], kind: GGUFValueType) -> None:
        # Typed by hand: the default for Python integers, INT32, cuts the constants.
        name = f"{prefix}.{key}"
        writer.add_key_value(name, values, GGUFValueType.ARRAY, sub_type=kind)

    add("layer_ids", [layer.layer_id for layer in layers], GGUFValueType.INT32)
    add("token_map", module.token_map.tolist(), GGUFValueType.INT32)
    for key, field in (
        ("multipliers", "multipliers"),
        ("primes", "sizes"),
        ("offsets", "offsets"),
    ):
        values = [number for layer in layers for number in getattr(layer.hash, field)]
        add(key, values, GGUFValueType.UINT64)
