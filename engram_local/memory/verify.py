"""The rows of a model's own table, found a second time and compared bit for bit.

Knows nothing of llama.cpp: whoever sees the rows of its graph hands them to `compare`.
Nothing is shared with it: the history of the sequence, the hash, the reading of the
file and the decoding of its rows are ours.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engram_local.errors import BackboneError, RowsDifferError
from engram_local.memory.hashing import RowHasher
from engram_local.memory.module import NativeModule
from engram_local.memory.table import MmapTable

F32 = NDArray[np.float32]


class RowVerifier:
    """Compares the rows of one sequence. Use from the thread that decodes; close it.

    Order of calls: `submit` token ids, any number of them ahead; `compare` for each
    piece of a decode in turn, then `check`.
    """

    def __init__(self, module: NativeModule) -> None:
        """Raises TableError if the file cannot be read."""
        (layer,) = module.spec.layers
        self.width = layer.embedding_size
        """Values of one token's rows."""

        self._scale = np.float32(module.node_scale)
        self._hasher = RowHasher(layer.hash)
        self._table = MmapTable(module.path, layer.table)
        self._token_ids: list[int] = []
        self._n_compared = 0
        self._n_equal_rows = 0

    def submit(self, token_ids: Sequence[int]) -> None:
        """Append to the sequence."""
        self._token_ids += token_ids

    def compare(self, _line: int, rows: F32) -> None:
        """Compare the rows of the next tokens of the sequence.

        rows: (n_tokens, width) float32. Raises RowsDifferError at the first value with
        other bits (a NaN equals any NaN), TableError if the file cannot be read.
        """
        start, end = self._n_compared, self._n_compared + len(rows)
        assert end <= len(self._token_ids), "rows of tokens that were not submitted"
        row_ids = self._row_ids(start, end)
        ours = self._gather(row_ids.reshape(-1)).reshape(rows.shape)
        unequal = ours.view(np.uint32) != rows.view(np.uint32)
        unequal &= ~(np.isnan(ours) & np.isnan(rows))
        if unequal.any():
            place = np.unravel_index(np.argmax(unequal), rows.shape)
            raise self._error(int(place[0]), int(place[1]), row_ids, rows, ours)
        self._n_compared = end
        self._n_equal_rows += row_ids.size

    def check(self, n_tokens: int) -> None:
        """End a decode; raise unless the first `n_tokens` have been compared."""
        if self._n_compared != n_tokens:
            raise BackboneError(
                f"{n_tokens} tokens were computed, the rows of {self._n_compared} came "
                "to be compared",
                hint="this llama.cpp gathers them elsewhere: leave out --verify-rows",
            )

    def trim(self, n_tokens: int) -> None:
        """Keep the first `n_tokens` of the sequence, between two decodes."""
        del self._token_ids[n_tokens:]
        self._n_compared = min(self._n_compared, n_tokens)

    def take_count(self) -> int:
        """Return how many rows were equal since the last call."""
        n_rows, self._n_equal_rows = self._n_equal_rows, 0
        return n_rows

    def close(self) -> None:
        """Close the file. Calling it twice is fine."""
        self._table.close()

    def _row_ids(self, start: int, end: int) -> NDArray[np.int64]:
        first = max(0, start - self._hasher.context)
        token_ids = np.array(self._token_ids[first:end], np.int64)
        return self._hasher.row_ids(token_ids, start - first)

    def _gather(self, row_ids: NDArray[np.int64]) -> F32:
        rows = np.empty((len(row_ids), self._table.spec.width), np.float32)
        with np.errstate(all="ignore"):  # a damaged row may hold any number
            rows = self._table.gather(row_ids, rows) * self._scale
        return rows

    def _error(
        self, token: int, value: int, row_ids: NDArray[np.int64], theirs: F32, ours: F32
    ) -> RowsDifferError:
        position = self._n_compared + token
        slot, index = divmod(value, self._table.spec.width)
        return RowsDifferError(
            f"token {position} (id {self._token_ids[position]}), slot {slot}: "
            f"llama.cpp gathered something else than row {row_ids[token, slot]}: value "
            f"{index} is {_with_bits(theirs[token, value])}, in the file it is "
            f"{_with_bits(ours[token, value])}",
            hint="do not trust this model's answers: the file has changed since it was "
            "loaded, or this llama.cpp follows another rule",
        )


def _with_bits(value: np.float32) -> str:
    return f"{value:.9g} (0x{value.view(np.uint32):08x})"
