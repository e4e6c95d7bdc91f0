"""When to look at the table again: looking takes a small part of the time only.

A look walks all pages of a table: 1 ms for 8 MiB, a second for some hundred GiB.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

LOOK_EVERY_S = 1.0
LOOK_PART = 0.05
"""Of the time, that looks take at most."""


class TableWatch:
    """A clock for looks; `begin` and `end` go around each."""

    def __init__(self, now_s: Callable[[], float] = monotonic) -> None:
        self._now_s = now_s
        self._due_s = 0.0
        self._begin_s: float | None = None

    @property
    def is_due(self) -> bool:
        """Whether it is time, and none is under way."""
        return self._begin_s is None and self._now_s() >= self._due_s

    def begin(self) -> None:
        """A look begins."""
        self._begin_s = self._now_s()

    def end(self) -> None:
        """It has ended, well or not."""
        end_s = self._now_s()
        took_s = end_s - (end_s if self._begin_s is None else self._begin_s)
        rest_s = took_s / LOOK_PART - took_s
        self._due_s = end_s + max(LOOK_EVERY_S, rest_s)
        self._begin_s = None
