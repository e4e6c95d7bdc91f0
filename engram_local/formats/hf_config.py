"""A Hugging Face config.json -> what a sizing report needs of a model.

Nothing of the weights is read. Where safetensors files or their index lie beside the
config, their total is known; other sizes follow from the shape and are estimates.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from engram_local.errors import FileError, FormatError
from engram_local.figures import Source
from engram_local.formats.fields import Fields, read_limited
from engram_local.formats.hf_dims import Dims, Shape, read_dims
from engram_local.formats.hf_shapes import read_shape
from engram_local.formats.weight_sizes import (
    active_params,
    computed_weights,
    split_bytes,
)
from engram_local.model_spec import INDEXER, ModelSpec, Part, TableShape, Weights

CONFIG_FILE = "config.json"
INDEX_FILE = "model.safetensors.index.json"
MAX_CONFIG_BYTES = 4 * 1024 * 1024
"""Configs of multimodal models with long lists of labels stay below 1 MB."""

_MAX_INDEX_BYTES = 64 * 1024 * 1024  # 96,085 tensors take 9 MB
_TIED = ("gemma3", "gemma3_text", "gemma3n", "gemma3n_text", "gemma4", "gemma4_text")
"""Families that share token embedding and output unless the config says otherwise."""

_PLAIN_TYPES = ("bfloat16", "float16")


def matches(path: Path) -> bool:
    """Return whether `path` is called like a config, or a folder that has one."""
    if os.path.isdir(path):  # unlike Path.is_dir it never fails
        return os.path.isfile(path / CONFIG_FILE)
    return path.suffix == ".json"


def read_model(path: Path) -> ModelSpec:
    """Return the model of a config.json or of the folder that has one.

    Raises FileError where it cannot be read, FormatError with file and key where it
    says something impossible, UnsupportedError for a family that is neither known nor
    plain.
    """
    config_path = path / CONFIG_FILE if path.is_dir() else path
    config = _open(config_path, MAX_CONFIG_BYTES)
    text = config.section("text_config") if "text_config" in config else config
    model_type = config.text("model_type")
    dims = read_dims(text, model_type in _TIED)
    shape = read_shape(text, model_type, dims)
    params = {**dims.params, Part.LAYERS: shape.layers, Part.EXPERTS: shape.experts}
    table_params = sum(table.n_rows * table.width for table in shape.tables)
    return ModelSpec(
        name=_name(config, config_path),
        architecture=shape.architecture,
        source=Source.PUBLISHED,
        origin=str(path),
        n_params=sum(params.values()) + table_params,
        n_active_params=active_params(
            params,
            n_experts=shape.n_experts,
            n_experts_used=shape.n_experts_used,
            tied_output=dims.tied,
        ),
        context_length=text.integer("max_position_embeddings", low=1),
        vocab_size=dims.vocab,
        hidden_size=dims.hidden,
        n_layers=dims.n_layers,
        n_heads=dims.n_heads,
        ffn_size=shape.ffn_size,
        head_size=_head_size(text, dims, shape),
        caches=shape.caches,
        weights=_weights(config, config_path.parent, params, shape.tables),
        states=shape.states,
        tables=shape.tables,
        n_experts=shape.n_experts,
        n_experts_used=shape.n_experts_used,
        tied_output=dims.tied,
        n_streams=shape.n_streams,
        loads_table=shape.architecture == "gemma3n",
        runs_here=shape.runs_here,
        notes=_notes(shape),
    )


def _open(path: Path, most_bytes: int) -> Fields:
    data = read_limited(path, most_bytes)
    try:
        return Fields(json.loads(data), path)
    except ValueError as error:
        raise FormatError(f"{path} is no JSON: {error}") from error
    except RecursionError as error:
        raise FormatError(f"{path} is nested too deeply") from error


def _name(config: Fields, path: Path) -> str:
    """Return the name that the maker wrote into the config, else the folder's."""
    written = config.text("_name_or_path", "")
    return written or path.resolve().parent.name or CONFIG_FILE


def _head_size(text: Fields, dims: Dims, shape: Shape) -> int:
    """Return the width of a query; 0 = as wide as the keys, which are latents."""
    if any(not cache.value_size and cache.kind != INDEXER for cache in shape.caches):
        return 0
    return text.integer("global_head_dim", 1, 2**16, dims.head_dim)


def _notes(shape: Shape) -> tuple[str, ...]:
    return (*shape.notes, "Sizes of quantized files are computed from the shape.")


def _weights(
    config: Fields,
    folder: Path,
    params: dict[Part, int],
    tables: tuple[TableShape, ...],
) -> tuple[Weights, ...]:
    found = _safetensors_bytes(folder)
    if not found:
        return computed_weights(params, tables)
    known: dict[Part, int] = {}
    row_bytes = 0
    key = "dtype" if "dtype" in config else "torch_dtype"
    plain = config.text(key, "") in _PLAIN_TYPES
    if tables and plain and "quantization_config" not in config:
        row_bytes = 2 * tables[0].width
        known[Part.TABLE] = sum(2 * table.n_rows * table.width for table in tables)
    rest = found - sum(known.values())
    if rest < 0:
        raise FormatError(f"{folder}: the safetensors files are smaller than the table")
    values = dict(params)
    if tables and not known:
        values[Part.TABLE] = sum(table.n_rows * table.width for table in tables)
    original = Weights(
        name="safetensors",
        file_bytes=found,
        parts=known | split_bytes(rest, values),
        source=Source.ESTIMATED,
        table_row_bytes=row_bytes,
    )
    weights = (*computed_weights(params, tables, ("Q8_0", "Q4_K_M")), original)
    return tuple(sorted(weights, key=lambda one: one.file_bytes))


def _safetensors_bytes(folder: Path) -> int:
    """Return the bytes of all weights by their index, else by their files; else 0."""
    index = folder / INDEX_FILE
    if index.is_file():
        metadata = _open(index, _MAX_INDEX_BYTES).section("metadata")
        return metadata.integer("total_size", low=1)
    try:
        return sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    except OSError as error:
        raise FileError(f"{folder} cannot be read: {error}") from error
