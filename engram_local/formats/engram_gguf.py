"""The memory file: a GGUF of its own, like a LoRA adapter (docs/memory.md).

Keys are `{architecture}.engram.*`, named as in llama.cpp's `deepseek41` where they mean
the same thing. A row is found by its offset alone, so a file may be larger than
RAM by any factor. `engram_writer` writes it.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from engram_local.errors import FileError, FormatError, MismatchError
from engram_local.formats.header import Header, TensorInfo, open_error
from engram_local.memory.module import FusionWeights, MemoryModule
from engram_local.memory.rows import decode_rows
from engram_local.spec import (
    Boundary,
    Fingerprint,
    FusionSpec,
    HashSpec,
    LayerSpec,
    MemorySpec,
    RowType,
    TableSpec,
    Window,
)
from engram_local.units import escape_control

F32 = NDArray[np.float32]

ADAPTER_TYPE = "engram"
MAX_LAYERS = 4096
MAX_CONV_KERNEL = 1024

TYPE_IDS = {
    RowType.F32: 0,
    RowType.F16: 1,
    RowType.BF16: 30,
    RowType.Q8_0: 8,
    RowType.Q4_0: 2,
    RowType.FP8: 24,  # I8: width values, then one scale per 32
}


def matches(header: Header) -> bool:
    """Return whether the file is a memory in this format."""
    return header.metadata.get("adapter.type") == ADAPTER_TYPE


def read_memory(header: Header) -> MemoryModule:
    """Read a memory, all but its rows.

    Raises FileError if the GGUF is something else, FormatError if its numbers
    contradict each other.
    """
    if not matches(header):
        raise FileError(
            f"{header.path} is a GGUF, but not an Engram memory",
            hint="make one with `engram-local convert`",
        )
    try:
        return _Reader(header).read()
    except FormatError as error:
        if str(header.path) in error.message:
            raise
        raise FormatError(f"{header.path}: {error.message}", hint=error.hint) from error


def read_fingerprint(header: Header) -> Fingerprint:
    """Return which backbone a memory belongs to, without reading the rest."""
    return _Reader(header).fingerprint()


def require_backbone(module: MemoryModule, found: Fingerprint) -> None:
    """Raise MismatchError if the memory was made for another backbone."""
    for field in fields(Fingerprint):
        needed = getattr(module.fingerprint, field.name)
        given = getattr(found, field.name)
        if needed != given:
            raise MismatchError(
                f"{module.path} was made for a backbone with {field.name} {needed}, "
                f"this one has {given}",
                hint="choose the memory of this model, or run with --no-memory",
            )


class _Reader:
    def __init__(self, header: Header) -> None:
        self._header = header
        self._prefix = f"{header.architecture}.engram"

    def read(self) -> MemoryModule:
        fingerprint = self.fingerprint()
        fusion = self._fusion(fingerprint.embedding_length)
        token_map = self._token_map(fingerprint.vocab_size)
        spec = MemorySpec(
            layers=self._layers(fingerprint.block_count),
            n_canonical=int(token_map.max()) + 1,
        )
        return MemoryModule(
            path=self._header.path,
            spec=spec,
            fusion=fusion,
            fingerprint=fingerprint,
            token_map=token_map,
            weights=tuple(self._weights(layer, fusion) for layer in spec.layers),
        )

    def _integer(self, key: str, low: int = 0, high: int = 2**31 - 1) -> int:
        value = self._header.integer(f"{self._prefix}.{key}")
        if not low <= value <= high:
            raise FormatError(
                f"{self._header.path}: {self._prefix}.{key} is {value}, "
                f"{low} to {high} are possible"
            )
        return value

    def _integers(self, key: str) -> list[int]:
        return [int(i) for i in self._header.integers(f"{self._prefix}.{key}")]

    def fingerprint(self) -> Fingerprint:
        return Fingerprint(
            embedding_length=self._integer("backbone.embedding_length", 1),
            block_count=self._integer("backbone.block_count", 1, MAX_LAYERS),
            vocab_size=self._integer("backbone.vocab_size", 1),
            tokens_sha256=self._header.text(f"{self._prefix}.backbone.tokens_sha256"),
        )

    def _fusion(self, hidden_size: int) -> FusionSpec:
        return FusionSpec(
            hidden_size=hidden_size,
            n_branches=self._integer("branch_count", 1, 256),
            conv_kernel=self._integer("conv_kernel", 0, MAX_CONV_KERNEL),
            conv_dilation=self._integer("conv_dilation", 1, MAX_CONV_KERNEL),
            norm_epsilon=self._epsilon("norm_epsilon"),
            conv_norm_epsilon=self._epsilon("conv_norm_epsilon"),
        )

    def _epsilon(self, key: str) -> float:
        value = self._header.number(f"{self._prefix}.{key}")
        if not 0 < value < 1:  # also false for NaN, which would reach every state
            raise FormatError(
                f"{self._header.path}: {self._prefix}.{key} is {value}, a number "
                "between 0 and 1 is needed"
            )
        return value

    def _token_map(self, vocab_size: int) -> NDArray[np.int32]:
        key = f"{self._prefix}.token_map"
        token_map = self._header.integers(key)
        if len(token_map) != vocab_size:
            raise FormatError(
                f"{self._header.path}: {key} has {len(token_map)} entries, the "
                f"vocabulary {vocab_size}"
            )
        low, high = int(token_map.min()), int(token_map.max())
        if low < 0 or high >= vocab_size:
            raise FormatError(
                f"{self._header.path}: {key} has ids {low} to {high}, "
                f"0 to {vocab_size - 1} are possible"
            )
        return np.array(token_map, np.int32)

    def _layers(self, block_count: int) -> tuple[LayerSpec, ...]:
        layer_ids = self._integers("layer_ids")
        if not layer_ids or max(layer_ids) >= block_count:
            raise FormatError(
                f"{self._header.path}: memory layers {layer_ids} do not fit a backbone "
                f"of {block_count} layers"
            )
        max_ngram = self._integer("max_ngram_size", 2, 64)
        n_heads = self._integer("head_count", 1, 4096)
        n_slots = (max_ngram - 1) * n_heads
        multipliers = self._per_layer("multipliers", len(layer_ids), max_ngram)
        sizes = self._per_layer("primes", len(layer_ids), n_slots)
        offsets = self._per_layer("offsets", len(layer_ids), n_slots)
        return tuple(
            LayerSpec(
                layer_id=layer_id,
                hash=HashSpec(
                    multipliers=multipliers[line],
                    sizes=sizes[line],
                    offsets=offsets[line],
                    n_heads=n_heads,
                    window=self._window(),
                    boundary=self._boundary(),
                    fill_id=self._integer("pad_id"),
                ),
                table=self._table(layer_id),
            )
            for line, layer_id in enumerate(layer_ids)
        )

    def _per_layer(
        self, key: str, n_layers: int, n_values: int
    ) -> list[tuple[int, ...]]:
        values = self._integers(key)
        if len(values) != n_layers * n_values:
            raise FormatError(
                f"{self._header.path}: {self._prefix}.{key} has {len(values)} values, "
                f"{n_layers} layers of {n_values} need {n_layers * n_values}"
            )
        return [
            tuple(values[line * n_values : (line + 1) * n_values])
            for line in range(n_layers)
        ]

    def _window(self) -> Window:
        text = self._header.text(f"{self._prefix}.window")
        with suppress(ValueError):
            return Window(text)
        raise self._unknown("window", text, Window)

    def _boundary(self) -> Boundary:
        text = self._header.text(f"{self._prefix}.boundary")
        with suppress(ValueError):
            return Boundary(text)
        raise self._unknown("boundary", text, Boundary)

    def _unknown(self, key: str, found: str, known: Iterable[str]) -> FormatError:
        return FormatError(
            f"{self._header.path}: {self._prefix}.{key} is {escape_control(found)}, "
            f"known are {', '.join(known)}",
            hint="the file may be newer than this program",
        )

    def _table(self, layer_id: int) -> TableSpec:
        tensor = self._tensor(layer_id, "embd.weight")
        width = self._integer("key_length", 1, 1 << 20)
        types = {type_id: row_type for row_type, type_id in TYPE_IDS.items()}
        if tensor.type_id not in types:
            raise FormatError(
                f"{self._header.path}: {tensor.name} has the element type "
                f"{tensor.type_id}, rows may be {', '.join(TYPE_IDS)}"
            )
        row_type = types[tensor.type_id]
        row_bytes = row_type.row_bytes(width)  # refuses a width that does not fit
        stored = row_bytes if row_type is RowType.FP8 else width
        if len(tensor.shape) != 2 or tensor.shape[0] != stored:
            raise FormatError(
                f"{self._header.path}: {tensor.name} has the shape {tensor.shape}, "
                f"rows of width {width} need ({stored}, rows)"
            )
        return TableSpec(
            row_type=row_type,
            width=width,
            n_rows=tensor.shape[1],
            offset_bytes=tensor.offset_bytes,
        )

    def _tensor(self, layer_id: int, name: str) -> TensorInfo:
        return self._header.tensor(tensor_name(layer_id, name))

    def _weights(self, layer: LayerSpec, fusion: FusionSpec) -> FusionWeights:
        arrays = {}
        for field, (name, shape) in weight_layout(layer, fusion).items():
            full_name = tensor_name(layer.layer_id, name)
            if name.endswith(".bias") and full_name not in self._header.tensors:
                continue
            arrays[field] = self._array(self._header.tensor(full_name), shape)
        return FusionWeights(**arrays)

    def _array(self, tensor: TensorInfo, shape: tuple[int, ...]) -> F32:
        if tensor.shape[::-1] != shape:
            raise FormatError(
                f"{self._header.path}: {tensor.name} has the shape "
                f"{tensor.shape[::-1]}, {shape} is needed"
            )
        types = {type_id: row_type for row_type, type_id in TYPE_IDS.items()}
        row_type = types.get(tensor.type_id)
        if row_type not in (RowType.F32, RowType.F16, RowType.BF16):
            raise FormatError(
                f"{self._header.path}: {tensor.name} has the element type "
                f"{tensor.type_id}; f32, f16 and bf16 can be read"
            )
        return self._read_array(tensor, row_type, shape)

    def _read_array(
        self, tensor: TensorInfo, row_type: RowType, shape: tuple[int, ...]
    ) -> F32:
        try:
            raw = np.fromfile(
                self._header.path,
                np.uint8,
                count=tensor.n_elements * row_type.row_bytes(1),
                offset=tensor.offset_bytes,
            )
        except OSError as error:
            raise open_error(self._header.path, error) from error
        out = np.empty((1, tensor.n_elements), np.float32)
        if len(raw) != tensor.n_elements * row_type.row_bytes(1):
            raise FormatError(f"{self._header.path} became shorter while it was read")
        decode_rows(raw, np.zeros(1, np.int64), row_type, out)
        if not np.isfinite(out).all():
            raise FormatError(
                f"{self._header.path}: {tensor.name} holds NaN or infinite values",
                hint="the file is damaged, or its training diverged",
            )
        return out.reshape(shape)


def tensor_name(layer_id: int, name: str) -> str:
    """Return the full name of a memory tensor."""
    return f"blk.{layer_id}.engram_{name}"


def weight_layout(
    layer: LayerSpec, fusion: FusionSpec
) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return name and shape (C order) of each field of FusionWeights."""
    d, n_branches = fusion.hidden_size, fusion.n_branches
    width = n_branches * d
    layout: dict[str, tuple[str, tuple[int, ...]]] = {
        "key": ("k.weight", (width, layer.embedding_size)),
        "value": ("v.weight", (d, layer.embedding_size)),
        "key_bias": ("k.bias", (width,)),
        "value_bias": ("v.bias", (d,)),
        "key_norm": ("k_norm.weight", (n_branches, d)),
        "query_norm": ("q_norm.weight", (n_branches, d)),
    }
    if fusion.conv_kernel:
        layout["conv_norm"] = ("conv_norm.weight", (n_branches, d))
        layout["conv"] = ("conv1d.weight", (width, fusion.conv_kernel))
    return layout
