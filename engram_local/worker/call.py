"""One request while it is done: where its events go, and whether it is to end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from engram_local.errors import Interrupted
from engram_local.worker.protocol import Event, Loading

_INTERVAL_S = 0.05
"""Between two events of progress; llama.cpp tells of every tensor."""


@dataclass(slots=True)
class Call:
    """Given to whoever does a request. Safe from several threads."""

    say: Callable[[Event], None]
    is_cancelled: Callable[[], bool]
    _told_at: float = 0.0

    def check(self) -> None:
        """Raise Interrupted if the request was cancelled."""
        if self.is_cancelled():
            raise Interrupted("the request was cancelled")

    def tell(self, what: str, part: float) -> None:
        """Tell of progress, if the last time was a while ago; part: 0 to 1."""
        now = time.monotonic()
        if now - self._told_at >= _INTERVAL_S:
            self._told_at = now
            self.say(Loading(what=what, part=part))

    def progress(self, what: str, part: float) -> None:
        """Tell of it and check: an `events.Progress`."""
        self.tell(what, part)
        self.check()
