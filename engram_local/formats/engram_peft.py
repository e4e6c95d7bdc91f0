"""An engram-peft adapter folder -> a memory (engram-peft 1.2.x, engine "deepseek").

Its hash is a dialect of its own: windows run from the oldest id, and table sizes start
at rows // heads. It saves neither constants nor token map; both are derived here, once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engram_local.errors import FileError, FormatError, MismatchError, UnsupportedError
from engram_local.formats.backbone import read_backbone, read_token_map
from engram_local.formats.header import Header
from engram_local.memory.constants import (
    derive_multipliers,
    derive_sizes,
    offsets_of,
)
from engram_local.memory.module import FusionWeights, MemoryModule
from engram_local.spec import (
    Boundary,
    FusionSpec,
    HashSpec,
    LayerSpec,
    MemorySpec,
    RowType,
    TableSpec,
    Window,
)

F32 = NDArray[np.float32]
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "engram_adapters.safetensors"
_DTYPES = ("F32", "F16", "F64")  # those that numpy has


def matches(folder: Path) -> bool:
    """Return whether `folder` looks like an engram-peft adapter."""
    return (folder / CONFIG_FILE).is_file() and (folder / WEIGHTS_FILE).is_file()


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """A memory and where its rows come from, for `write_memory`."""

    module: MemoryModule
    rows: tuple[_Rows, ...]
    architecture: str


@contextmanager
def open_adapter(
    folder: Path, backbone: Header, row_type: RowType
) -> Iterator[Adapter]:
    """Open an adapter trained for `backbone`; its rows are read while it is open.

    Raises FileError for a folder that is no adapter, UnsupportedError for one whose
    options are not known here, MismatchError for one of another backbone.
    """
    from safetensors import SafetensorError, safe_open

    config = _Config(folder)
    try:
        with safe_open(folder / WEIGHTS_FILE, "numpy") as weights:
            yield _Reader(config, weights, backbone, row_type).read()
    except (SafetensorError, OSError) as error:
        raise FormatError(f"{folder / WEIGHTS_FILE} cannot be read: {error}") from error


class _Rows:
    """A table inside the safetensors file, read slice by slice."""

    def __init__(self, table: Any) -> None:
        self._table = table

    def __getitem__(self, rows: slice) -> F32:
        return np.asarray(self._table[rows], np.float32)


class _Config:
    """config.json with types checked at every access."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / CONFIG_FILE
        if not matches(folder):
            raise FileError(
                f"{folder} is no engram-peft adapter: it needs {CONFIG_FILE} and "
                f"{WEIGHTS_FILE}",
                hint="name the folder that save_pretrained wrote",
            )
        try:
            self._values = json.loads(self.path.read_text("utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise FormatError(f"{self.path} cannot be read: {error}") from error
        if not isinstance(self._values, dict):
            raise FormatError(f"{self.path} should be a JSON object of options")
        self._check_options()

    def _check_options(self) -> None:
        known = {
            "engine": "deepseek",
            "enable_tokenizer_compression": True,
            "table_source": "memory",
            "prime_sizes": None,
        }
        for key, value in known.items():
            found = self._values.get(key, value)
            if found != value:
                raise UnsupportedError(
                    f"{self.path}: {key} is {found!r}; only {value!r} can be converted"
                )
        orders = self.integers("ngram_sizes")
        if orders != list(range(2, len(orders) + 2)):
            raise UnsupportedError(
                f"{self.path}: ngram_sizes is {orders}; only 2, 3 .. N can be converted"
            )

    def integer(self, key: str, low: int, high: int) -> int:
        value = self._values.get(key)
        if type(value) is not int or not low <= value <= high:
            raise FormatError(
                f"{self.path}: {key} is {value!r}, {low} to {high} are possible"
            )
        return value

    def integers(self, key: str) -> list[int]:
        values = self._values.get(key)
        if not isinstance(values, list) or not all(type(v) is int for v in values):
            raise FormatError(f"{self.path}: {key} should be a list of integers")
        return values


class _Reader:
    def __init__(
        self, config: _Config, weights: Any, backbone: Header, row_type: RowType
    ) -> None:
        self._config = config
        self._weights = weights
        self._names = frozenset(weights.keys())
        self._backbone = read_backbone(backbone)
        self._token_map = read_token_map(backbone)
        self._row_type = row_type

    def read(self) -> Adapter:
        self._check_backbone()
        fusion = FusionSpec(
            hidden_size=self._backbone.fingerprint.embedding_length,
            n_branches=self._config.integer("hc_mult", 1, 256),
            conv_kernel=self._config.integer("conv_kernel_size", 1, 1024),
            conv_dilation=self._config.integer("conv_dilation", 1, 1024),
        )
        layer_ids = self._layer_ids()
        tables = [self._table(layer_id) for layer_id in layer_ids]
        hashes = self._hashes(layer_ids, max(table.get_shape()[0] for table in tables))
        spec = MemorySpec(
            layers=tuple(
                self._layer(layer_id, hashes[line], tables[line])
                for line, layer_id in enumerate(layer_ids)
            ),
            n_canonical=self._n_canonical,
        )
        module = MemoryModule(
            path=self._config.path.parent / WEIGHTS_FILE,
            spec=spec,
            fusion=fusion,
            fingerprint=self._backbone.fingerprint,
            token_map=self._token_map,
            weights=tuple(self._fusion_weights(layer, fusion) for layer in spec.layers),
        )
        return Adapter(
            module=module,
            rows=tuple(_Rows(table) for table in tables),
            architecture=self._backbone.architecture,
        )

    @property
    def _n_canonical(self) -> int:
        return int(self._token_map.max()) + 1

    def _check_backbone(self) -> None:
        pairs = {
            "compressed_vocab_size": self._n_canonical,
            "hidden_size": self._backbone.fingerprint.embedding_length,
        }
        for key, needed in pairs.items():
            found = self._config.integer(key, 1, 2**31)
            if found != needed:
                raise MismatchError(
                    f"{self._config.path}: {key} is {found}, the backbone has {needed}",
                    hint="name the backbone that the adapter was trained on",
                )

    def _layer_ids(self) -> list[int]:
        layer_ids = sorted(self._config.integers("target_layers"))
        possible = range(self._backbone.fingerprint.block_count)
        if not layer_ids or sorted(set(layer_ids) & set(possible)) != layer_ids:
            raise FormatError(
                f"{self._config.path}: target_layers is {layer_ids}, different layers "
                f"from 0 to {len(possible) - 1} are needed"
            )
        return layer_ids

    def _hashes(self, layer_ids: list[int], most_rows: int) -> list[HashSpec]:
        config = self._config
        n_heads = config.integer("n_head_per_ngram", 1, 4096)
        per_order = config.integers("engram_vocab_size_per_ngram")
        if max(per_order, default=0) > most_rows:  # primes past it take for ever
            raise FormatError(
                f"{config.path}: engram_vocab_size_per_ngram is {per_order}, the "
                f"largest table has {most_rows} rows"
            )
        max_ngram = len(config.integers("ngram_sizes")) + 1
        pad_id = config.integer("pad_id", 0, len(self._token_map) - 1)
        all_sizes = derive_sizes(
            [count // n_heads for count in per_order],
            n_layers=len(layer_ids),
            n_heads=n_heads,
        )
        return [
            HashSpec(
                multipliers=derive_multipliers(
                    seed=config.integer("seed", 0, 2**31),
                    layer_id=layer_id,
                    n_canonical=self._n_canonical,
                    max_ngram=max_ngram,
                ),
                sizes=sizes,
                offsets=offsets_of(sizes),
                n_heads=n_heads,
                window=Window.OLDEST_FIRST,
                boundary=Boundary.PAD,
                fill_id=int(self._token_map[pad_id]),
            )
            for layer_id, sizes in zip(layer_ids, all_sizes, strict=True)
        ]

    def _layer(self, layer_id: int, hash_spec: HashSpec, table: Any) -> LayerSpec:
        n_rows, width = table.get_shape()
        if n_rows != hash_spec.n_rows:
            raise FormatError(
                f"{self._config.path.parent}: the table of layer {layer_id} has "
                f"{n_rows} rows, its hash needs {hash_spec.n_rows}",
                hint="config.json and weights belong to different adapters",
            )
        return LayerSpec(
            layer_id=layer_id,
            hash=hash_spec,
            table=TableSpec(
                row_type=self._row_type, width=width, n_rows=n_rows, offset_bytes=0
            ),
        )

    def _table(self, layer_id: int) -> Any:
        name = f"{layer_id}.multi_head_embedding.embedding.weight"
        table = self._slice(name)
        shape = tuple(table.get_shape())
        if len(shape) != 2 or 0 in shape:
            raise FormatError(
                f"{self._config.path.parent}: the table of layer {layer_id} has the "
                f"shape {shape}, (rows, width) is needed"
            )
        return table

    def _fusion_weights(self, layer: LayerSpec, fusion: FusionSpec) -> FusionWeights:
        prefix, d = f"{layer.layer_id}.", fusion.hidden_size
        branches = range(fusion.n_branches)

        def stack(name: str, *shape: int) -> F32:
            arrays = [self._array(prefix + name.format(b), *shape) for b in branches]
            return np.stack(arrays)

        width = fusion.n_branches * d
        keys = stack("gating.w_k.{}.weight", d, layer.embedding_size)
        return FusionWeights(
            key=keys.reshape(width, layer.embedding_size),
            value=self._array(prefix + "gating.w_v.weight", d, layer.embedding_size),
            key_norm=stack("gating.norm_k.{}.weight", d),
            query_norm=stack("gating.norm_h.{}.weight", d),
            conv_norm=stack("short_conv.norms.{}.weight", d),
            conv=self._array(
                prefix + "short_conv.conv.weight", width, 1, fusion.conv_kernel
            )[:, 0],
        )

    def _array(self, name: str, *shape: int) -> F32:
        array = np.asarray(self._slice(name)[:], np.float32)
        if array.shape != shape:
            raise FormatError(
                f"{self._config.path.parent}: {name} has the shape {array.shape}, "
                f"{shape} is needed"
            )
        return array

    def _slice(self, name: str) -> Any:
        path = self._config.path.parent / WEIGHTS_FILE
        if name not in self._names:
            raise FormatError(f"{path} has no tensor {name}")
        tensor = self._weights.get_slice(name)
        if tensor.get_dtype() not in _DTYPES:
            raise UnsupportedError(
                f"{path}: {name} is {tensor.get_dtype()}; {', '.join(_DTYPES)} can be "
                "converted",
                hint="save the adapter in float32",
            )
        return tensor
