"""The trained memory as a file that `engram-local` runs: rows in Q8_0."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from engram_local.formats.backbone import read_backbone
from engram_local.formats.engram_writer import write_memory
from engram_local.formats.header import Header
from engram_local.memory.module import FusionWeights, MemoryModule
from engram_local.spec import HashSpec, LayerSpec, MemorySpec, RowType, TableSpec
from models.train.memory import Memory, MemoryLayer


def export(memory: Memory, backbone: Header, path: Path) -> None:
    """Write `memory`, trained for the GGUF with that header, to `path`."""
    spec = read_backbone(backbone)
    recipe = memory.recipe
    module = MemoryModule(
        path=path,
        spec=_spec(memory),
        fusion=recipe.fusion(spec.fingerprint.embedding_length),
        fingerprint=spec.fingerprint,
        token_map=memory.token_map,
        weights=tuple(_weights(layer) for layer in memory.memory_layers()),
    )
    write_memory(
        path,
        module,
        [_array(layer.table.weight) for layer in memory.memory_layers()],
        architecture=spec.architecture,
        matrix_type=RowType.F16,
    )


def _spec(memory: Memory) -> MemorySpec:
    layers = zip(memory.recipe.layer_ids, memory.hashes, strict=True)
    return MemorySpec(
        layers=tuple(
            LayerSpec(
                layer_id=layer_id,
                hash=hash_spec,
                table=_table(hash_spec, memory.recipe.width),
            )
            for layer_id, hash_spec in layers
        ),
        n_canonical=int(memory.token_map.max()) + 1,
    )


def _table(hash_spec: HashSpec, width: int) -> TableSpec:
    return TableSpec(
        row_type=RowType.Q8_0, width=width, n_rows=hash_spec.n_rows, offset_bytes=0
    )


def _weights(layer: MemoryLayer) -> FusionWeights:
    return FusionWeights(
        key=_array(layer.key.weight),
        value=_array(layer.value.weight),
        key_norm=_array(layer.key_norm)[None],
        query_norm=_array(layer.query_norm)[None],
        conv_norm=_array(layer.conv_norm)[None],
        conv=_array(layer.conv),
    )


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(tensor.detach().numpy(), np.float32)
