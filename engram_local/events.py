"""What an engine says while it works: frozen values, matched by class.

Front ends (the command line, the chat app, benchmarks, tests) consume one iterator of
these. Imports nothing of ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Progress = Callable[[str, float], None]
"""Called with what is being done and its part, 0 to 1. Of a load, it may be called in
another thread; where it raises Interrupted, that ends the load."""

MemoryKind = Literal["attached", "native"]
"""Rows that we add to the hidden state; rows that llama.cpp's own graph gathers."""

FinishReason = Literal["stop", "length", "context", "cancelled"]
"""End token; `max_tokens`; context full; cancelled by the user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptProgress:
    """Some of the prompt has been evaluated."""

    n_done: int
    n_total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TextChunk:
    """The next piece of the answer: whole characters, never empty."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long something took, per call."""

    total_ms: float
    p50_ms: float
    p95_ms: float
    max_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryStats:
    """What the memory did for one answer, prompt included."""

    kind: MemoryKind

    tier: str
    rows_read: int
    bytes_read: int
    stall: Timing | None
    """Time that the forward pass waited for rows, per decode call; None = it waited
    inside llama.cpp, which does not tell."""

    stall_counts: tuple[int, ...] = ()
    """Decode calls per bin of telemetry.STALL_EDGES_MS; empty where `stall` is None."""

    n_submitted: int
    """Layers of decode calls that needed rows."""

    n_ready: int
    """Of those, whose rows had been prepared when the forward pass asked."""

    n_late: int
    """The others: prepared while it waited, as warm rows of a single token are."""

    pages_ahead: int | None = None
    """Pages of the file that were asked for before llama.cpp did; None = by nobody."""

    verified_rows: int | None = None
    """Rows that llama.cpp gathered and that are ours bit for bit; None = not asked."""

    gate_mean: dict[int, float]
    """Mean gate per memory layer, 0 closed to 1 open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryTotals:
    """What memories did since the engine was opened."""

    rows_read: int = 0
    bytes_read: int = 0
    n_steps: int = 0
    """Decode calls that could wait for rows; 0 where llama.cpp waits."""

    stall_ms: float = 0.0
    """Waited in all of them."""

    stall_counts: tuple[int, ...] = ()
    """Steps per bin of telemetry.STALL_EDGES_MS."""

    n_ready: int = 0
    n_late: int = 0
    """As in MemoryStats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The answer is complete; always the last event."""

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    n_prompt: int
    n_cached: int
    """Prompt tokens whose state was still there, or saved, from the turns before."""

    prompt_s: float
    first_token_s: float | None
    """From the request to the first token; None if there was none."""

    token_ms: Timing
    decode_s: float
    memory: MemoryStats | None

    @property
    def prompt_tokens_per_s(self) -> float | None:
        """Evaluated prompt tokens per second."""
        return _rate(self.n_prompt - self.n_cached, self.prompt_s)

    @property
    def tokens_per_s(self) -> float | None:
        """Generated tokens per second; the first one counts to the prompt."""
        return _rate(len(self.token_ids) - 1, self.decode_s)


Event = PromptProgress | TextChunk | Finished


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenTrace:
    """A token of an answer, and how far it opened the memory's gates."""

    token_id: int
    text: str
    """May be a part of a character, which shows as U+FFFD."""

    gates: tuple[float, ...]
    """Per memory layer, 0 closed to 1 open: what the memory added to the state that
    was computed from this token. Empty without memory, or where llama.cpp gates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRow:
    """A row of the table that a token reads."""

    layer_id: int
    order: int
    """Tokens of the n-gram."""

    head: int
    token_ids: tuple[int, ...]
    """Of the n-gram, oldest first; shorter where the sequence or an EOS cuts it."""

    texts: tuple[str, ...]
    row_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TableStrip:
    """Which parts of one layer's table are in memory."""

    layer_id: int
    n_rows: int
    table_bytes: int
    resident: tuple[float | None, ...]
    """Part of each cell that is resident, 0 to 1, from the table's begin to its end;
    None = the system does not tell, or may not tell the truth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableMap:
    """All layers' tables."""

    strips: tuple[TableStrip, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPart:
    """What something takes of VRAM and RAM, planned before the load (sizing/plan.py).

    name: "weights", "KV cache", "compute buffers", ... of the sizing report.
    """

    name: str
    vram_bytes: int
    ram_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmStarted:
    """What comes now is the answer with the memory, or the one without."""

    memory_on: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedArm:
    """One of two answers."""

    memory_on: bool
    finished: Finished
    nll_on: float | None
    """Mean negative log-likelihood of the answer's tokens, in nats, with the memory;
    None for an empty answer."""

    nll_off: float | None
    """And without."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Both answers, scored both ways."""

    arms: tuple[ComparedArm, ...]


def _rate(count: int, seconds: float) -> float | None:
    return count / seconds if count > 0 and seconds > 0 else None
