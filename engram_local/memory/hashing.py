"""Canonical ids -> row ids, for every known recipe. Knows nothing of text or files.

One compiled kernel without the GIL; `reference.row_ids` is the obvious version.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engram_local.kernels import kernel
from engram_local.spec import Boundary, HashSpec

DEAD_ID = -1
"""A position that has no token (an image placeholder in DeepSeek V4.1)."""


class RowHasher:
    """The hash of one memory layer. Immutable, so safe from any thread."""

    def __init__(self, spec: HashSpec) -> None:
        self.spec = spec
        self.multipliers = np.array(spec.multipliers, np.uint64)
        self.sizes = np.array(spec.sizes, np.uint64)
        self.offsets = np.array(spec.offsets, np.uint64)
        self.shifts = np.zeros((len(spec.orders), spec.max_ngram), np.int64)
        for line, order in enumerate(spec.orders):
            self.shifts[line, :order] = spec.shifts(order)

    @property
    def context(self) -> int:
        """Earlier ids that the hash of one position looks at."""
        return self.spec.max_ngram - 1

    def row_ids(
        self, canonical_ids: NDArray[np.int64], n_before: int = 0
    ) -> NDArray[np.int64]:
        """Return the rows of each position: (n_tokens, n_slots) int64.

        canonical_ids: (n_before + n_tokens,) int64. The first `n_before` ids only
        give context; where there are fewer than `context` of them, the sequence
        starts there.
        """
        out = np.empty((len(canonical_ids) - n_before, self.spec.n_slots), np.int64)
        hash_rows(
            canonical_ids,
            n_before,
            self.multipliers,
            self.shifts,
            self.sizes,
            self.offsets,
            self.spec.fill_id,
            self.spec.boundary is Boundary.EOS,
            out,
        )
        return out


@kernel("void(i8[::1], i8, u8[::1], i8[:, ::1], u8[::1], u8[::1], i8, b1, i8[:, ::1])")
def hash_rows(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    ids, n_before, multipliers, shifts, sizes, offsets, fill_id, eos_rule, out
):
    """Fill `out` with the row ids of its positions; see `RowHasher.row_ids`."""
    n_orders = shifts.shape[0]
    shortest = multipliers.shape[0] - n_orders + 1
    n_heads = sizes.shape[0] // n_orders
    window = np.empty(multipliers.shape[0], np.uint64)
    for position in range(out.shape[0]):
        hidden = False
        for shift in range(window.shape[0]):
            source = n_before + position - shift
            if (
                source < 0
                or ids[source] < 0
                or (eos_rule and shift > 0 and ids[source] == fill_id)
            ):
                hidden = True
            window[shift] = np.uint64(fill_id if hidden else ids[source])
        for order in range(n_orders):
            mixed = np.uint64(0)
            for term in range(shortest + order):
                mixed ^= window[shifts[order, term]] * multipliers[term]
            for head in range(n_heads):
                slot = order * n_heads + head
                out[position, slot] = np.int64(offsets[slot] + mixed % sizes[slot])
