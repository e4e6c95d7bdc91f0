"""Tensors of a model with random weights, one by one."""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import NDArray

from engram_local.bench.random_bytes import RandomBytes
from engram_local.errors import UsageError
from engram_local.formats.pieces import Piece, type_id
from engram_local.spec import RowType

WEIGHT_TYPES = (RowType.Q4_0, RowType.Q8_0, RowType.F16, RowType.F32)
"""What the matrices of a synthetic model may be stored as."""

_NARROW = RowType.F32  # of matrices whose width is no multiple of a block


class RandomPieces:
    """Makes the tensors of one model. Shapes are in C order, names without ".weight".

    weight_type: of matrices, one of WEIGHT_TYPES. std: of their values. Raises
    UsageError for another type.
    """

    def __init__(self, weight_type: RowType, *, std: float) -> None:
        if weight_type not in WEIGHT_TYPES:
            raise UsageError(
                f"synthetic weights may be {', '.join(WEIGHT_TYPES)}, not {weight_type}"
            )
        self._type = weight_type
        self._sources = {
            kind: RandomBytes(kind, std=std) for kind in {weight_type, _NARROW}
        }

    def matrix(self, name: str, *shape: int) -> Piece:
        """Return random weights."""
        fits = shape[-1] % self._type.block_width == 0
        kind = self._type if fits else _NARROW
        return _piece(f"{name}.weight", shape, kind, self._sources[kind])

    def ones(self, name: str, *shape: int) -> Piece:
        """Return the weights of a norm."""
        return self.values(f"{name}.weight", np.ones(shape, np.float32))

    def values(self, name: str, values: NDArray[np.float32]) -> Piece:
        """Return these numbers; `name` is the whole name."""
        return Piece(
            name=name,
            shape=values.shape,
            type_id=type_id(RowType.F32),
            n_bytes=values.nbytes,
            chunks=[values.reshape(-1).view(np.uint8)],
            stored_bytes=values.nbytes,
        )


def table_piece(name: str, n_rows: int, width: int, row_type: RowType) -> Piece:
    """Return a table of random rows whose values have a deviation of 1."""
    source = RandomBytes(row_type, std=1.0)
    return _piece(f"{name}.weight", (n_rows, width), row_type, source)


def _piece(
    name: str, shape: tuple[int, ...], kind: RowType, source: RandomBytes
) -> Piece:
    n_bytes = prod(shape[:-1]) * kind.row_bytes(shape[-1])
    return Piece(
        name=name,
        shape=shape,
        type_id=type_id(kind),
        n_bytes=n_bytes,
        chunks=source.take(n_bytes),
        stored_bytes=n_bytes,
    )
