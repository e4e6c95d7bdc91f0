"""Writing a memory file, in pieces, through a temporary name."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from gguf import GGMLQuantizationType, GGUFValueType, GGUFWriter
from numpy.typing import NDArray

from engram_local.errors import FileError, FormatError
from engram_local.formats.engram_gguf import (
    ADAPTER_TYPE,
    TYPE_IDS,
    tensor_name,
    weight_layout,
)
from engram_local.formats.header import DEFAULT_ALIGNMENT
from engram_local.memory.module import MemoryModule
from engram_local.memory.rows import encode_rows
from engram_local.spec import LayerSpec, RowType
from engram_local.units import format_bytes

F32 = NDArray[np.float32]
Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all."""

_CHUNK_ROWS = 65_536


class RowSource(Protocol):
    """Rows of one layer: a numpy array, or a lazy slice of a file."""

    def __getitem__(self, rows: slice, /) -> F32:
        """Return (n_rows, width) float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """One tensor to be written."""

    name: str
    shape: tuple[int, ...]
    row_type: RowType
    n_bytes: int
    chunks: Iterable[NDArray[np.uint8]]


def write_memory(
    path: Path,
    module: MemoryModule,
    rows: Sequence[RowSource],
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
    part = path.with_name(path.name + ".part")
    try:
        if path.is_dir():  # else it is noticed when all is written
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        _check_space(path, module)
        _write(part, module, rows, architecture, matrix_type, progress)
        os.replace(part, path)
    except OSError as error:
        raise FileError(
            f"{path} cannot be written: {error.strerror or error}",
            hint="choose another place with -o, or free some space",
        ) from error
    finally:
        with suppress(OSError):  # what failed before is the error to tell
            part.unlink(missing_ok=True)


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


def _check_space(path: Path, module: MemoryModule) -> None:
    free_bytes = shutil.disk_usage(path.parent).free
    if free_bytes < module.spec.table_bytes:
        raise FileError(
            f"{path.parent} has {format_bytes(free_bytes)} free, the table needs "
            f"{format_bytes(module.spec.table_bytes)}",
            hint="choose another place with -o, or free some space",
        )


def _write(
    path: Path,
    module: MemoryModule,
    rows: Sequence[RowSource],
    architecture: str,
    matrix_type: RowType,
    progress: Progress | None,
) -> None:
    """gguf-py writes the header; the tensors follow in chunks, as it would pad them."""
    pieces = [
        piece
        for line in range(len(module.spec.layers))
        for piece in _pieces(module, line, rows[line], matrix_type)
    ]
    writer = GGUFWriter(None, architecture)
    try:
        _add_keys(writer, module, f"{architecture}.engram")
        for piece in pieces:
            writer.add_tensor_info(
                piece.name,
                piece.shape,
                np.dtype(np.float32),
                piece.n_bytes,
                GGMLQuantizationType(TYPE_IDS[piece.row_type]),
            )
        writer.write_header_to_file(path)
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        assert writer.fout is not None
        _write_tensors(writer.fout[0], pieces, progress)
    finally:
        writer.close()


def _write_tensors(
    file: BinaryIO, pieces: Sequence[_Piece], progress: Progress | None
) -> None:
    total_bytes = sum(piece.n_bytes for piece in pieces)
    done_bytes = 0
    for piece in pieces:
        file.write(bytes(-file.tell() % DEFAULT_ALIGNMENT))
        for chunk in piece.chunks:
            file.write(chunk.data)
            done_bytes += chunk.nbytes
            if progress is not None:
                progress(done_bytes, total_bytes)
    file.write(bytes(-file.tell() % DEFAULT_ALIGNMENT))


def _pieces(
    module: MemoryModule, line: int, rows: RowSource, matrix_type: RowType
) -> Iterator[_Piece]:
    layer, weights = module.spec.layers[line], module.weights[line]
    for field, (name, shape) in weight_layout(layer, module.fusion).items():
        array = getattr(weights, field)
        if array is not None:
            kind = matrix_type if field in ("key", "value") else RowType.F32
            raw = encode_rows(array.reshape(shape[0], -1), kind)
            yield _Piece(
                name=tensor_name(layer.layer_id, name),
                shape=shape,
                row_type=kind,
                n_bytes=raw.nbytes,
                chunks=[raw],
            )
    yield _table_piece(layer, rows)


def _table_piece(layer: LayerSpec, rows: RowSource) -> _Piece:
    table = layer.table
    width = table.row_bytes if table.row_type is RowType.FP8 else table.width
    return _Piece(
        name=tensor_name(layer.layer_id, "embd.weight"),
        shape=(table.n_rows, width),
        row_type=table.row_type,
        n_bytes=table.n_bytes,
        chunks=(
            encode_rows(
                rows[start : min(start + _CHUNK_ROWS, table.n_rows)], table.row_type
            )
            for start in range(0, table.n_rows, _CHUNK_ROWS)
        ),
    )


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
