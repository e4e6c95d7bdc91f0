"""The thread that prepares records ahead of the forward pass.

What it prepares are results, not hints: none is dropped, and what goes wrong in it ends
the forward pass that needs them.
"""

from __future__ import annotations

import os
from contextlib import suppress
from functools import partial
from threading import Thread

from engram_local.memory.handover import STOP, Handover
from engram_local.memory.libc import other_processors
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

    def avoid_this_processor(self) -> None:
        """Let the thread run anywhere but where the caller runs now.

        Woken there, it would stop the forward pass for as long as it works: 85 us
        instead of 20 per token where llama.cpp's threads keep all processors busy.
        """
        allowed = other_processors()
        if allowed and self._thread.native_id is not None:
            with suppress(OSError):  # what is allowed may have just changed
                os.sched_setaffinity(self._thread.native_id, allowed)

    def close(self) -> None:
        """Stop and join. Calling it twice is fine."""
        self._handover.control[STOP] = 1
        self._handover.announce_work()
        self._thread.join()
