"""Numbers for people, in one place: a format cannot round what another does not."""

from __future__ import annotations

import math

from engram_local.figures import Interval
from engram_local.units import GIB, KIB, MIB

UNKNOWN = "unknown"


def unit_of(largest_bytes: int) -> tuple[int, str]:
    """Return the unit of a column of sizes: GiB, or less where all of them are less."""
    for n_bytes, name in ((GIB, "GiB"), (MIB, "MiB")):
        if largest_bytes >= n_bytes:
            return n_bytes, name
    return KIB, "KiB"


def in_unit(n_bytes: int, unit_bytes: int) -> str:
    """Return a size without its unit: `23.18`; what is below 0.005 is not called 0."""
    if 0 < abs(n_bytes) < unit_bytes / 200:
        return "< 0.01" if n_bytes > 0 else "> -0.01"
    return f"{n_bytes / unit_bytes:,.2f}"


def number(value: float) -> str:
    """Return three digits at most, two below 100: `1,240`, `241`, `36`, `5.2`, `0.59`.

    What is not finite is unknown.
    """
    if not math.isfinite(value):
        return UNKNOWN
    if value == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(value)))
    n_digits = 3 if magnitude >= 2 else 2
    rounded = round(value, n_digits - 1 - magnitude)
    magnitude = math.floor(math.log10(abs(rounded)))
    return f"{rounded:,.{max(0, min(1 - magnitude, 6))}f}"


def between(interval: Interval) -> str:
    """Return a number and its range: `36 (15 to 51)`; no range where there is none."""
    low, value, high = map(number, (interval.low, interval.value, interval.high))
    return value if low == high else f"{value} ({low} to {high})"


def span(interval: Interval) -> str:
    """Return the same in fewer characters, for a narrow column: `36 (15-51)`."""
    low, value, high = map(number, (interval.low, interval.value, interval.high))
    return value if low == high else f"{value} ({low}-{high})"


def bandwidth(bytes_per_s: float) -> str:
    """Return a bandwidth as datasheets write it: `83 GB/s`, `1,008 GB/s`."""
    gb_per_s = bytes_per_s / 1e9
    return f"{gb_per_s:,.0f} GB/s" if gb_per_s >= 100 else f"{number(gb_per_s)} GB/s"


def operations(flops_per_s: float) -> str:
    """Return a rate of operations: `165 TFLOPS`, `240 GFLOPS`."""
    if flops_per_s >= 1e12:
        return f"{number(flops_per_s / 1e12)} TFLOPS"
    return f"{number(flops_per_s / 1e9)} GFLOPS"


def parameters(count: int) -> str:
    """Return a number of parameters: `176 B`, `139 M`."""
    if count >= 1e9:
        return f"{number(count / 1e9)} B"
    return f"{number(count / 1e6)} M"
