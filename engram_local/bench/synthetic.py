"""Memories of any size with random rows and weights: real shapes, real bytes.

Speed depends on shapes, types and places, hardly on values, so it can be measured on
memories and models that nobody can download. What they say is noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engram_local.bench.random_bytes import RandomBytes
from engram_local.errors import UsageError
from engram_local.formats.backbone import read_backbone
from engram_local.formats.engram_writer import StoredRows, write_memory
from engram_local.formats.pieces import Progress
from engram_local.formats.split import read_model_header
from engram_local.memory.constants import derive_multipliers, derive_sizes, offsets_of
from engram_local.memory.module import FusionWeights, MemoryModule
from engram_local.spec import (
    BackboneSpec,
    Boundary,
    FusionSpec,
    HashSpec,
    LayerSpec,
    MemorySpec,
    RowType,
    TableSpec,
    Window,
)
from engram_local.units import MIB, format_bytes

ROW_TYPES = (RowType.Q8_0, RowType.F16, RowType.Q4_0)
"""What the rows of a synthetic memory may be stored as."""

_KEY_STD = 0.02
_DELTA_STD = 0.01  # small beside the hidden state


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryShape:
    """The numbers of a memory; the defaults are those of the shipped one.

    Raises UsageError, or FormatError if the width does not fit the row type.
    """

    layer_ids: tuple[int, ...] = (2, 14)
    """Ascending; `spread_layers` places any number of them."""

    n_heads: int = 4
    max_ngram: int = 3
    width: int = 32
    row_type: RowType = RowType.Q8_0
    table_bytes: int = 8 * MIB
    """Of all layers together; a little more, as each slot has a prime of its own."""

    real_bytes: int | None = None
    """Bytes of each layer's table that are random data, from its start; the rest is a
    hole in the file, rows of zeros that take no space and no time. None = all."""

    n_branches: int = 1
    conv_kernel: int = 4

    def __post_init__(self) -> None:
        least = min(len(self.layer_ids), self.n_heads, self.n_branches, self.width)
        if least < 1 or self.max_ngram < 2 or self.conv_kernel < 0:
            raise UsageError(
                "a memory needs a layer, a head, a branch, a width and n-grams of 2"
            )
        if self.row_type not in ROW_TYPES:
            raise UsageError(
                f"synthetic rows may be {', '.join(ROW_TYPES)}, not {self.row_type}"
            )
        if self.rows_per_slot < 1:
            raise UsageError(
                f"a table of {format_bytes(self.table_bytes)} has no row for each of "
                f"its {self.n_slots * len(self.layer_ids)} slots"
            )

    @property
    def n_slots(self) -> int:
        """Rows gathered for one token, one layer."""
        return (self.max_ngram - 1) * self.n_heads

    @property
    def rows_per_slot(self) -> int:
        """Rows of each slot of each layer, before they are made primes."""
        row_bytes = self.row_type.row_bytes(self.width)
        return self.table_bytes // (len(self.layer_ids) * self.n_slots * row_bytes)


def spread_layers(n_layers: int, depth: int) -> tuple[int, ...]:
    """Return where `n_layers` memory layers go in a backbone of `depth` layers.

    Evenly from layer 2 on: what lies before the first is the time to read rows in.
    Raises UsageError if they are more than the backbone has.
    """
    if not 1 <= n_layers <= depth:
        raise UsageError(
            f"{n_layers} memory layers do not go into a backbone of {depth}"
        )
    first = min(2, depth - n_layers)
    return tuple(first + i * (depth - first) // n_layers for i in range(n_layers))


def write_synthetic_memory(
    path: Path,
    backbone_path: Path,
    shape: MemoryShape,
    *,
    progress: Progress | None = None,
) -> None:
    """Write a memory with random rows and weights that fits the backbone.

    The backbone may be any GGUF, synthetic or not. Raises UsageError if it has fewer
    layers, FileError if a file cannot be read or written.
    """
    backbone = read_backbone(read_model_header(backbone_path))
    if max(shape.layer_ids) >= backbone.fingerprint.block_count:
        raise UsageError(
            f"memory layer {max(shape.layer_ids)} is not in a backbone of "
            f"{backbone.fingerprint.block_count} layers"
        )
    module = _module(path, backbone, shape)
    source = RandomBytes(shape.row_type, std=1.0)
    rows = [
        _rows(layer.table, shape.real_bytes, source) for layer in module.spec.layers
    ]
    write_memory(
        path, module, rows, architecture=backbone.architecture, progress=progress
    )


def _module(path: Path, backbone: BackboneSpec, shape: MemoryShape) -> MemoryModule:
    fingerprint = backbone.fingerprint
    fusion = FusionSpec(
        hidden_size=fingerprint.embedding_length,
        n_branches=shape.n_branches,
        conv_kernel=shape.conv_kernel,
        conv_dilation=shape.max_ngram,  # DeepSeek's choice
    )
    spec = MemorySpec(
        layers=_layers(shape, fingerprint.vocab_size),
        n_canonical=fingerprint.vocab_size,
    )
    generator = np.random.default_rng(0)
    return MemoryModule(
        path=path,
        spec=spec,
        fusion=fusion,
        fingerprint=fingerprint,
        token_map=np.arange(fingerprint.vocab_size, dtype=np.int32),
        weights=tuple(_weights(layer, fusion, generator) for layer in spec.layers),
    )


def _layers(shape: MemoryShape, n_canonical: int) -> tuple[LayerSpec, ...]:
    all_sizes = derive_sizes(
        [shape.rows_per_slot] * (shape.max_ngram - 1),
        n_layers=len(shape.layer_ids),
        n_heads=shape.n_heads,
    )
    return tuple(
        LayerSpec(
            layer_id=layer_id,
            hash=_hash(shape, layer_id, sizes, n_canonical),
            table=TableSpec(
                row_type=shape.row_type,
                width=shape.width,
                n_rows=sum(sizes),
                offset_bytes=0,
            ),
        )
        for layer_id, sizes in zip(shape.layer_ids, all_sizes, strict=True)
    )


def _hash(
    shape: MemoryShape, layer_id: int, sizes: tuple[int, ...], n_canonical: int
) -> HashSpec:
    return HashSpec(
        multipliers=derive_multipliers(
            seed=0,
            layer_id=layer_id,
            n_canonical=n_canonical,
            max_ngram=shape.max_ngram,
        ),
        sizes=sizes,
        offsets=offsets_of(sizes),
        n_heads=shape.n_heads,
        window=Window.NEWEST_FIRST,
        boundary=Boundary.PAD,
        fill_id=0,
    )


def _weights(
    layer: LayerSpec, fusion: FusionSpec, generator: np.random.Generator
) -> FusionWeights:
    """Keys of any size do, they are normalised; values and taps give small deltas."""
    d, width = fusion.hidden_size, fusion.n_branches * fusion.hidden_size

    def random(*shape: int, std: float) -> NDArray[np.float32]:
        return generator.standard_normal(shape, np.float32) * np.float32(std)

    taps = random(width, fusion.conv_kernel, std=_DELTA_STD)
    ones = np.ones((fusion.n_branches, d), np.float32)
    value_std = _DELTA_STD / layer.embedding_size**0.5  # rows have a deviation near 1
    return FusionWeights(
        key=random(width, layer.embedding_size, std=_KEY_STD),
        value=random(d, layer.embedding_size, std=value_std),
        key_norm=ones,
        query_norm=ones,
        conv_norm=ones if fusion.conv_kernel else None,
        conv=taps if fusion.conv_kernel else None,
    )


def _rows(table: TableSpec, real_bytes: int | None, source: RandomBytes) -> StoredRows:
    n_bytes = table.n_bytes
    if real_bytes is not None:
        n_rows = min(real_bytes // table.row_bytes, table.n_rows)
        n_bytes = n_rows * table.row_bytes
    return StoredRows(chunks=source.take(n_bytes), n_bytes=n_bytes)
