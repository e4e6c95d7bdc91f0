"""Small stand-ins: GGUF files spelled out by hand, memories of a few rows.

The GGUF writer here shares no code with the package or with gguf-py, so that a file can
be wrong in any place and a reader is not tested against its own writer.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engram_local.formats.backbone import tokens_sha256
from engram_local.memory.constants import derive_multipliers, derive_sizes, offsets_of
from engram_local.memory.module import FusionWeights, MemoryModule
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

F32 = NDArray[np.float32]
ALIGNMENT = 32

# Numbers of the GGUF specification.
UINT8, INT8, UINT16, INT16, UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY = range(10)
UINT64, INT64, FLOAT64 = 10, 11, 12
_FORMATS = {
    UINT8: "B",
    INT8: "b",
    UINT16: "H",
    INT16: "h",
    UINT32: "I",
    INT32: "i",
    FLOAT32: "f",
    BOOL: "?",
    UINT64: "Q",
    INT64: "q",
    FLOAT64: "d",
}
GGML_F32 = 0

Typed = tuple[int, Any]
"""A type number and a value; for arrays the value is again a Typed with a list."""


def u32(number: int) -> bytes:
    """Return four bytes, little-endian."""
    return struct.pack("<I", number)


def u64(number: int) -> bytes:
    """Return eight bytes, little-endian."""
    return struct.pack("<Q", number)


def string(text: str | bytes) -> bytes:
    """Return a GGUF string: its length and its bytes."""
    raw = text.encode() if isinstance(text, str) else text
    return u64(len(raw)) + raw


def value(kind: int, content: Any) -> bytes:
    """Return a value without its type number."""
    if kind == STRING:
        return string(content)
    if kind == ARRAY:
        element, items = content
        parts = [value(element, item) for item in items]
        return u32(element) + u64(len(parts)) + b"".join(parts)
    return struct.pack("<" + _FORMATS[kind], content)


def key(name: str | bytes, kind: int, content: Any) -> bytes:
    """Return one metadata entry."""
    return string(name) + u32(kind) + value(kind, content)


def tensor(
    name: str | bytes, shape: Sequence[int], kind: int = GGML_F32, offset: int = 0
) -> bytes:
    """Return one entry of the tensor list; `shape` in ggml order."""
    lengths = b"".join(u64(length) for length in shape)
    return string(name) + u32(len(shape)) + lengths + u32(kind) + u64(offset)


def gguf(
    keys: Sequence[bytes] = (),
    tensors: Sequence[bytes] = (),
    data: bytes = b"",
    *,
    magic: bytes = b"GGUF",
    version: int = 3,
    n_tensors: int | None = None,
    n_keys: int | None = None,
    alignment: int = ALIGNMENT,
) -> bytes:
    """Return a file; the counts are the true ones unless they are given."""
    head = magic + u32(version)
    head += u64(len(tensors) if n_tensors is None else n_tensors)
    head += u64(len(keys) if n_keys is None else n_keys)
    head += b"".join(keys) + b"".join(tensors)
    padding = bytes(-len(head) % alignment) if data else b""
    return head + padding + data


@dataclass(slots=True)
class Tensor:
    """A tensor of a file: shape in ggml order, ggml's type number, bytes."""

    shape: tuple[int, ...]
    kind: int
    raw: bytes

    @classmethod
    def of(cls, array: NDArray[Any]) -> Tensor:
        """Return a float32 tensor."""
        raw = np.ascontiguousarray(array, np.float32).tobytes()
        return cls(array.shape[::-1], GGML_F32, raw)


@dataclass(slots=True)
class File:
    """The parts of a GGUF file, to be changed before they are written."""

    keys: dict[str, Typed] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def write(self, path: Path) -> Path:
        """Write the file and return its path."""
        entries, data = [], b""
        for name, part in self.tensors.items():
            data += bytes(-len(data) % ALIGNMENT)
            entries.append(tensor(name, part.shape, part.kind, len(data)))
            data += part.raw
        keys = [key(name, kind, content) for name, (kind, content) in self.keys.items()]
        path.write_bytes(gguf(keys, entries, data))
        return path


TOKENS = [
    *("<|end|>", "a", "Ġa", "A", "b", "Ġb", "c", "d", "e", "f", "g", "h"),
    *("i", "j", "k", "l", "m", "n", "o", "p", "Ġ", "ĠĠ", "é", "Ã©"),
]
"""A byte-level vocabulary. "é" is one half of a character here, "Ã©" the whole é."""

N_CANONICAL = 19
"""Of TOKENS: three spellings of a, two of b, two of a blank; é (Ã©) is an e."""

HIDDEN_SIZE = 8
N_BLOCKS = 6


