"""The convolution's inputs of earlier positions, bounded, with a way back."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engram_local.units import MIB

F32 = NDArray[np.float32]

HISTORY_BYTES = 64 * MIB
"""Bound on the convolution inputs kept for `trim`, all layers together."""


class History:
    """The last inputs of one sequence: at least `reach` of them, more for `trim`.

    A flat buffer that is shifted down when it is full, so an append costs its own
    size. Its pages are committed when they are first written. One owner, no lock.
    """

    def __init__(self, *, reach: int, width: int, max_bytes: int) -> None:
        n_rows = max(max_bytes // (4 * width), 4 * reach)
        self._reach = reach
        self._buffer = np.zeros((n_rows, width), np.float32)
        self.reset()

    def reset(self) -> None:
        """Start a sequence: all positions before it read zero."""
        self._buffer[: self._reach] = 0
        self._end = self._reach

    def append(self, inputs: F32) -> F32:
        """Add (n_tokens, width); return them with the `reach` inputs before them.

        The result is a view, (reach + n_tokens, width), valid until the next call.
        """
        n_tokens = len(inputs)
        if self._end + n_tokens > len(self._buffer):
            self._make_room(n_tokens)
        start, self._end = self._end, self._end + n_tokens
        self._buffer[start : self._end] = inputs
        return self._buffer[start - self._reach : self._end]

    def drop(self, n_tokens: int) -> bool:
        """Forget the last `n_tokens` inputs; False, and nothing done, if that is
        further back than the buffer holds.
        """
        if n_tokens > self._end - self._reach:
            return False
        self._end -= n_tokens
        return True

    def _make_room(self, n_tokens: int) -> None:
        n_kept = max(self._reach, min(self._end, len(self._buffer) // 2))
        kept = self._buffer[self._end - n_kept : self._end].copy()
        if n_kept + n_tokens > len(self._buffer):
            shape = (n_kept + n_tokens, self._buffer.shape[1])
            self._buffer = np.zeros(shape, np.float32)
        self._buffer[:n_kept] = kept
        self._end = n_kept
