"""One line on stderr that says what is being done; gone when it is done."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

_PAUSE_S = 0.3
"""Nothing is shown for what takes less."""

_INTERVAL_S = 0.05


class StatusLine:
    """Shows `what 45 %` on a terminal, and nothing elsewhere."""

    def __init__(self) -> None:
        self._on_terminal = sys.stderr.isatty()
        self._start = time.perf_counter()
        self._shown_at = 0.0

    def __call__(self, what: str, part: float) -> None:
        """Show progress; `part` runs from 0 to 1."""
        now = time.perf_counter()
        if now - self._start >= _PAUSE_S and now - self._shown_at >= _INTERVAL_S:
            self.announce(f"{what} {part:.0%}")

    def announce(self, what: str) -> None:
        """Show something that has no parts, at once."""
        if self._on_terminal:
            self._shown_at = time.perf_counter()
            print(f"\r\x1b[2K{what}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Remove the line."""
        if self._on_terminal and self._shown_at:
            print("\r\x1b[2K", end="", file=sys.stderr, flush=True)
        self._shown_at = 0.0


@contextmanager
def status_line() -> Iterator[StatusLine]:
    """Give a status line that is removed at the end."""
    line = StatusLine()
    try:
        yield line
    finally:
        line.clear()
