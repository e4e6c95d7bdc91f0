"""This computer as sizing sees it, with the room that the loaded model would leave.

For threads of their own: the imports take half a second, the first look too.
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from tui.state import EngineState

if TYPE_CHECKING:
    from engram_local.hardware import Gpu, Hardware


def this_computer(path: Path, state: EngineState) -> Hardware:
    """Return this computer, if the model that is loaded now were not.

    path: a file or folder on the drive in question. Raises BenchError.
    """
    from engram_local.sizing.machine import look_at_ram

    try:
        drive = os.stat(path).st_dev
    except OSError:  # a model that is not here yet
        path, drive = Path(), os.stat(".").st_dev
    hardware = _look(drive, str(path), taken_vram_bytes(state))
    ram, _ = look_at_ram()
    taken = 0 if state.resources is None else state.resources.rss_anon_bytes or 0
    free_bytes = min(ram.total_bytes, ram.available_bytes + taken)
    return replace(hardware, ram=replace(hardware.ram, available_bytes=free_bytes))


def taken_vram_bytes(state: EngineState) -> int:
    """Return what the loaded model takes of VRAM, as it was planned."""
    model = state.model
    return 0 if model is None else sum(part.vram_bytes for part in model.parts)


def look_again() -> None:
    """Forget what was seen, for whom GPUs are freed or a probe was made."""
    _look.cache_clear()


@lru_cache(maxsize=4)  # drives
def _look(drive: int, path: str, taken_bytes: int) -> Hardware:
    from engram_local.known_hardware import measured_from_outside

    hardware = measured_from_outside(Path(path))
    return replace(hardware, gpus=freed(hardware.gpus, taken_bytes))


def freed(gpus: tuple[Gpu, ...], taken_bytes: int) -> tuple[Gpu, ...]:
    """Return the GPUs with so much more that is free, where something is used."""
    used = [gpu.vram_bytes - gpu.free_bytes for gpu in gpus]
    part = min(1.0, taken_bytes / max(sum(used), 1))
    return tuple(
        replace(gpu, free_bytes=gpu.free_bytes + int(part * own))
        for gpu, own in zip(gpus, used, strict=True)
    )
