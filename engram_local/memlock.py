"""How much memory this process may lock in RAM, and how much it has."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

from engram_local.units import KIB

_CAP_IPC_LOCK = 1 << 14
"""Linux: with it no limit holds."""

RAISE_HINT = (
    "raise the limit: `ulimit -l unlimited` where that is allowed, "
    "LimitMEMLOCK=infinity in a systemd unit, or a line `USER - memlock unlimited` "
    "in /etc/security/limits.conf and a new login"
)


def lockable_bytes() -> float:
    """Return how much more may be locked, infinite where there is no limit.

    Raises this process's own limit as far as the system lets it.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit that could be asked for
        return 0
    if _has_capability():
        return float("inf")
    _, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (hard, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if soft == resource.RLIM_INFINITY:
        return float("inf")
    return max(0, soft - (locked_bytes() or 0))


def locked_bytes() -> int | None:
    """Return what this process has locked; None where the system does not tell."""
    text = _status_field("VmLck")
    return None if text is None else int(text.split()[0]) * KIB


def _has_capability() -> bool:
    text = _status_field("CapEff")
    return text is not None and bool(int(text, 16) & _CAP_IPC_LOCK)


def _status_field(name: str) -> str | None:
    if not sys.platform.startswith("linux"):
        return None
    status = Path("/proc/self/status").read_text("utf-8", "replace")
    fields = dict(line.partition(":")[::2] for line in status.splitlines())
    return fields.get(name)
