"""What has arrived of a model that is read into RAM, shown from a thread.

llama.cpp tells its progress between two tensors, and a table of 28 GB is one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psutil

from engram_local.errors import Interrupted
from engram_local.events import Progress
from engram_local.llama import interrupt
from engram_local.telemetry import measure_resources

_INTERVAL_S = 0.1
_LOADING = "loading the model"
_LOCKING = "locking memory for it"
_STOPPING = "stopping after this part; Ctrl-C once more ends at once"


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """What grows while a model is read into RAM; 0 where the system does not tell."""

    own_bytes: int
    """Memory of this process's own. It grows page by page while a file is read, but
    for memory that was locked before, which is there at once."""

    read_bytes: int
    """Of finished read calls: steps of 2 GiB, which one call reads at most."""


def count() -> Counters:
    """Look at this process now. Takes 0.1 ms."""
    own_bytes = measure_resources().rss_anon_bytes
    read_bytes = 0
    # Not on macOS, nor where a kernel counts no reads, or tells them to root only.
    with suppress(psutil.Error, AttributeError):
        read_bytes = psutil.Process().io_counters().read_chars
    return Counters(own_bytes=own_bytes or 0, read_bytes=read_bytes)


class Arrival:
    """How far a load is: one thread calls `note` while it loads, another `now`."""

    def __init__(self, n_bytes: int, count: Callable[[], Counters] = count) -> None:
        """n_bytes: of the whole model."""
        self._n_bytes = max(n_bytes, 1)
        self._count = count
        self._noted: tuple[float, Counters] | None = None
        self._start = count()
        self._ended: Interrupted | None = None

    def note(self, part: float) -> None:
        """Hear from llama.cpp, before each tensor, which part has been loaded.

        Raises what `end` was called with.
        """
        self._noted = part, self._count()
        if self._ended is not None:
            raise self._ended

    def end(self, error: Interrupted) -> None:
        """End the load at its next tensor; from the thread that calls `now`."""
        self._ended = error

    def now(self) -> tuple[str, float]:
        """Return what is being done and its part, 0 to 1."""
        noted, now = self._noted, self._count()
        part, before = noted or (0.0, self._start)
        grown = now.own_bytes - before.own_bytes
        if noted is not None:  # what is read before is the header
            grown = max(grown, now.read_bytes - before.read_bytes)
        part = min(max(part + grown / self._n_bytes, 0.0), 1.0)
        if interrupt.requested():
            return _STOPPING, part
        return (_LOADING if noted else _LOCKING), part


@contextmanager
def watched(n_bytes: int, progress: Progress | None) -> Iterator[Arrival]:
    """Show how far a load is until the block ends; only the thread here shows it.

    It takes Ctrl-C too: a signal waits for the end of a system call, and the thread
    that loads may be in a read of 2 GiB.
    """
    arrival, done = Arrival(n_bytes), threading.Event()

    def show() -> None:
        while not done.wait(_INTERVAL_S):
            if progress is not None:
                try:
                    progress(*arrival.now())
                except Interrupted as error:
                    arrival.end(error)

    thread = threading.Thread(target=show, name="load watch", daemon=True)
    thread.start()
    try:
        with interrupt.taken_elsewhere():
            yield arrival
    finally:
        done.set()
        thread.join()
