"""Open an engine as a front end does: what fits is put where it fits, then loaded.

The command line and the engine's own process share this; it prints nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engram_local.attachment import MemoryChoice
from engram_local.catalog import default_model
from engram_local.engine import Engine
from engram_local.errors import FileError
from engram_local.events import MemoryPart, Progress
from engram_local.figures import Term
from engram_local.loading import require_optional_memory
from engram_local.model_spec import Part
from engram_local.settings import Settings
from engram_local.sizing.machine import look
from engram_local.sizing.plan import Plan
from engram_local.sizing.preflight import Preflight, prepare
from engram_local.sizing.sources import open_spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """An engine that is ready, and what is to be said about it."""

    engine: Engine
    """To be closed by whoever asked for it."""

    notes: tuple[str, ...]
    """Sentences for the user: what is not as one may expect."""

    parts: tuple[MemoryPart, ...]
    """What takes VRAM and RAM, as planned; empty where nothing was planned."""


def open_engine(
    model: Path | None = None,
    *,
    memory: MemoryChoice = "auto",
    settings: Settings,
    asked_n_ctx: int | None = None,
    fit: bool = True,
    swappable: bool = False,
    progress: Progress | None = None,
) -> Opening:
    """Put on the GPU what fits, then load; the arguments are those of `Engine.open`.

    asked_n_ctx: what the user wants to hear about if the context is another; None =
    the settings' length, where that is not the default. fit: False = load it even if
    it does not seem to fit. Raises EngramError, FitError if it cannot work here.
    """
    if memory is None:
        require_optional_memory(model)
    flight = _plan(model, memory, settings, fit=fit)
    engine = Engine.open(
        model,
        memory=memory,
        settings=flight.settings,
        swappable=swappable,
        progress=progress,
    )
    if asked_n_ctx is None and settings.n_ctx != Settings().n_ctx:
        asked_n_ctx = settings.n_ctx
    notes = (*flight.notes, *_notes(engine, settings, asked_n_ctx))
    return Opening(engine=engine, notes=notes, parts=parts_of(flight.plan))


def _plan(
    model: Path | None, memory: MemoryChoice, settings: Settings, *, fit: bool
) -> Preflight:
    if not fit:
        return Preflight(settings=settings, notes=())
    path = model or default_model()
    try:
        spec = open_spec(str(path), memory=memory)
    except FileError:  # loading says more about what is wrong with a file
        return Preflight(settings=settings, notes=())
    return prepare(spec, settings, look(path))


def _notes(engine: Engine, settings: Settings, asked_n_ctx: int | None) -> list[str]:
    # A lock is missed only by those who asked for RAM.
    notes = list(engine.notes) if settings.memory_tier != "auto" else []
    if asked_n_ctx and engine.n_ctx != asked_n_ctx:
        # More than the model was trained for, or not a multiple of llama.cpp's 256.
        notes.append(f"the context is {engine.n_ctx} tokens, not {asked_n_ctx}")
    return notes


def parts_of(plan: Plan | None) -> tuple[MemoryPart, ...]:
    """Return what a plan puts into VRAM and RAM, by name; what takes nothing is left
    out. A table that stays in its file takes nothing.
    """
    if plan is None:
        return ()
    vram, ram = _by_name(plan.vram), _by_name(plan.ram)
    ram[Part.TABLE.value] = plan.tier.resident_bytes if plan.tier else 0
    return tuple(
        MemoryPart(name=name, vram_bytes=vram[name], ram_bytes=ram[name])
        for name in vram | ram
        if vram[name] or ram[name]
    )


def _by_name(terms: Sequence[Term]) -> Counter[str]:
    sums: Counter[str] = Counter()
    for term in terms:
        sums[term.name] += term.n_bytes
    return sums
