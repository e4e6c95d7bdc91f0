"""The processor's name, the system's, and what is mounted. Imports nothing of ours."""

from __future__ import annotations

import platform
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil


def cpu_name() -> str:
    """Return the processor's name, or its architecture where it has none."""
    with suppress(OSError):  # Linux only; elsewhere platform knows
        for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def system_name() -> str:
    """Return distribution and kernel: `Debian GNU/Linux 12, kernel 6.1`."""
    name = platform.system()
    with suppress(OSError):
        name = platform.freedesktop_os_release().get("PRETTY_NAME", name)
    return f"{name}, kernel {platform.release()}"


def partition_of(path: Path) -> Any | None:
    """Return what psutil knows of the partition that holds a path without links.

    It has `device`, `mountpoint` and `fstype`. None where the system does not tell.
    """
    holding = [
        partition
        for partition in psutil.disk_partitions(all=True)
        if path.is_relative_to(partition.mountpoint)
    ]
    # The last of several on one folder hides the others; max keeps the first of equals.
    return max(reversed(holding), key=lambda one: len(one.mountpoint), default=None)
