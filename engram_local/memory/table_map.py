"""A memory's tables and the RAM: what is in it, bring all of it there, let it go."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from engram_local.errors import UsageError
from engram_local.events import TableMap, TableStrip
from engram_local.memory.module import MemoryModule, NativeModule
from engram_local.memory.page_cache import Ranges, read_through, release
from engram_local.memory.table import Table
from engram_local.spec import LayerSpec


class Tabled(Protocol):
    """A memory, as far as its tables go."""

    tier: str

    @property
    def module(self) -> MemoryModule | NativeModule:
        """What the memory is."""

    @property
    def tables(self) -> Sequence[Table]:
        """Of its layers; none where llama.cpp has read them."""


def map_tables(memory: Tabled, n_cells: int) -> TableMap:
    """Return what is in memory of `n_cells` equal parts of each layer's table."""
    layers = memory.module.spec.layers
    if not memory.tables:  # llama.cpp has read all of it
        return TableMap(strips=tuple(_strip(one, (1.0,) * n_cells) for one in layers))
    return TableMap(
        strips=tuple(
            _strip(layer, _cells(table, n_cells))
            for layer, table in zip(layers, memory.tables, strict=True)
        )
    )


def _strip(layer: LayerSpec, resident: tuple[float | None, ...]) -> TableStrip:
    return TableStrip(
        layer_id=layer.layer_id,
        n_rows=layer.table.n_rows,
        table_bytes=layer.table.n_bytes,
        resident=resident,
    )


def _cells(table: Table, n_cells: int) -> tuple[float | None, ...]:
    n_bytes = table.spec.n_bytes
    cuts = [n_bytes * i // n_cells for i in range(n_cells + 1)]
    # Of a table with fewer bytes than cells, some cells show a neighbour's byte.
    return tuple(
        table.resident_part(cuts[i], max(cuts[i + 1], cuts[i] + 1))
        for i in range(n_cells)
    )


def warm(memory: Tabled) -> Iterator[float]:
    """Read all tables into the page cache; yield the part that is done, 0 to 1.

    Raises UsageError in other tiers than mmap, TableError if the file cannot be read.
    """
    ranges = _mapped_ranges(memory)
    n_done, n_bytes = 0, sum(end - begin for begin, end in ranges)
    for n_read in read_through(memory.module.path, ranges):
        n_done += n_read
        yield n_done / n_bytes


def evict(memory: Tabled) -> None:
    """Let the page cache forget the tables. Raises UsageError as `warm` does."""
    release(memory.module.path, _mapped_ranges(memory))


def _mapped_ranges(memory: Tabled) -> Ranges:
    if memory.tier != "mmap":
        raise UsageError(
            "the page cache has nothing to do with this table: "
            + ("it is in RAM" if memory.tier == "ram" else "it is read past it"),
            hint="the tier mmap leaves the rows to the page cache",
        )
    tables = [layer.table for layer in memory.module.spec.layers]
    return [(one.offset_bytes, one.offset_bytes + one.n_bytes) for one in tables]
