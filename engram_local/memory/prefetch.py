"""The thread that prepares records ahead of the forward pass.

What it prepares are results, not hints: none is dropped, and what goes wrong in it ends
the forward pass that needs them.
"""

from __future__ import annotations

from functools import partial
from threading import Thread

from engram_local.memory.handover import STOP, Handover
from engram_local.memory.prepare import Preparer


class Prefetcher:
    """A thread called `engram-prefetch`, owned by whoever opened the memory."""

    def __init__(self, preparer: Preparer, handover: Handover) -> None:
        self._handover = handover
        # A daemon: who forgets to close a memory can still leave the program.
        self._thread = Thread(
            target=partial(preparer.work, wait_for_more=True),
            name="engram-prefetch",
            daemon=True,
        )
        self._thread.start()

    def close(self) -> None:
        """Stop and join. Calling it twice is fine."""
        self._handover.control[STOP] = 1
        self._handover.announce_work()
        self._thread.join()
