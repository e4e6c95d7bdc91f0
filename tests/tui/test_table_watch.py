"""Looks take a small part of the time."""

from __future__ import annotations

import pytest

from tui.table_watch import LOOK_EVERY_S, LOOK_PART, TableWatch


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.mark.parametrize(
    ("took_s", "rest_s"), [(0.0, LOOK_EVERY_S), (0.01, LOOK_EVERY_S), (2.0, 38.0)]
)
def test_after_a_look_there_is_a_rest(took_s: float, rest_s: float) -> None:
    clock = Clock()
    watch = TableWatch(clock)
    assert watch.is_due
    watch.begin()
    clock.now_s += took_s
    assert not watch.is_due, "one is under way"
    watch.end()
    clock.now_s += rest_s - 0.001
    assert not watch.is_due
    clock.now_s += 0.002
    assert watch.is_due
    assert took_s <= LOOK_PART * (took_s + rest_s)
