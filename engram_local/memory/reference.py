"""The slow, obvious version of the memory, for tests. One position at a time.

Follows the published formulas line by line; every fast path must agree with it.
"""

from __future__ import annotations

from engram_local.spec import Boundary, HashSpec

_MASK = 2**64 - 1


def row_ids(canonical_ids: list[int], spec: HashSpec) -> list[list[int]]:
    """Return the rows of each position of a whole sequence, in Python integers."""
    return [
        _rows_at(canonical_ids[: position + 1], spec)
        for position in range(len(canonical_ids))
    ]


def _rows_at(ids: list[int], spec: HashSpec) -> list[int]:
    window = _window(ids, spec)
    rows = []
    for order in range(2, spec.max_ngram + 1):
        mixed = 0
        for shift, multiplier in zip(
            spec.shifts(order), spec.multipliers, strict=False
        ):
            mixed ^= (window[shift] * multiplier) & _MASK
        for head in range(spec.n_heads):
            slot = (order - 2) * spec.n_heads + head
            rows.append(spec.offsets[slot] + mixed % spec.sizes[slot])
    return rows


def _window(ids: list[int], spec: HashSpec) -> list[int]:
    """The current id and those before it, newest first, by the boundary rule."""
    window, hidden = [], False
    for shift in range(spec.max_ngram):
        missing = shift >= len(ids) or ids[-1 - shift] < 0
        eos = (
            spec.boundary is Boundary.EOS
            and shift > 0
            and not missing
            and ids[-1 - shift] == spec.fill_id
        )
        hidden = hidden or missing or eos
        window.append(spec.fill_id if hidden else ids[-1 - shift])
    return window
