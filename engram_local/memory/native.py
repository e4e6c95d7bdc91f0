"""A table that is part of a model, beside llama.cpp, which gathers its rows itself.

Nothing is added to the hidden state here: what is submitted is read ahead of the graph.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engram_local.events import MemoryKind
from engram_local.memory.counters import Counters
from engram_local.memory.module import NativeModule
from engram_local.memory.read_ahead import ReadAhead
from engram_local.memory.table import MmapTable, Table
from engram_local.memory.verify import RowVerifier


class NativeMemory:
    """One table and one sequence; the calls are those of `AttachedMemory`.

    Use from the thread that decodes, and close it.
    """

    kind: MemoryKind = "native"

    def __init__(
        self,
        module: NativeModule,
        tier: str,
        *,
        ahead: ReadAhead | None = None,
        verifier: RowVerifier | None = None,
    ) -> None:
        """tier: "mmap" where llama.cpp reads rows from the file, "ram" where it has
        read them all. ahead: reads those of prompts; verifier: compares the rows that
        llama.cpp gathers. Whoever made these two closes them, after this.
        """
        self.module = module
        self.tier = tier
        self._counted = Counters()
        self._ahead = ahead
        self._verifier = verifier
        self._table: MmapTable | None = None
        if tier == "mmap":
            (layer,) = module.spec.layers
            self._table = MmapTable(module.path, layer.table)

    @property
    def layer_ids(self) -> tuple[int, ...]:
        """Decoder layer that first uses the rows."""
        return self.module.layer_ids

    @property
    def tables(self) -> Sequence[Table]:
        """The one in the file; none where llama.cpp has read it."""
        return () if self._table is None else (self._table,)

    @property
    def resident_bytes(self) -> int | None:
        """Bytes of the table that are in memory now; None if the system hides it."""
        if self._table is None:
            return self.module.spec.table_bytes
        return self._table.resident_bytes()  # looks, and reads nothing

    def submit(self, token_ids: Sequence[int]) -> None:
        """Append to the sequence what will be decoded next."""
        self._counted.add_rows(self.module.spec, len(token_ids))
        if self._ahead is not None:
            self._ahead.follow(token_ids)
        if self._verifier is not None:
            self._verifier.submit(token_ids)

    def prepare(self) -> None:
        """Nothing is made before a decode: llama.cpp gathers the rows."""

    def check(self, n_tokens: int) -> None:
        """End a decode: the first `n_tokens` of the sequence are computed."""
        if self._ahead is not None:
            self._ahead.passed(n_tokens)
        if self._verifier is not None:
            self._verifier.check(n_tokens)

    def gates(self, first: int, end: int) -> NDArray[np.float32]:
        """There are none of ours: (0, n_tokens)."""
        return np.zeros((0, end - first), np.float32)

    def trim(self, n_tokens: int) -> bool:
        """Keep the first `n_tokens` of the sequence, between two decodes.

        What is being read for others is left.
        """
        if self._ahead is not None:
            self._ahead.rewind(n_tokens)
        if self._verifier is not None:
            self._verifier.trim(n_tokens)
        return True

    def reset(self) -> None:
        """Start a new sequence."""
        self.trim(0)

    def look(self) -> Counters:
        """Return the counters as they are; they go on counting."""
        return self._counted

    def take_counters(self) -> Counters:
        """Return the counters and start again from zero."""
        taken, self._counted = self._counted, Counters()
        if self._ahead is not None:
            taken.pages_ahead = self._ahead.take_pages()
        if self._verifier is not None:
            taken.verified_rows = self._verifier.take_count()
        return taken

    def close(self) -> None:
        """Close the file. Calling it twice is fine."""
        if self._table is not None:
            self._table.close()
