"""The processor's name and the system's. Imports nothing of ours."""

from __future__ import annotations

import platform
from contextlib import suppress
from pathlib import Path


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
