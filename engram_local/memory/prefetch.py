"""One thread that prepares what depends on tokens alone, ahead of the forward pass.

What it prepares are results, not hints: none is dropped, and an error in the thread is
raised where the result is asked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import Generic, Protocol, TypeVar

Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)


class Pending(Protocol[Result_co]):
    """A result that may not be there yet."""

    def wait(self) -> tuple[Result_co, float]:
        """Return the result and the seconds waited; raise what its making raised."""

    @property
    def ready(self) -> bool:
        """Whether `wait` would return at once."""


class Preparer(Protocol):
    """Where work is handed in: a thread of its own, or the caller's at `wait`."""

    def submit(self, make: Callable[[], Result]) -> Pending[Result]:
        """Hand in a piece of work. Pieces are made in the order they came."""

    def close(self) -> None:
        """Stop and join. Calling it twice is fine."""


class Prefetcher:
    """A thread called `engram-prefetch`, owned by whoever opened the memory."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="engram-prefetch")

    def submit(self, make: Callable[[], Result]) -> Pending[Result]:
        """See `Preparer.submit`."""
        return _InThread(self._pool.submit(make))

    def close(self) -> None:
        """See `Preparer.close`; work that has not begun is dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)


class Inline:
    """No thread: the work is done when its result is asked for (`--no-prefetch`)."""

    def submit(self, make: Callable[[], Result]) -> Pending[Result]:
        """See `Preparer.submit`."""
        return _AtWait(make)

    def close(self) -> None:
        """Nothing to stop."""


class _InThread(Generic[Result]):
    def __init__(self, future: Future[Result]) -> None:
        self._future = future

    @property
    def ready(self) -> bool:
        return self._future.done()

    def wait(self) -> tuple[Result, float]:
        start = time.perf_counter()
        result = self._future.result()
        return result, time.perf_counter() - start


class _AtWait(Generic[Result]):
    ready = False

    def __init__(self, make: Callable[[], Result]) -> None:
        self._make = cache(make)  # a batch may pass the hook in several pieces

    def wait(self) -> tuple[Result, float]:
        start = time.perf_counter()
        result = self._make()
        return result, time.perf_counter() - start
