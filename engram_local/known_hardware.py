"""This computer with what a probe measured of it."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from engram_local.errors import BenchError
from engram_local.hardware import Hardware
from engram_local.probe import store
from engram_local.probe.result import apply_probe
from engram_local.sizing import machine

_LOOK_S = 60.0
"""A look takes 0.5 s, some seconds with several GPUs."""


def measured_hardware(path: Path) -> Hardware:
    """Return this computer, with what a probe measured where there was one.

    path: a file or folder on the drive in question. Where only another drive of this
    computer was measured, its RAM and processors were too.
    """
    hardware = machine.look(path)
    identity = store.here(path, gpus=tuple(gpu.name for gpu in hardware.gpus))
    probe, problem = store.find_probe(identity)
    notes = hardware.notes + ((problem,) if problem else ())
    if probe is not None:
        notes += (f"measured by `engram-local probe` on {probe.date}",)
    elif probe := store.find_without_drive(identity):
        notes += (
            f"measured by `engram-local probe` on {probe.date}, but with another drive",
        )
    else:
        notes += (
            "nothing was measured here, so speeds are wide estimates; `engram-local "
            "probe` takes a minute",
        )
        return replace(hardware, notes=notes)
    return apply_probe(replace(hardware, notes=notes), probe)


def measured_from_outside(path: Path) -> Hardware:
    """Return the same, found out by a process that has ended when this returns.

    To look at a GPU takes some 300 MB of its memory until the process ends, which a
    program that stays open should leave to others. Raises BenchError if it fails.
    """
    command = [sys.executable, "-m", "engram_local.known_hardware", str(path)]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_LOOK_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise BenchError(f"this computer could not be looked at: {error}") from error
    hardware = pickle.loads(done.stdout)  # of our own making, a moment ago
    assert isinstance(hardware, Hardware)
    return hardware


if __name__ == "__main__":
    sys.stdout.buffer.write(pickle.dumps(measured_hardware(Path(sys.argv[1]))))
