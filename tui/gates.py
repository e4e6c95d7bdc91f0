"""An answer's gates as one number per token, and words where there are none. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from engram_local.events import MemoryKind
from engram_local.worker.protocol import AnswerTrace

WHOLE_SCALE = (0.0, 1.0)
"""From a closed gate to an open one."""


def gates_of(trace: AnswerTrace, layer_id: int | None) -> tuple[float | None, ...]:
    """Return each token's gate in a layer, or its mean over layers if that is None.

    A token without gates has None.
    """
    if layer_id is None:
        return tuple(
            sum(token.gates) / len(token.gates) if token.gates else None
            for token in trace.tokens
        )
    index = trace.layer_ids.index(layer_id)
    return tuple(
        token.gates[index] if index < len(token.gates) else None
        for token in trace.tokens
    )


def spread_of(gates: Sequence[float | None]) -> tuple[float, float]:
    """Return the 5th and the 95th percentile; the whole scale if no gate is known.

    Not the least and the greatest: of the default memory's gates nine in ten lie
    between 0.9 and 1, and a single one at 0.1 would make all others look alike.
    """
    known = sorted(gate for gate in gates if gate is not None)
    if not known:
        return WHOLE_SCALE
    last = len(known) - 1
    return known[round(0.05 * last)], known[round(0.95 * last)]


def why_no_gates(trace: AnswerTrace | None, kind: MemoryKind | None) -> str | None:
    """Return why no token of an answer is tinted; None if some are.

    kind: of the memory that is loaded.
    """
    if trace is None or not trace.tokens:
        return "There is no answer of the chat to show: F2, and ask something."
    if any(token.gates for token in trace.tokens):
        return None
    if kind == "native":
        return (
            "The gates are not known: llama.cpp gathers and gates these rows itself. "
            "Which rows a token reads is."
        )
    return "This answer was written without a memory, so it has no gates."
