"""Live numbers of an engine, with rates since the last time."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass

from engram_local.engine import Engine
from engram_local.errors import BackboneError
from engram_local.events import MemoryTotals, PromptProgress
from engram_local.llama.devices import gpus
from engram_local.worker.protocol import Event, GpuUse, Status

_INTERVAL_S = 0.25
_LOOK_PART = 0.01
"""Of the time, at most, for asking which pages of a table are resident: one byte per
page is written, 7 MB for 28 GB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """An engine at a moment."""

    n_tokens: int
    totals: MemoryTotals
    at_s: float


class Meter:
    """Counts for one engine, in the thread that decodes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._last = self._look()
        self._is_answering = self._is_generating = False
        self._resident: tuple[object, int | None] = (None, None)
        self._look_again_s = 0.0

    def begin(self) -> None:
        """Count from here: an answer is being made."""
        self._last, self._is_answering = self._look(), True

    def note(self, event: Event) -> None:
        """Hear what the engine says: tokens are counted from the prompt's end."""
        if isinstance(event, PromptProgress):
            self._is_generating = event.n_done == event.n_total
            if self._is_generating:
                self.begin()

    def is_due(self) -> bool:
        """Return whether a while has passed since `begin` or `status`."""
        return time.perf_counter() - self._last.at_s >= _INTERVAL_S

    def end(self) -> Status:
        """Return what there is after a request; it has no rates."""
        self._is_answering = self._is_generating = False
        return self.status()

    def status(self) -> Status:
        """Return counts so far, and rates since the last time."""
        before, now = self._last, self._look()
        self._last = now
        elapsed_s = now.at_s - before.at_s
        n_tokens = now.n_tokens - before.n_tokens if self._is_generating else None
        totals = now.totals
        n_rows = totals.rows_read - before.totals.rows_read
        return Status(
            n_tokens=now.n_tokens,
            tokens_per_s=_rate(n_tokens, elapsed_s),
            rows_per_s=_rate(n_rows if self._is_reading else None, elapsed_s),
            stall_ms=_stall_ms(before.totals, totals),
            stall_counts=totals.stall_counts,
            n_ready=totals.n_ready,
            n_late=totals.n_late,
            rows_read=totals.rows_read,
            bytes_read=totals.bytes_read,
            resident_bytes=self._resident_bytes(),
            gpus=_gpus(),
        )

    def _resident_bytes(self) -> int | None:
        """Return what was seen the last time, until it is time to look again."""
        memory, start = self._engine.loaded_memory, time.perf_counter()
        if memory is None:
            return None
        if memory is not self._resident[0] or start >= self._look_again_s:
            self._resident = memory, memory.resident_bytes
            end = time.perf_counter()
            self._look_again_s = end + (end - start) / _LOOK_PART
        return self._resident[1]

    @property
    def _is_reading(self) -> bool:
        return self._is_answering and self._engine.memory is not None

    def _look(self) -> _Look:
        return _Look(
            n_tokens=self._engine.n_tokens,
            totals=self._engine.memory_totals(),
            at_s=time.perf_counter(),
        )


def _rate(count: int | None, elapsed_s: float) -> float | None:
    return None if count is None or elapsed_s <= 0 else max(count, 0) / elapsed_s


def _stall_ms(before: MemoryTotals, now: MemoryTotals) -> float | None:
    """Return the mean per decode call; None if there was none that could wait."""
    n_steps = now.n_steps - before.n_steps
    return (now.stall_ms - before.stall_ms) / n_steps if n_steps > 0 else None


def _gpus() -> tuple[GpuUse, ...]:
    with suppress(BackboneError):
        return tuple(
            GpuUse(
                name=gpu.description or gpu.name,
                used_bytes=gpu.total_bytes - gpu.free_bytes,
                total_bytes=gpu.total_bytes,
            )
            for gpu in gpus()
        )
    return ()
