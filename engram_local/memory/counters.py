"""What a memory did: counted by the thread that decodes, taken after an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from engram_local.errors import BackboneError
from engram_local.spec import MemorySpec
from engram_local.telemetry import STALL_EDGES_MS, stall_bin

N_BINS = len(STALL_EDGES_MS) + 1


@dataclass(slots=True)
class Counters:
    """What happened since `take_counters`; owned by the thread that decodes."""

    rows_read: int = 0
    bytes_read: int = 0
    pages_ahead: int | None = None
    """Pages that were asked for ahead of the graph; None = nothing reads ahead."""

    verified_rows: int | None = None
    """Rows of llama.cpp's that were compared with ours; None = nobody asked for it."""

    n_waits: int = 0
    """Layers of decodes that needed records."""

    n_ready: int = 0
    """Of those, whose records were there."""

    stalls_s: list[float] = field(default_factory=list)
    """One entry per decode: its layers' waits together."""

    stall_s: float = 0.0
    """Their sum."""

    stall_counts: list[int] = field(default_factory=lambda: [0] * N_BINS)
    """And how many were how long: telemetry.STALL_EDGES_MS."""

    gate_sums: dict[int, float] = field(default_factory=dict)
    gate_counts: dict[int, int] = field(default_factory=dict)

    def add_rows(self, spec: MemorySpec, n_tokens: int) -> None:
        """Count the rows of some tokens."""
        self.rows_read += n_tokens * spec.rows_per_token
        self.bytes_read += n_tokens * spec.bytes_per_token

    def add_stall(self, stall_s: float) -> None:
        """Count a decode and its wait."""
        self.stalls_s.append(stall_s)
        self.stall_s += stall_s
        self.stall_counts[stall_bin(stall_s)] += 1

    def add_gates(self, layer_id: int, total: float, count: int) -> None:
        """Count some gates of a layer."""
        self.gate_sums[layer_id] = self.gate_sums.get(layer_id, 0.0) + total
        self.gate_counts[layer_id] = self.gate_counts.get(layer_id, 0) + count

    def gate_means(self) -> dict[int, float]:
        """Return the mean gate per memory layer that had any."""
        return {
            layer_id: total / self.gate_counts[layer_id]
            for layer_id, total in self.gate_sums.items()
            if self.gate_counts[layer_id]
        }


def check_passed(n_passed: Sequence[int], n_tokens: int) -> None:
    """Raise unless every layer was added to exactly the first `n_tokens`.

    A hidden state that never arrived would shift all rows after it, unseen.
    """
    if any(n != n_tokens for n in n_passed):
        raise BackboneError(
            f"{n_tokens} tokens were computed, the memory layers saw {list(n_passed)}",
            hint="run it without a memory: --no-memory",
        )
