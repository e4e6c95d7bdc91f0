"""Commands that make large files remove them however they are ended."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_ENDS = {signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}
"""`kill`, and a closed terminal, which Windows has no signal for."""


@contextmanager
def unwind_when_ended() -> Iterator[None]:
    """Else `kill`, `timeout` and a closed terminal would leave gigabytes behind."""
    before = {
        number: signal.signal(number, lambda number, _: sys.exit(128 + number))
        for number in _ENDS
        if signal.getsignal(number) != signal.SIG_IGN  # nohup
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
