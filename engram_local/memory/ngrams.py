"""Which n-gram each row of a token stands for, in words.

hashing.py mixes canonical ids and forgets where they came from; this tells it again,
for one position, by the rules of spec.py (Window, Boundary).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from engram_local.events import TokenRow
from engram_local.memory.hashing import RowHasher
from engram_local.memory.module import MemoryModule, NativeModule
from engram_local.spec import Boundary, HashSpec, LayerSpec

TextOf = Callable[[int], str]
"""The text of a token id."""


def token_rows(
    module: MemoryModule | NativeModule,
    token_ids: Sequence[int],
    position: int,
    text_of: TextOf,
) -> tuple[TokenRow, ...]:
    """Return the rows that the token at `position` reads: layers, then orders, heads.

    token_ids: the sequence, which must reach that far.
    """
    longest = max(layer.hash.max_ngram for layer in module.spec.layers)
    first = max(0, position + 1 - longest)
    window = list(token_ids[first : position + 1])
    return tuple(
        row
        for layer in module.spec.layers
        for row in _rows_of_layer(layer, module, window, text_of)
    )


def _rows_of_layer(
    layer: LayerSpec,
    module: MemoryModule | NativeModule,
    window: list[int],
    text_of: TextOf,
) -> list[TokenRow]:
    """window: token ids, the last one is what reads."""
    spec = layer.hash
    canonical_ids = module.canonical_ids(window)
    row_ids = RowHasher(spec).row_ids(canonical_ids, len(window) - 1)[0].tolist()
    newest_first = window[::-1][: n_visible(canonical_ids.tolist(), spec)]
    rows = []
    for order in spec.orders:
        ngram = _ngram(newest_first, spec.shifts(order))
        texts = tuple(map(text_of, ngram))
        for head in range(spec.n_heads):
            slot = (order - spec.min_ngram) * spec.n_heads + head
            rows.append(
                TokenRow(
                    layer_id=layer.layer_id,
                    order=order,
                    head=head,
                    token_ids=ngram,
                    texts=texts,
                    row_id=row_ids[slot],
                )
            )
    return rows


def n_visible(canonical_ids: Sequence[int], spec: HashSpec) -> int:
    """Return how many of the newest ids the hash sees; in place of all others it reads
    `fill_id`. A dead id hides itself and what is older, and so does an EOS before the
    newest id, where that is the rule.
    """
    for shift, canonical_id in enumerate(reversed(canonical_ids)):
        is_eos = spec.boundary is Boundary.EOS and canonical_id == spec.fill_id
        if canonical_id < 0 or (is_eos and shift > 0):
            return shift
    return len(canonical_ids)


def _ngram(newest_first: list[int], shifts: tuple[int, ...]) -> tuple[int, ...]:
    """Return what is there of an n-gram, oldest first."""
    oldest_first = sorted(shifts, reverse=True)
    return tuple(newest_first[s] for s in oldest_first if s < len(newest_first))
