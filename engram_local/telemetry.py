"""Numbers about this process and about durations. Counters in, frozen values out."""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from engram_local.events import Timing
from engram_local.units import KIB

STALL_EDGES_MS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""Upper bounds of a histogram's bins; one more bin holds what is longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Memory of a process."""

    rss_anon_bytes: int | None
    """Allocated: KV cache, buffers, a table in the tier `ram`."""

    rss_file_bytes: int | None
    """Mapped pages of files, which the system may drop: weights, a mapped table."""

    vram_bytes: int | None
    """None = not measurable, or no GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What this process has used since it began; None = the system does not tell."""

    drive_bytes: int | None
    """Read from drives: by read calls, page faults and read-ahead. No cached reads."""

    n_major_faults: int | None
    """Page faults that waited for a drive."""

    peak_rss_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineRam:
    """RAM of this computer, used by anybody."""

    total_bytes: int
    available_bytes: int
    """Free, or a cache that the system can drop."""


def measure_resources(pid: int | None = None) -> Resources:
    """Look at a process now; None = this one. Raises psutil.Error if it is gone."""
    info = psutil.Process(pid).memory_info()
    shared_bytes = getattr(info, "shared", None)  # Linux only
    return Resources(
        rss_anon_bytes=None if shared_bytes is None else info.rss - shared_bytes,
        rss_file_bytes=shared_bytes,
        vram_bytes=None,
    )


def measure_machine_ram() -> MachineRam:
    """Look at this computer now."""
    memory = psutil.virtual_memory()
    return MachineRam(total_bytes=memory.total, available_bytes=memory.available)


def measure_usage() -> Usage:
    """Look at this process now; all its threads count."""
    return Usage(
        drive_bytes=_drive_bytes(),
        n_major_faults=_major_faults(),
        peak_rss_bytes=_peak_rss_bytes(),
    )


def stall_bin(stall_s: float) -> int:
    """Return the bin of the histogram that a stall belongs to."""
    return bisect_left(STALL_EDGES_MS, 1e3 * stall_s)


def summarize(durations_s: Sequence[float]) -> Timing:
    """Return total, median, 95th percentile and maximum, in milliseconds."""
    ordered = sorted(durations_s)
    if not ordered:
        return Timing(total_ms=0.0, p50_ms=0.0, p95_ms=0.0, max_ms=0.0)
    return Timing(
        total_ms=1e3 * sum(ordered),
        p50_ms=1e3 * ordered[_rank(ordered, 0.50)],
        p95_ms=1e3 * ordered[_rank(ordered, 0.95)],
        max_ms=1e3 * ordered[-1],
    )


def _rank(ordered: Sequence[float], part: float) -> int:
    return min(len(ordered) - 1, int(part * len(ordered)))


def _drive_bytes() -> int | None:
    if not sys.platform.startswith("linux"):
        return None  # psutil counts cached reads elsewhere
    with suppress(psutil.Error, AttributeError):  # a kernel without I/O accounting
        return int(psutil.Process().io_counters().read_bytes)
    return None


def _major_faults() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_majflt


def _peak_rss_bytes() -> int | None:
    # Not ru_maxrss: a process inherits that from the one that started it.
    with suppress(OSError):
        text = Path("/proc/self/status").read_text("utf-8", "replace")
        for line in text.splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * KIB
    return None
