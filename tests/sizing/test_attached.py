"""A memory that is attached to a model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from engram_local.model_spec import Part, TableShape
from engram_local.sizing.attached import attach_memory
from engram_local.spec import RowType
from tests.fakes import make_memory
from tests.sizing.samples import DENSE, MOE

FILE_BYTES = 123_456


def test_its_tables_join_the_model() -> None:
    memory = make_memory(Path("m"), row_type=RowType.Q8_0, layer_ids=(1, 4)).module.spec
    spec = attach_memory(DENSE, memory, FILE_BYTES)
    assert spec.attached and not DENSE.attached
    assert spec.tables == tuple(
        TableShape(
            layer_id=layer.layer_id,
            n_rows=layer.table.n_rows,
            width=32,
            rows_per_token=4,  # orders 2 and 3, two heads
            orders=(2, 3),
            n_heads=2,
        )
        for layer in memory.layers
    )
    assert spec.rows_per_token == memory.rows_per_token == 8
    assert spec.n_params == DENSE.n_params + spec.table_params
    assert spec.n_active_params == DENSE.n_active_params


def test_its_bytes_are_counted_in_all_weights() -> None:
    memory = make_memory(Path("m"), row_type=RowType.Q8_0).module.spec
    two = replace(DENSE, weights=DENSE.weights * 2)
    spec = attach_memory(two, memory, FILE_BYTES)
    assert len(spec.weights) == 2
    for before, weights in zip(two.weights, spec.weights, strict=True):
        assert weights.file_bytes == before.file_bytes + FILE_BYTES
        assert weights.part(Part.TABLE) == memory.table_bytes
        assert weights.table_row_bytes == 34
        assert weights.part(Part.LAYERS) == before.part(Part.LAYERS)


def test_a_models_own_table_stays() -> None:
    memory = make_memory(Path("m"), row_type=RowType.Q8_0).module.spec
    spec = attach_memory(MOE, memory, FILE_BYTES)
    assert spec.tables[0] == MOE.tables[0]
    assert len(spec.tables) == 3
    own = MOE.weights[0]
    assert spec.weights[0].part(Part.TABLE) == own.part(Part.TABLE) + memory.table_bytes
    assert spec.weights[0].table_row_bytes == 90  # the longer row
