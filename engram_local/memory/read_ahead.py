"""The thread that reads the rows of a prompt ahead of the graph that gathers them.

What it does are hints: nobody waits for them, and what goes wrong in them shows where
the rows are used.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from threading import Condition, Thread
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from engram_local.memory.module import NativeModule

AHEAD_TOKENS = 2048
"""How far behind the end of the running decode rows are read: 4 times what llama.cpp
computes at once by default, and 128 MiB of pages at 16 rows per token. Enough for a
drive that is now and then slower than the graph, and little to have read for nothing
when a request is cancelled."""

_PIECE_TOKENS = 256
"""Read in one call, in the order of the file: 48 ms for 16 rows per token at 85,000
reads per second. What is needed first should not wait for what is needed later."""


class Reader(Protocol):
    """Reads the rows of some tokens; see `PageReader`."""

    context: int

    def read(self, token_ids: NDArray[np.int64], n_before: int) -> int:
        """Read the rows of all but the first `n_before` ids; return pages."""

    def cancel(self) -> None:
        """End a `read` early, and the next one too until `allow`."""

    def allow(self) -> None:
        """End what `cancel` began."""


class ReadAhead:
    """One sequence and a thread called `engram-prefetch` that reads ahead of it.

    Use from the thread that decodes, and close it.
    """

    def __init__(self, reader: Reader, *, distance_tokens: int) -> None:
        """distance_tokens: how far behind the first `passed` tokens rows are read."""
        self._reader = reader
        self._distance_tokens = distance_tokens
        self._changed = Condition()
        self._token_ids: list[int] = []
        self._n_read = 0
        self._n_passed = 0
        self._n_pages = 0
        self._closing = False
        # A daemon: who forgets to close a memory can still leave the program.
        self._thread = Thread(target=self._run, name="engram-prefetch", daemon=True)
        self._thread.start()

    def follow(self, token_ids: Sequence[int]) -> None:
        """Append to the sequence; of several tokens the rows are read at once.

        A single token is decoded next, and llama.cpp asks for its rows itself.
        """
        with self._changed:
            self._token_ids += token_ids
            if len(token_ids) > 1:
                self._changed.notify()

    def passed(self, n_tokens: int) -> None:
        """Tell that the rows of the first `n_tokens` have been used."""
        with self._changed:
            self._n_passed = n_tokens
            self._n_read = max(self._n_read, n_tokens)
            if self._n_read < self._n_allowed:
                self._changed.notify()

    def rewind(self, n_tokens: int) -> None:
        """Keep the first `n_tokens` of the sequence; what is being read is left."""
        with self._changed:
            self._reader.cancel()
            del self._token_ids[n_tokens:]
            self._n_read = min(self._n_read, n_tokens)
            self._n_passed = min(self._n_passed, n_tokens)

    def take_pages(self) -> int:
        """Return the pages asked for since the last call, those in memory too."""
        with self._changed:
            taken, self._n_pages = self._n_pages, 0
            return taken

    def close(self) -> None:
        """Stop and join. Calling it twice is fine."""
        with self._changed:
            self._closing = True
            self._reader.cancel()
            self._changed.notify()
        self._thread.join()

    @property
    def _n_allowed(self) -> int:
        return min(len(self._token_ids), self._n_passed + self._distance_tokens)

    def _run(self) -> None:
        while (piece := self._next_piece()) is not None:
            n_pages = self._reader.read(piece.token_ids, piece.n_before)
            with self._changed:
                self._n_pages += n_pages

    def _next_piece(self) -> _Piece | None:
        with self._changed:
            self._changed.wait_for(
                lambda: self._closing or self._n_read < self._n_allowed
            )
            if self._closing:
                return None
            self._reader.allow()  # a `rewind` from here on ends this piece
            start = self._n_read
            self._n_read = min(start + _PIECE_TOKENS, self._n_allowed)
            first = max(0, start - self._reader.context)
            token_ids = np.array(self._token_ids[first : self._n_read], np.int64)
            return _Piece(token_ids=token_ids, n_before=start - first)


class _Piece(NamedTuple):
    token_ids: NDArray[np.int64]
    n_before: int


def open_read_ahead(
    stack: ExitStack, module: NativeModule, *, max_batch: int
) -> ReadAhead:
    """Open what reads ahead of decodes of `max_batch` tokens; `stack` closes it.

    Open it when llama.cpp has mapped the file, and nothing else has. Linux only.
    Raises TableError if the file cannot be read.
    """
    from engram_local.memory.page_reader import PageReader

    reader = PageReader(module)
    stack.callback(reader.close)
    ahead = ReadAhead(reader, distance_tokens=max_batch + AHEAD_TOKENS)
    stack.callback(ahead.close)  # first: the thread reads from the file
    return ahead
