"""A model with a memory of this package attached: its tables join the model's own."""

from __future__ import annotations

from dataclasses import replace

from engram_local.model_spec import ModelSpec, Part, TableShape, Weights
from engram_local.spec import LayerSpec, MemorySpec


def attach_memory(spec: ModelSpec, memory: MemorySpec, file_bytes: int) -> ModelSpec:
    """Return the model with the memory's tables, beside those it may have itself.

    file_bytes: of the memory file. Its projections, some MB, count as the process's.
    """
    tables = tuple(map(_shape, memory.layers))

    def with_table(weights: Weights) -> Weights:
        return replace(
            weights,
            file_bytes=weights.file_bytes + file_bytes,
            parts=weights.parts
            | {Part.TABLE: weights.part(Part.TABLE) + memory.table_bytes},
            table_row_bytes=max(
                weights.table_row_bytes,
                *(layer.table.row_bytes for layer in memory.layers),
            ),
        )

    return replace(
        spec,
        attached=True,
        n_params=spec.n_params + sum(table.n_rows * table.width for table in tables),
        tables=spec.tables + tables,
        weights=tuple(map(with_table, spec.weights)),
    )


def _shape(layer: LayerSpec) -> TableShape:
    return TableShape(
        layer_id=layer.layer_id,
        n_rows=layer.table.n_rows,
        width=layer.table.width,
        rows_per_token=layer.hash.n_slots,
        orders=tuple(layer.hash.orders),
        n_heads=layer.hash.n_heads,
    )
