"""The trained memory as a file that `engram-local` runs.

`python -m models.train.export` writes one again from a checkpoint, with other rows.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engram_local.formats.backbone import read_backbone, read_token_map
from engram_local.formats.engram_writer import write_memory
from engram_local.formats.header import Header, read_header
from engram_local.memory.module import FusionWeights, MemoryModule
from engram_local.spec import MEMORY_TYPES, LayerSpec, MemorySpec, RowType, TableSpec
from models.train.memory import Memory, MemoryLayer, Recipe


def new_memory(backbone: Header) -> Memory:
    """Return an untrained memory for the GGUF with that header."""
    return Memory(
        Recipe(),
        read_backbone(backbone).fingerprint.embedding_length,
        read_token_map(backbone),
        backbone.integer("tokenizer.ggml.padding_token_id"),
    )


def export(
    memory: Memory, backbone: Header, path: Path, row_type: RowType = RowType.Q8_0
) -> None:
    """Write `memory`, trained for the GGUF with that header, to `path`."""
    spec = read_backbone(backbone)
    recipe = memory.recipe
    module = MemoryModule(
        path=path,
        spec=_spec(memory, row_type),
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


def _spec(memory: Memory, row_type: RowType) -> MemorySpec:
    layers = zip(memory.recipe.layer_ids, memory.hashes, strict=True)
    return MemorySpec(
        layers=tuple(
            LayerSpec(
                layer_id=layer_id,
                hash=hash_spec,
                table=TableSpec(
                    row_type=row_type,
                    width=memory.recipe.width,
                    n_rows=hash_spec.n_rows,
                    offset_bytes=0,
                ),
            )
            for layer_id, hash_spec in layers
        ),
        n_canonical=int(memory.token_map.max()) + 1,
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


def main(argv: Sequence[str] | None = None) -> int:
    """Export a checkpoint of `train.py`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="backbone GGUF")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows-type", choices=list(MEMORY_TYPES), default=RowType.Q8_0)
    args = parser.parse_args(argv)
    header = read_header(args.model)
    memory = new_memory(header)
    memory.load_state_dict(torch.load(args.checkpoint, weights_only=True)["memory"])
    export(memory, header, args.out, RowType(args.rows_type))
    return 0


if __name__ == "__main__":
    sys.exit(main())