def backbone_file(
    *, tokens: Sequence[str] = TOKENS, hidden_size: int = HIDDEN_SIZE
) -> File:
    """Return a backbone of one small tensor."""
    kinds = [3 if token.startswith("<|") else 1 for token in tokens]
    return File(
        keys={
            "general.architecture": (STRING, "llama"),
            "general.name": (STRING, "tiny"),
            "llama.context_length": (UINT32, 128),
            "llama.embedding_length": (UINT32, hidden_size),
            "llama.block_count": (UINT32, N_BLOCKS),
            "tokenizer.ggml.model": (STRING, "gpt2"),
            "tokenizer.ggml.tokens": (ARRAY, (STRING, list(tokens))),
            "tokenizer.ggml.token_type": (ARRAY, (INT32, kinds)),
        },
        tensors={"token_embd.weight": Tensor.of(np.zeros((len(tokens), hidden_size)))},
    )


@dataclass(frozen=True, slots=True)
class Memory:
    """A memory in pieces, before it is written."""

    module: MemoryModule
    rows: tuple[F32, ...]


def make_memory(
    path: Path,
    *,
    row_type: RowType = RowType.F32,
    width: int = 32,
    layer_ids: Sequence[int] = (1, 4),
    hidden_size: int = HIDDEN_SIZE,
    n_branches: int = 1,
    conv_kernel: int = 3,
    biases: bool = False,
    window: Window = Window.NEWEST_FIRST,
    boundary: Boundary = Boundary.PAD,
    n_spare_rows: int = 3,
    seed: int = 0,
) -> Memory:
    """Return a random memory for the vocabulary TOKENS; orders 2 and 3, two heads."""
    random = np.random.default_rng(seed)
    fusion = FusionSpec(
        hidden_size=hidden_size,
        n_branches=n_branches,
        conv_kernel=conv_kernel,
        conv_dilation=2,
        norm_epsilon=2.0**-20,
        conv_norm_epsilon=2.0**-17,
    )
    all_sizes = derive_sizes((11, 23), n_layers=len(layer_ids), n_heads=2)
    layers = tuple(
        LayerSpec(
            layer_id=layer_id,
            hash=HashSpec(
                multipliers=derive_multipliers(
                    seed=seed, layer_id=layer_id, n_canonical=20, max_ngram=3
                ),
                sizes=sizes,
                offsets=offsets_of(sizes),
                n_heads=2,
                window=window,
                boundary=boundary,
                fill_id=2,
            ),
            table=TableSpec(
                row_type=row_type,
                width=width,
                n_rows=sum(sizes) + n_spare_rows,
                offset_bytes=0,
            ),
        )
        for layer_id, sizes in zip(layer_ids, all_sizes, strict=True)
    )
    token_map = np.arange(len(TOKENS), dtype=np.int32).clip(max=N_CANONICAL - 1)
    module = MemoryModule(
        path=path,
        spec=MemorySpec(layers=layers, n_canonical=N_CANONICAL),
        fusion=fusion,
        fingerprint=Fingerprint(
            embedding_length=hidden_size,
            block_count=N_BLOCKS,
            vocab_size=len(TOKENS),
            tokens_sha256=tokens_sha256(TOKENS),
        ),
        token_map=token_map,
        weights=tuple(
            random_weights(fusion, layer.embedding_size, random, biases=biases)
            for layer in layers
        ),
    )
    rows = tuple(
        normal(random, layer.table.n_rows, layer.table.width) for layer in layers
    )
    return Memory(module, rows)


def random_weights(
    fusion: FusionSpec,
    embedding_size: int,
    random: np.random.Generator,
    *,
    biases: bool = False,
) -> FusionWeights:
    """Return weights of one layer, of the size that training leaves."""
    d, n_branches = fusion.hidden_size, fusion.n_branches
    width = n_branches * d
    has_conv = fusion.conv_kernel > 0
    return FusionWeights(
        key=normal(random, width, embedding_size),
        value=normal(random, d, embedding_size),
        key_norm=1 + normal(random, n_branches, d) / 10,
        query_norm=1 + normal(random, n_branches, d) / 10,
        key_bias=normal(random, width) if biases else None,
        value_bias=normal(random, d) if biases else None,
        conv_norm=1 + normal(random, n_branches, d) / 10 if has_conv else None,
        conv=normal(random, width, fusion.conv_kernel) if has_conv else None,
    )


def normal(random: np.random.Generator, *shape: int) -> F32:
    """Return standard normal float32 numbers."""
    return random.standard_normal(shape, np.float32)


