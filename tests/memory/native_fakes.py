"""Tables of a model's own, in files made here."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from engram_local.memory import reference
from engram_local.memory.constants import derive_multipliers, offsets_of
from engram_local.memory.module import NativeModule
from engram_local.spec import (
    Boundary,
    HashSpec,
    LayerSpec,
    MemorySpec,
    RowType,
    TableSpec,
    Window,
)

EOS = 2
N_VOCAB = 300
OFFSET_BYTES = 4096 + 160  # in the middle of a page

QWEN = HashSpec(
    multipliers=derive_multipliers(
        seed=0, layer_id=0, n_canonical=N_VOCAB, max_ngram=3
    ),
    sizes=(4001, 4003, 4007, 4013),
    offsets=offsets_of([4001, 4003, 4007, 4013]),
    n_heads=2,
    window=Window.NEWEST_FIRST,
    boundary=Boundary.EOS,
    fill_id=EOS,
)
GEMMA = HashSpec(
    multipliers=(1,),
    sizes=(N_VOCAB,),
    offsets=(0,),
    n_heads=1,
    window=Window.NEWEST_FIRST,
    boundary=Boundary.PAD,
    fill_id=0,
    min_ngram=1,
)


def make_native(
    path: Path,
    spec: HashSpec = QWEN,
    *,
    row_type: RowType = RowType.F16,
    width: int = 32,
    rows: bytes | None = None,
) -> NativeModule:
    """Write a file with a table in its middle; return what is known of it.

    rows: as they are stored; None = random bytes.
    """
    table = TableSpec(
        row_type=row_type, width=width, n_rows=spec.n_rows, offset_bytes=OFFSET_BYTES
    )
    noise = np.random.default_rng(0).bytes
    stored = noise(table.n_bytes) if rows is None else rows
    path.write_bytes(noise(OFFSET_BYTES) + stored + noise(99))
    layer = LayerSpec(layer_id=0, hash=spec, table=table)
    return NativeModule(
        path=path,
        spec=MemorySpec(layers=(layer,), n_canonical=N_VOCAB),
        node="ple_embd",
    )


def pages_of(module: NativeModule, token_ids: list[int], page_bytes: int) -> set[int]:
    """Return the numbers of all pages in the file that the tokens' rows touch."""
    (layer,) = module.spec.layers
    pages: set[int] = set()
    for rows in reference.row_ids(token_ids, layer.hash):
        for row_id in rows:
            first = layer.table.offset_bytes + row_id * layer.table.row_bytes
            last = first + layer.table.row_bytes - 1
            pages |= set(range(first // page_bytes, last // page_bytes + 1))
    return pages
