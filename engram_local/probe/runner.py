"""A whole probe: RAM, drive, processor, and GPU where it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TypeVar

import psutil

from engram_local.bench import machine
from engram_local.errors import EngramError, Interrupted
from engram_local.figures import Figure, Source
from engram_local.hardware import Compute
from engram_local.llama.copies import measure_copies
from engram_local.llama.devices import gpus
from engram_local.probe import model_speed
from engram_local.probe.drive_speed import DriveSpeed, measure_drive
from engram_local.probe.memory_speed import MemorySpeed, measure_memory
from engram_local.probe.model_speed import measure_models
from engram_local.probe.result import Identity, Probe

ALL_LAYERS = 999
"""More than any model has."""

_LOOK_S, _BUSY_PERCENT = 0.5, 10

Progress = Callable[[str, float], None]
Measured = TypeVar("Measured")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
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
    plan: Plan,
    *,
    outside: Outside | None = None,
    progress: Progress = lambda what, part: None,
) -> Probe:
    """Measure; what cannot be measured is a note. Raises Interrupted, and no other."""
    outside = outside or Outside()
    notes = _busy_notes(outside.busy_percent())

    def attempt(what: str, measure: Callable[[], Measured]) -> Measured | None:
        try:
            return measure()
        except Interrupted:
            raise
        except EngramError as error:
            hint = f" ({error.hint})" if error.hint else ""
            notes.append(f"{what} was not measured: {error.message}{hint}")
            return None

    def models(n_gpu_layers: int) -> Compute:
        return outside.models(
            plan.folder,
            n_rounds=model_speed.N_ROUNDS_QUICK if plan.quick else model_speed.N_ROUNDS,
            n_threads=plan.n_threads,
            n_gpu_layers=n_gpu_layers,
            progress=progress,
        )

    memory = attempt(
        "RAM",
        lambda: outside.memory(
            plan.n_threads, n_rounds=2 if plan.quick else 5, progress=progress
        ),
    )
    drive = attempt(
        "the drive",
        lambda: outside.drive(
            plan.folder,
            file=plan.file,
            n_rounds=1 if plan.quick else 3,
            progress=progress,
        ),
    )
    cpu = attempt("the processor", lambda: models(0))
    gpu = attempt("the GPU", lambda: models(ALL_LAYERS)) if plan.gpu else None
    copies = attempt("copies to the GPU", outside.copies) if identity.gpus else None
    return Probe(
        identity=identity,
        date=date.today().isoformat(),
        packages=machine.look().packages,
        n_threads=plan.n_threads,
        quick=plan.quick,
        memory=memory,
        drive=drive,
        cpu=cpu,
        gpu=gpu,
        copies=tuple(Figure(rate, Source.MEASURED) for rate in copies or ()),
        notes=tuple(notes),
    )


def _busy_notes(percent: float) -> list[str]:
    if percent < _BUSY_PERCENT:
        return []
    return [
        f"other programs used {percent:.0f} % of the processor when it began: measure "
        "again while they do not"
    ]
