"""Bytes of weights by what they are for, where only a total or a shape is known.

A maker publishes the size of a file. What of it is experts and what is the token
embedding follows from how many values each has, as if all of them took the same bits;
quantizers give more bits to the smaller matrices, so these parts are estimates. The
n-gram table is exact: rows times the bytes of a row.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping

from engram_local.figures import Source
from engram_local.model_spec import Part, TableShape, Weights

Params = Mapping[Part, int]
"""Values of each part."""

_BLOCK = 32  # values of one scale in Q8_0 and Q4_0
_SUPER_BLOCK = 256  # values of one block of a K quantization
_COMPUTED = {"Q4_K_M": 4.85, "Q8_0": 8.5, "BF16": 16.0}
"""Bits per value; 4.85 is what Q4_K_M files of llama.cpp come to."""


def split_bytes(n_bytes: int, params: Params) -> dict[Part, int]:
    """Return `n_bytes` in proportion to the values of each part; the sum is kept."""
    total = sum(params.values())
    parts = {part: n_bytes * count // total for part, count in params.items() if count}
    if parts:
        largest = max(parts, key=parts.__getitem__)
        parts[largest] += n_bytes - sum(parts.values())
    return parts


def active_params(
    params: Params, *, n_experts: int, n_experts_used: int, tied_output: bool
) -> int:
    """Return the values that are read for one token, as ModelSpec counts them."""
    experts = params.get(Part.EXPERTS, 0)
    output = Part.EMBEDDING if tied_output else Part.OUTPUT
    return (
        params.get(Part.LAYERS, 0)
        + params.get(output, 0)
        + (experts * n_experts_used // n_experts if n_experts else 0)
    )


def row_bytes(width: int, bits: float) -> int:
    """Return the bytes of a table row at about so many bits per value.

    Rows that no K quantization fits are stored as Q4_0, as llama.cpp does.
    """
    if bits >= 16 or width % _BLOCK:
        return 2 * width
    if bits > 8:
        return width // _BLOCK * 34
    return (
        width // _SUPER_BLOCK * 144 if width % _SUPER_BLOCK == 0 else width // 32 * 18
    )


def computed_weights(
    params: Params, tables: Iterable[TableShape], names: Container[str] = _COMPUTED
) -> tuple[Weights, ...]:
    """Return what files of this shape would take, smallest first; all are estimates.

    names: of the types that are wanted.
    """
    found = tuple(tables)
    return tuple(
        _computed(name, bits, params, found)
        for name, bits in _COMPUTED.items()
        if name in names
    )


def _computed(
    name: str, bits: float, params: Params, tables: tuple[TableShape, ...]
) -> Weights:
    parts: dict[Part, int] = {
        part: round(count * bits / 8)
        for part, count in params.items()
        if part not in (Part.UNUSED, Part.TABLE)
    }
    if tables:
        parts[Part.TABLE] = sum(
            table.n_rows * row_bytes(table.width, bits) for table in tables
        )
    return Weights(
        name=name,
        file_bytes=sum(parts.values()),
        parts=parts,
        source=Source.ESTIMATED,
        table_row_bytes=row_bytes(tables[0].width, bits) if tables else 0,
    )
