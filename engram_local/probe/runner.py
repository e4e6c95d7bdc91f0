"""A whole probe: RAM, drive, processor, copies to GPUs, and GPUs if asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import TypeVar

import psutil

from engram_local.bench import machine
from engram_local.errors import EngramError, Interrupted
from engram_local.events import Progress
from engram_local.figures import Figure, Source
from engram_local.hardware import Compute
from engram_local.llama.copies import measure_copies
from engram_local.llama.devices import gpus
from engram_local.probe.drive_speed import DriveSpeed, measure_drive
from engram_local.probe.memory_speed import MemorySpeed, measure_memory
from engram_local.probe.model_speed import measure_models
from engram_local.probe.result import Identity, Probe

ALL_LAYERS = 999
"""More than any model has."""

_LOOK_S, _BUSY_PERCENT = 0.5, 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounds:
    """How often each thing is measured."""

    memory: int
    drive: int
    models: int


_FULL = Rounds(memory=5, drive=3, models=5)
_QUICK = Rounds(memory=2, drive=1, models=2)

Measured = TypeVar("Measured")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What is measured, and how often."""

    folder: Path
    """Where files are made; nothing of them is left."""

    file: Path | None = None
    """A file on the drive that is measured; None = one is made in `folder`."""

    n_threads: int
    quick: bool = False
    """Fewer repetitions: 20 s in place of 45, and twice the noise."""

    gpu: bool = False
    """Also run models with all layers on the GPU."""


def measure_all_copies() -> list[float]:
    """Return bytes per second from RAM to each GPU. Raises BackboneError."""
    return [measure_copies(device.name) for device in gpus()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """What takes time in a probe; tests put something else in its place."""

    memory: Callable[..., MemorySpeed] = measure_memory
    drive: Callable[..., DriveSpeed] = measure_drive
    models: Callable[..., Compute] = measure_models
    copies: Callable[[], list[float]] = measure_all_copies
    busy_percent: Callable[[], float] = lambda: psutil.cpu_percent(_LOOK_S)


def run_probe(
    identity: Identity,
    scope: Scope,
    *,
    outside: Outside | None = None,
    progress: Progress = lambda what, part: None,
) -> Probe:
    """Measure; what cannot be measured is a note. Raises Interrupted, and no other."""
    outside = outside or Outside()
    rounds = _QUICK if scope.quick else _FULL
    notes = _busy_notes(outside.busy_percent())
    memory = partial(outside.memory, scope.n_threads, n_rounds=rounds.memory)
    drive = partial(outside.drive, scope.folder, file=scope.file, n_rounds=rounds.drive)
    models = partial(
        outside.models,
        scope.folder,
        n_rounds=rounds.models,
        n_threads=scope.n_threads,
        progress=progress,
    )
    on_gpu = partial(models, n_gpu_layers=ALL_LAYERS)
    return Probe(
        identity=identity,
        date=date.today().isoformat(),
        packages=machine.look().packages,
        n_threads=scope.n_threads,
        quick=scope.quick,
        memory=_attempt("RAM", partial(memory, progress=progress), notes),
        drive=_attempt("the drive", partial(drive, progress=progress), notes),
        cpu=_attempt("the processor", partial(models, n_gpu_layers=0), notes),
        gpu=_attempt("the GPU", on_gpu, notes) if scope.gpu else None,
        host_bytes_per_s=_copies(identity, outside, notes),
        notes=tuple(notes),  # last: the lines above add to them
    )


def _copies(
    identity: Identity, outside: Outside, notes: list[str]
) -> tuple[Figure, ...]:
    if not identity.gpus:
        return ()
    rates = _attempt("copies to the GPU", outside.copies, notes)
    return tuple(Figure(rate, Source.MEASURED) for rate in rates or ())


def _attempt(
    what: str, measure: Callable[[], Measured], notes: list[str]
) -> Measured | None:
    """Return what was measured; None, and one note more, if that failed."""
    try:
        return measure()
    except Interrupted:
        raise
    except EngramError as error:
        hint = f" ({error.hint})" if error.hint else ""
        notes.append(f"{what} was not measured: {error.message}{hint}")
        return None


def _busy_notes(percent: float) -> list[str]:
    if percent < _BUSY_PERCENT:
        return []
    return [
        f"other programs used {percent:.0f} % of the processor when it began: measure "
        "again while they do not"
    ]
