"""The line that says what was measured on."""

from __future__ import annotations

import platform

import numpy as np

from engram_local.bench.machine import Machine, look


def test_this_machine_is_described() -> None:
    machine = look()
    assert machine.cpu and machine.ram_bytes > 1 << 28
    assert machine.python == platform.python_version()
    assert machine.packages["numpy"] == np.__version__


def test_its_name_and_its_user_are_not() -> None:
    line = look().line()
    assert "\n" not in line
    assert len(platform.node()) < 3 or platform.node() not in line


def test_the_line_has_everything() -> None:
    machine = Machine(
        cpu="Z80",
        n_cores=None,
        n_processors=2,
        ram_bytes=65536,
        system="CP/M 2.2",
        python="3.11",
        packages={"numpy": "2.0"},
    )
    assert machine.line() == (
        "Z80 (? cores, 2 processors), 64.0 KiB RAM, CP/M 2.2, Python 3.11, numpy 2.0"
    )