def memory_file(memory: Memory) -> File:
    """Return a float32 memory as a file, key by key as docs/memory.md lists them."""
    module = memory.module
    layers, fusion = module.spec.layers, module.fusion
    first = layers[0].hash

    def numbers(name: str) -> Typed:
        content = [i for layer in layers for i in getattr(layer.hash, name)]
        return ARRAY, (UINT64, content)

    engram = {
        "layer_ids": (ARRAY, (INT32, [layer.layer_id for layer in layers])),
        "head_count": (UINT32, first.n_heads),
        "key_length": (UINT32, layers[0].table.width),
        "max_ngram_size": (UINT32, first.max_ngram),
        "multipliers": numbers("multipliers"),
        "primes": numbers("sizes"),
        "offsets": numbers("offsets"),
        "token_map": (ARRAY, (INT32, module.token_map.tolist())),
        "pad_id": (UINT32, first.fill_id),
        "window": (STRING, first.window.value),
        "boundary": (STRING, first.boundary.value),
        "branch_count": (UINT32, fusion.n_branches),
        "conv_kernel": (UINT32, fusion.conv_kernel),
        "conv_dilation": (UINT32, fusion.conv_dilation),
        "norm_epsilon": (FLOAT32, fusion.norm_epsilon),
        "conv_norm_epsilon": (FLOAT32, fusion.conv_norm_epsilon),
        "backbone.embedding_length": (UINT32, module.fingerprint.embedding_length),
        "backbone.block_count": (UINT32, module.fingerprint.block_count),
        "backbone.vocab_size": (UINT32, module.fingerprint.vocab_size),
        "backbone.tokens_sha256": (STRING, module.fingerprint.tokens_sha256),
    }
    file = File(
        keys={
            "general.architecture": (STRING, "llama"),
            "general.type": (STRING, "adapter"),
            "adapter.type": (STRING, "engram"),
        }
    )
    file.keys |= {f"llama.engram.{name}": typed for name, typed in engram.items()}
    for layer, weights, rows in zip(layers, module.weights, memory.rows, strict=True):
        prefix = f"blk.{layer.layer_id}.engram_"
        arrays = {
            "k.weight": weights.key,
            "v.weight": weights.value,
            "k.bias": weights.key_bias,
            "v.bias": weights.value_bias,
            "k_norm.weight": weights.key_norm,
            "q_norm.weight": weights.query_norm,
            "conv_norm.weight": weights.conv_norm,
            "conv1d.weight": weights.conv,
            "embd.weight": rows,
        }
        file.tensors |= {
            prefix + name: Tensor.of(array)
            for name, array in arrays.items()
            if array is not None
        }
    return file


@dataclass(slots=True)
class AdapterFolder:
    """An engram-peft adapter for `backbone_file()`, to be changed before writing."""

    config: dict[str, Any]
    tensors: dict[str, NDArray[Any]]

    def write(self, folder: Path) -> Path:
        """Write the folder and return its path."""
        from safetensors.numpy import save_file

        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.config))
        save_file(self.tensors, folder / "engram_adapters.safetensors")
        return folder


def make_adapter(
    *, layer_ids: Sequence[int] = (4, 1), n_branches: int = 2, width: int = 4
) -> AdapterFolder:
    """Return an adapter of orders 2 and 3 with two heads and random weights."""
    d, n_slots, kernel = HIDDEN_SIZE, 4, 3
    random = np.random.default_rng(5)
    tensors: dict[str, NDArray[Any]] = {}
    all_sizes = derive_sizes((20, 30), n_layers=len(layer_ids), n_heads=2)
    for layer_id, sizes in zip(sorted(layer_ids), all_sizes, strict=True):
        prefix = f"{layer_id}."
        table = prefix + "multi_head_embedding.embedding.weight"
        tensors[table] = normal(random, sum(sizes), width)
        tensors[prefix + "gating.w_v.weight"] = normal(random, d, n_slots * width)
        conv = normal(random, n_branches * d, 1, kernel)
        tensors[prefix + "short_conv.conv.weight"] = conv
        for branch in range(n_branches):
            key_weight = normal(random, d, n_slots * width)
            tensors[f"{prefix}gating.w_k.{branch}.weight"] = key_weight
            for norm in ("gating.norm_h", "gating.norm_k", "short_conv.norms"):
                tensors[f"{prefix}{norm}.{branch}.weight"] = normal(random, d)
    config = {
        "model_type": "engram",
        "engine": "deepseek",
        "enable_tokenizer_compression": True,
        "table_source": "memory",
        "prime_sizes": None,
        "ngram_sizes": [2, 3],
        "n_head_per_ngram": 2,
        "engram_vocab_size_per_ngram": [40, 60],
        "compressed_vocab_size": N_CANONICAL,
        "hidden_size": d,
        "hc_mult": n_branches,
        "conv_kernel_size": kernel,
        "conv_dilation": 3,
        "target_layers": list(layer_ids),
        "pad_id": 2,
        "seed": 3,
    }
    return AdapterFolder(config, tensors)


def read_golden(path: Path) -> tuple[dict[str, NDArray[Any]], Mapping[str, Any]]:
    """Return the arrays and the description of a golden file."""
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return arrays, json.loads((file.metadata() or {}).get("meta", "{}"))
