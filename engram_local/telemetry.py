"""Numbers about this process and about durations. Counters in, frozen values out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from engram_local.events import Timing


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Memory of this process."""

    rss_anon_bytes: int | None
    """Allocated: KV cache, buffers, a table in the tier `ram`."""

    rss_file_bytes: int | None
    """Mapped pages of files, which the system may drop: weights, a mapped table."""

    vram_bytes: int | None
    """None = not measurable, or no GPU."""


def measure_resources() -> Resources:
    """Look at this process now."""
    info = psutil.Process().memory_info()
    shared_bytes = getattr(info, "shared", None)  # Linux only
    return Resources(
        rss_anon_bytes=None if shared_bytes is None else info.rss - shared_bytes,
        rss_file_bytes=shared_bytes,
        vram_bytes=None,
    )


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
