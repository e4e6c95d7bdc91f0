"""A model's tensors -> bytes by what they are for."""

from __future__ import annotations

import re
from collections import Counter

from engram_local.errors import FormatError
from engram_local.figures import Source
from engram_local.formats.header import Header, TensorInfo
from engram_local.formats.model_keys import ModelKeys
from engram_local.model_spec import Part, Weights

_TABLE = r"per_layer_token_embd\.|blk\.\d+\.engram_embd\.|ngram_embd\.\d+\."
_PATTERNS = (
    (Part.TABLE, _TABLE),
    (Part.EMBEDDING, r"(token_embd|position_embd|token_types)\."),
    # What llama.cpp computes where the logits are (llama-arch.cpp: LAYER_OUTPUT).
    (Part.OUTPUT, r"output|cls|altup_|(dec|enc)\.output_norm"),
    (Part.UNUSED, r"(v|a|mm|mmproj|vision|mtp|nextn)\.|.*\.(nextn|mtp)\."),
    (Part.EXPERTS, r"blk\.\d+\..*_(ch)?exps(\.|$)"),
)
_BLOCK = re.compile(r"blk\.(\d+)\.")
_QUANTIZATION = re.compile(
    r"(?<![A-Za-z0-9])((?:UD-)?I?Q\d+_\w+|TQ\d_\d|BF16|F16|F32|MXFP4\w*|NVFP4|FP8)"
    r"(?![A-Za-z0-9])",
    re.IGNORECASE,
)


def part_of(name: str, n_layers: int) -> Part:
    """Return what a tensor is for; blocks from `n_layers` on are draft heads."""
    block = _BLOCK.match(name)
    if block and int(block[1]) >= n_layers:
        return Part.UNUSED
    matching = (part for part, pattern in _PATTERNS if re.match(pattern, name))
    return next(matching, Part.LAYERS)


def is_table(name: str) -> bool:
    """Return whether a tensor holds rows of an n-gram table."""
    return re.match(_TABLE, name) is not None


def read_weights(keys: ModelKeys) -> Weights:
    """Return the bytes of a model's file by part, as they are stored."""
    header, n_layers = keys.header, keys.n_layers
    parts: Counter[Part] = Counter()
    for tensor in header.tensors.values():
        parts[part_of(tensor.name, n_layers)] += tensor.stored_bytes
    return Weights(
        name=quantization_name(header),
        file_bytes=header.file_bytes,
        parts=dict(parts),
        source=Source.EXACT,
        table_row_bytes=max(map(_row_bytes, tables(header)), default=0),
    )


def count_elements(keys: ModelKeys) -> Counter[Part]:
    """Return the values of a model by part."""
    counts: Counter[Part] = Counter()
    for tensor in keys.header.tensors.values():
        counts[part_of(tensor.name, keys.n_layers)] += tensor.n_elements
    return counts


def tables(header: Header) -> list[TensorInfo]:
    """Return the tensors that hold rows of n-gram tables; each has two dimensions."""
    found = [tensor for tensor in header.tensors.values() if is_table(tensor.name)]
    for tensor in found:
        if len(tensor.shape) != 2 or min(tensor.shape) < 1:
            raise FormatError(
                f"{header.path}: the table {tensor.name} has the shape {tensor.shape}"
            )
    return found


def quantization_name(header: Header) -> str:
    """Return what people call the quantization: from the header, else the name."""
    return (
        _by_file_type(header) or _by_file_name(header) or _by_most_bytes(header) or "?"
    )


def _by_file_type(header: Header) -> str | None:
    from gguf.constants import LlamaFileType

    value = header.metadata.get("general.file_type")
    if not isinstance(value, int):
        return None
    try:
        name = LlamaFileType(value & ~LlamaFileType.GUESSED).name
    except ValueError:  # newer than gguf-py
        return None
    return name.removeprefix("MOSTLY_").removeprefix("ALL_")


def _by_file_name(header: Header) -> str | None:
    match = _QUANTIZATION.search(header.path.stem)
    return match[1] if match else None


def _by_most_bytes(header: Header) -> str | None:
    from gguf.constants import GGMLQuantizationType

    n_bytes: Counter[int] = Counter()
    for tensor in header.tensors.values():
        n_bytes[tensor.type_id] += tensor.stored_bytes
    for type_id, _ in n_bytes.most_common(1):
        known = {int(kind): kind.name for kind in GGMLQuantizationType}
        return known.get(type_id, f"type {type_id}")
    return None


def _row_bytes(tensor: TensorInfo) -> int:
    return tensor.stored_bytes // tensor.shape[1]
