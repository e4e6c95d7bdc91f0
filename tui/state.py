"""What is known about the engine: one frozen value, and how events change it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from engram_local.errors import EngramError
from engram_local.events import ArmStarted, Finished
from engram_local.telemetry import MachineRam, Resources
from engram_local.worker.protocol import (
    ContextUse,
    Event,
    Loading,
    MemoryChanged,
    ModelInfo,
    Opened,
    Status,
)

Phase = Literal["starting", "loading", "ready", "busy", "lost", "none"]
"""Process starts; model loads; idle; answering; process died; no model is loaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineState:
    """Everything that widgets show about the engine; a new one with every change."""

    phase: Phase = "starting"
    model: ModelInfo | None = None
    """Its memory is the one that is loaded now."""

    loading: Loading | None = None
    status: Status | None = None
    """The newest live numbers of this model."""

    context: ContextUse | None = None
    """Of the newest prompt."""

    is_of_chat: bool = False
    """Whether the engine's sequence is what the chat shows: not once it shows another
    session or branch, and after a comparison."""

    finished: Finished | None = None
    """Of the newest answer of the chat; None once a comparison took its place."""

    is_comparing: bool = False
    n_sequences: int = 0
    """How often the engine began anew, for another memory or a comparison; positions
    of tokens are those of one sequence."""

    peak_rows_per_s: float | None = None
    """The most while the newest answer was written; not while its prompt was read."""

    memory_on: bool = False
    error: EngramError | None = None
    """Why the process is lost or no model is loaded."""

    resources: Resources | None = None
    """Of the engine's process; None while there is none."""

    machine: MachineRam | None = None


def after(state: EngineState, event: Event) -> EngineState:
    """Return the state after an event; the same object if nothing changed."""
    match event:
        case Loading():
            return replace(state, loading=event)
        case Opened(model=model):
            return EngineState(
                phase="ready",
                model=model,
                memory_on=model.memory_on,
                resources=state.resources,
                machine=state.machine,
            )
        case MemoryChanged() if state.model is not None:
            model = replace(state.model, memory=event.memory, memory_on=event.memory_on)
            return replace(
                state,
                model=model,
                memory_on=event.memory_on,
                context=None,
                is_of_chat=False,
                n_sequences=state.n_sequences + 1,
            )
        case Status():
            return replace(state, status=event, peak_rows_per_s=_peak(state, event))
        case ContextUse():
            return replace(
                state,
                context=event,
                is_of_chat=True,
                peak_rows_per_s=None,
                is_comparing=False,
            )
        case ArmStarted():
            n_sequences = state.n_sequences + 1
            return replace(
                state,
                is_of_chat=False,
                finished=None,
                is_comparing=True,
                n_sequences=n_sequences,
            )
        case Finished() if not state.is_comparing:
            return replace(state, finished=event)
    return state


def _peak(state: EngineState, status: Status) -> float | None:
    if status.tokens_per_s is None or status.rows_per_s is None:
        return state.peak_rows_per_s
    return max(state.peak_rows_per_s or 0.0, status.rows_per_s)


def failed(state: EngineState, phase: Phase, error: EngramError) -> EngineState:
    """Return the state after the process or a load failed.

    Of a process that was lost it keeps which model it had, and with what memory.
    """
    return EngineState(
        phase=phase,
        model=state.model if phase == "lost" else None,
        memory_on=state.memory_on and phase == "lost",
        error=error,
        machine=state.machine,
    )
