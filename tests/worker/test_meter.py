"""Live numbers: what is costly to learn is not asked for all the time."""

from __future__ import annotations

from typing import Any

import pytest

from engram_local.worker import meter
from engram_local.worker.meter import Residency


class Clock:
    """Stands still; a look at the table takes 0.1 s."""

    def __init__(self) -> None:
        self.now_s = 50.0

    def perf_counter(self) -> float:
        return self.now_s


class Table:
    """A memory whose table becomes resident page by page."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.n_looks = 0

    @property
    def resident_bytes(self) -> int:
        self.clock.now_s += 0.1
        self.n_looks += 1
        return 4096 * self.n_looks


def test_what_took_long_is_not_asked_again_soon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, residency = Clock(), Residency()
    monkeypatch.setattr(meter, "time", clock)
    table: Any = Table(clock)
    assert residency.look(table) == 4096
    clock.now_s += 19.0
    assert residency.look(table) == 4096
    clock.now_s += 2.0
    assert residency.look(table) == 8192
    residency.forget()
    assert residency.look(table) == 12288
    residency.forget()
    assert residency.look(None) is None
