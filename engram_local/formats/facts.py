"""What the header of a GGUF says, as plain values and as lines for people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engram_local.errors import UnsupportedError
from engram_local.formats import engram_gguf
from engram_local.formats.backbone import read_backbone
from engram_local.formats.header import Header, TensorInfo
from engram_local.formats.native import read_native
from engram_local.formats.weights import tables
from engram_local.spec import Boundary, LayerSpec, MemorySpec
from engram_local.units import escape_control, format_bytes, format_count

Facts = dict[str, Any]


def collect(header: Header) -> Facts:
    """Return what the header says: what `show --json` prints.

    Raises FileError for what is neither a model nor a memory, FormatError for a number
    that is missing or impossible.
    """
    facts: Facts = {
        "file": str(header.path),
        "file_bytes": header.file_bytes,
        "architecture": header.architecture,
        "n_tensors": len(header.tensors),
    }
    if engram_gguf.matches(header):
        return facts | {"type": "memory"} | _memory_facts(header)
    return facts | {"type": "model"} | _model_facts(header)


def _model_facts(header: Header) -> Facts:
    spec = read_backbone(header)
    return {
        "name": spec.name,
        "n_params": spec.n_params,
        "n_layers": spec.fingerprint.block_count,
        "embedding_length": spec.fingerprint.embedding_length,
        "vocab_size": spec.fingerprint.vocab_size,
        "context_length": spec.context_length,
        "tokens_sha256": spec.fingerprint.tokens_sha256,
        "native_tables": [_tensor_facts(tensor) for tensor in tables(header)],
    } | _native_facts(header)


def _native_facts(header: Header) -> Facts:
    """Return what a model's own table is, under the names of a memory's facts."""
    try:
        module = read_native(header)
    except UnsupportedError:  # its rows have a type that only llama.cpp reads
        return {}
    if module is None:
        return {}
    return _rows_facts(module.spec) | {"image_token_id": module.image_id}


def _tensor_facts(tensor: TensorInfo) -> Facts:
    from gguf.constants import GGMLQuantizationType

    known = {int(kind): kind.name.lower() for kind in GGMLQuantizationType}
    return {
        "name": tensor.name,
        "shape": list(tensor.shape),
        "type": known.get(tensor.type_id, f"type {tensor.type_id}"),
        "n_bytes": tensor.n_bytes,
        "file": str(tensor.path),
        "offset_bytes": tensor.offset_bytes,
    }


def _memory_facts(header: Header) -> Facts:
    module = engram_gguf.read_memory(header)
    spec, fusion = module.spec, module.fusion
    return _rows_facts(spec) | {
        "n_canonical": spec.n_canonical,
        "n_branches": fusion.n_branches,
        "conv_kernel": fusion.conv_kernel,
        "conv_dilation": fusion.conv_dilation,
        "backbone": {
            "embedding_length": module.fingerprint.embedding_length,
            "n_layers": module.fingerprint.block_count,
            "vocab_size": module.fingerprint.vocab_size,
            "tokens_sha256": module.fingerprint.tokens_sha256,
        },
    }


def _rows_facts(spec: MemorySpec) -> Facts:
    return {
        "layers": [_layer_facts(layer) for layer in spec.layers],
        "table_bytes": spec.table_bytes,
        "rows_per_token": spec.rows_per_token,
        "bytes_per_token": spec.bytes_per_token,
    }


def _layer_facts(layer: LayerSpec) -> Facts:
    cuts = layer.hash.boundary is Boundary.EOS
    return {
        "layer": layer.layer_id,
        "orders": list(layer.hash.orders),
        "heads": layer.hash.n_heads,
        "n_rows": layer.table.n_rows,
        "row_width": layer.table.width,
        "row_type": layer.table.row_type.value,
        "row_bytes": layer.table.row_bytes,
        "window": layer.hash.window.value,
        "boundary": layer.hash.boundary.value,
        "eos_token_id": layer.hash.fill_id if cuts else None,
    }


def as_text(facts: Facts) -> str:
    """Return lines for people; nothing in them drives a terminal."""
    lines = [f"{facts['file']}: {facts['type']}, {format_bytes(facts['file_bytes'])}"]
    lines.append(f"architecture   {facts['architecture']}")
    lines += _memory_lines(facts) if facts["type"] == "memory" else _model_lines(facts)
    return escape_control("\n".join(lines))


def _model_lines(facts: Facts) -> list[str]:
    lines = [
        f"name           {facts['name']}",
        f"parameters     {format_count(facts['n_params'])}",
        f"layers         {facts['n_layers']} of width {facts['embedding_length']}",
        f"vocabulary     {format_count(facts['vocab_size'])} tokens",
        f"context        {format_count(facts['context_length'])} tokens",
    ]
    if "layers" in facts:
        lines += _rows_lines(facts)
    if facts.get("image_token_id") is not None:
        lines.append(f"images         hashed as token {facts['image_token_id']}")
    return lines + [_table_line(table) for table in facts["native_tables"]]


def _rows_lines(facts: Facts) -> list[str]:
    return [
        *(_layer_line(layer) for layer in facts["layers"]),
        f"per token      {facts['rows_per_token']} rows, {facts['bytes_per_token']} B",
    ]


def _table_line(table: Facts) -> str:
    n_bytes = table["n_bytes"]
    size = "unknown size" if n_bytes is None else format_bytes(n_bytes)
    return (
        f"n-gram table   {table['name']}: {format_count(table['shape'][-1])} rows of "
        f"{table['shape'][0]} {table['type']}, {size}, at byte "
        f"{format_count(table['offset_bytes'])} of {Path(table['file']).name}"
    )


def _memory_lines(facts: Facts) -> list[str]:
    backbone = facts["backbone"]
    return [
        *_rows_lines(facts),
        f"table          {format_bytes(facts['table_bytes'])}",
        f"fusion         {facts['n_branches']} branches, convolution of "
        f"{facts['conv_kernel']} taps, dilation {facts['conv_dilation']}",
        f"made for       {backbone['n_layers']} layers of width "
        f"{backbone['embedding_length']}, {backbone['vocab_size']:,} tokens",
    ]


def _layer_line(layer: Facts) -> str:
    rows = (
        f"layer {layer['layer']:<8} {format_count(layer['n_rows'])} rows of "
        f"{layer['row_width']} {layer['row_type']} ({layer['row_bytes']} B)"
    )
    if layer["orders"] == [1]:
        return f"{rows}; the row of a token is its id"
    orders = " and ".join(map(str, layer["orders"]))
    eos = layer["eos_token_id"]
    boundary = layer["boundary"] + ("" if eos is None else f" {eos}")
    return (
        f"{rows}; n-grams of {orders}, {layer['heads']} heads, {layer['window']}, "
        f"{boundary}"
    )
