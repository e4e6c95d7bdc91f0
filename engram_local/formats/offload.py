"""Which tensors of a model lie on a GPU, and where they were in their files."""

from __future__ import annotations

import re
from pathlib import Path

from engram_local.formats.header import Header, TensorInfo
from engram_local.formats.model_keys import ModelKeys
from engram_local.formats.weights import part_of
from engram_local.model_spec import Part

_BLOCK = re.compile(r"blk\.(\d+)\.")
_STAY = (Part.EMBEDDING, Part.TABLE, Part.UNUSED)
"""Inputs are looked up in RAM; a tied output has a copy of its own on the GPU."""


def tensors_on_gpu(
    header: Header, n_gpu_layers: int | None, n_cpu_moe: int
) -> tuple[TensorInfo, ...]:
    """Return what lies on a GPU, if there is one and it holds all that was asked for.

    n_gpu_layers: as -ngl; None or below zero = all. llama.cpp counts from the end:
    the output, then the blocks, draft heads included (llama-model.cpp, load_tensors).
    Small tensors that belong to no block are left out: which of them are copied
    depends on the architecture.
    """
    keys = ModelKeys.of(header)
    n_most = keys.n_blocks + 1
    asked = n_most if n_gpu_layers is None or n_gpu_layers < 0 else n_gpu_layers
    first_block = n_most - min(asked, n_most)

    def is_on_gpu(tensor: TensorInfo) -> bool:
        part = part_of(tensor.name, keys.n_layers)
        block = _BLOCK.match(tensor.name)
        if part in _STAY or asked == 0:
            return False
        if block is None:
            return part is Part.OUTPUT
        layer_id = int(block[1])
        in_ram = part is Part.EXPERTS and layer_id < n_cpu_moe
        return layer_id >= first_block and not in_ram

    return tuple(filter(is_on_gpu, header.tensors.values()))


def byte_ranges(tensors: tuple[TensorInfo, ...]) -> dict[Path, list[tuple[int, int]]]:
    """Return begin and end of what the tensors take in each file, in order, merged.

    Tensors that follow each other share a range, with the padding between them.
    """
    found: dict[Path, list[tuple[int, int]]] = {}
    for tensor in sorted(tensors, key=lambda one: one.offset_bytes):
        ranges = found.setdefault(tensor.path, [])
        begin, end = tensor.offset_bytes, tensor.offset_bytes + tensor.room_bytes
        if ranges and ranges[-1][1] >= begin:
            begin = ranges.pop()[0]
        ranges.append((begin, end))
    return found
