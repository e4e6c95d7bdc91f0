"""Commands that make large files remove them however they are ended."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_ENDS = {
    signal.SIGINT,
    signal.SIGTERM,
    # A closed terminal, which Windows has no signal for.
    getattr(signal, "SIGHUP", signal.SIGTERM),
}


@contextmanager
def unwind_when_ended() -> Iterator[Callable[[], None]]:
    """Else `kill`, `timeout` and a closed terminal would leave gigabytes behind.

    Gives a function that raises what was lost, to be called now and then: Python prints
    and forgets an exception in a weak reference's callback, and a signal that comes in
    there is one. That happened to 2 of 8 interruptions while numba was being imported.
    """
    ended: list[BaseException] = []

    def end(number: int, _: object) -> None:
        is_interrupt = number == signal.SIGINT
        ended.append(KeyboardInterrupt() if is_interrupt else SystemExit(128 + number))
        raise ended[-1]

    def check() -> None:
        if ended:
            raise ended[-1]

    before = {
        number: signal.signal(number, end)
        for number in _ENDS
        if signal.getsignal(number) != signal.SIG_IGN  # nohup
    }
    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
