"""Saved states of one sequence: what llama.cpp cannot compute backwards.

A state holds recurrent states and windows only. The KV cache of the other layers still
has every token of the sequence, so a state is worth nothing once one of them is gone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import psutil
from numpy.typing import NDArray

from engram_local.units import MIB

MAX_STATES = 8
MAX_BYTES = 512 * MIB
"""Four of Qwen3.8-Flash-Next's 110 MiB: this turn, the one before it, and two places
where prompts turned off."""

_MAX_PART_OF_RAM = 0.05
"""A small computer needs its memory for the weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedState:
    """What the first `n_tokens` of a sequence left behind."""

    n_tokens: int
    data: NDArray[np.uint8]


class SavedStates:
    """The newest states of one sequence, bounded in number and bytes."""

    def __init__(self, max_bytes: int | None = None) -> None:
        """max_bytes: of all together; None = 512 MiB or 5 % of the RAM, the less."""
        if max_bytes is None:
            ram_bytes = int(psutil.virtual_memory().total)
            max_bytes = min(MAX_BYTES, int(_MAX_PART_OF_RAM * ram_bytes))
        self.max_bytes = max_bytes
        self._states: list[SavedState] = []  # shortest first

    def add(self, state: SavedState) -> None:
        """Keep a state that is longer than all others; the shortest make room."""
        self._states.append(state)
        while len(self._states) > MAX_STATES or self._n_bytes > self.max_bytes:
            del self._states[0]

    def newest(self) -> SavedState | None:
        """Return the longest one."""
        return self._states[-1] if self._states else None

    def forget_after(self, n_tokens: int) -> None:
        """Forget the states of more than `n_tokens`: the sequence is this short now."""
        while self._states and self._states[-1].n_tokens > n_tokens:
            del self._states[-1]

    @property
    def _n_bytes(self) -> int:
        return sum(state.data.nbytes for state in self._states)
