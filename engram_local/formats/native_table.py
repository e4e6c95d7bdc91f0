"""A table in a model's own GGUF -> TableSpec."""

from __future__ import annotations

from engram_local.errors import FormatError, UnsupportedError
from engram_local.formats.header import Header, TensorInfo
from engram_local.spec import RowType, TableSpec


def read_table_spec(
    header: Header, tensor: TensorInfo, *, row_type: RowType | None = None
) -> TableSpec:
    """Return where the rows of `tensor` lie; the offset counts from its file's start.

    row_type: what the rows are where the tensor's type does not tell. Raises
    UnsupportedError for types that have no RowType.
    """
    row_type = row_type or _row_type(tensor.type_id)
    if row_type is None:
        raise UnsupportedError(
            f"{header.path}: {tensor.name} has rows of ggml's type {tensor.type_id}, "
            "which cannot be read"
        )
    if len(tensor.shape) != 2:
        raise FormatError(f"{header.path}: {tensor.name} has the shape {tensor.shape}")
    return TableSpec(
        row_type=row_type,
        width=_width(header, tensor, row_type),
        n_rows=tensor.shape[1],
        offset_bytes=tensor.offset_bytes,
    )


def _row_type(type_id: int) -> RowType | None:
    """Return how rows of ggml's type are stored; None if they are not read here.

    FP8 is not found: its rows are bytes for ggml, and what they mean is in a key.
    """
    from gguf.constants import GGMLQuantizationType

    names = {int(kind): kind.name for kind in GGMLQuantizationType}
    return RowType.__members__.get(names.get(type_id, ""))


def _width(header: Header, tensor: TensorInfo, row_type: RowType) -> int:
    """Return the values of a row; of FP8, whose rows are bytes, 32 in 33 are values."""
    if row_type is not RowType.FP8:
        row_type.row_bytes(tensor.shape[0])
        return tensor.shape[0]
    if tensor.shape[0] % 33:
        raise FormatError(
            f"{header.path}: {tensor.name} has rows of {tensor.shape[0]} bytes, "
            "a multiple of 33 is needed"
        )
    return tensor.shape[0] // 33 * 32
