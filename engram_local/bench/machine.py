"""What was measured on: processor, memory, system, versions. No names of people,
machines or paths.
"""

from __future__ import annotations

import platform
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import psutil

from engram_local.system import cpu_name, system_name
from engram_local.units import format_bytes

_PACKAGES = ("engram-local", "llama-cpp-python", "numpy", "numba")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A computer and what is installed on it."""

    cpu: str
    n_cores: int | None
    """Physical; None = the system does not tell."""

    n_processors: int | None
    ram_bytes: int
    system: str
    python: str
    packages: dict[str, str]
    """Versions by name; a package that is not installed is left out."""

    def line(self) -> str:
        """Return all of it in one line, for people."""
        versions = [f"{name} {number}" for name, number in self.packages.items()]
        parts = [
            f"{self.cpu} ({self.n_cores or '?'} cores, {self.n_processors or '?'} "
            "processors)",
            f"{format_bytes(self.ram_bytes)} RAM",
            self.system,
            f"Python {self.python}",
        ]
        return ", ".join([*parts, *versions])


def look() -> Machine:
    """Look at this computer."""
    return Machine(
        cpu=cpu_name(),
        n_cores=psutil.cpu_count(logical=False),
        n_processors=psutil.cpu_count(),
        ram_bytes=psutil.virtual_memory().total,
        system=system_name(),
        python=platform.python_version(),
        packages=_versions(),
    )


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
