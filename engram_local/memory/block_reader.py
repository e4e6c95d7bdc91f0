"""Blocks of a file, read into a buffer by a few threads at once.

A drive is fast only when it is asked for many blocks at a time. Each thread runs one
compiled loop without the GIL, asleep while there is nothing to read: a Python call per
block would fight for the GIL, which took a hundred times as long. Linux only.
"""

from __future__ import annotations

import mmap
from contextlib import ExitStack
from errno import EINTR
from functools import cache
from threading import Thread
from typing import Any, NamedTuple

import numpy as np
from numba.extending import register_jitable
from numpy.typing import NDArray

from engram_local.kernels import kernel, pointer
from engram_local.memory.libc import (
    SEMAPHORE_BYTES,
    errno,
    fetch_add,
    pread,
    sem_init,
    sem_post,
    wait,
)

I64 = NDArray[np.int64]

_FILE, _BLOCK_BYTES, _N_BLOCKS, _NEXT, _CLOSING, _WORK = range(6)
_DONE = _WORK + SEMAPHORE_BYTES // 8
_N_FIELDS = _DONE + SEMAPHORE_BYTES // 8
"""What the threads share: one int64 array, with two semaphores in it. They hold it
themselves, so that nothing is freed under them where nobody calls `close`."""


class BlockReader:
    """Reads numbered blocks; its threads are called `engram-read-1` and so on.

    Not safe to use from two threads at once. The file must stay open until `close`.
    """

    def __init__(
        self, file_descriptor: int, *, block_bytes: int, n_blocks: int, n_readers: int
    ) -> None:
        """n_blocks: what the buffer holds; n_readers: the caller of `read` is one."""
        self.block_bytes = block_bytes
        self.blocks = np.empty(n_blocks, np.int64)
        """Numbers of the blocks to read: set them before `read`."""

        # O_DIRECT wants its target on a boundary of the drive; a page's is enough.
        self.buffer = np.frombuffer(mmap.mmap(-1, n_blocks * block_bytes), np.uint8)
        """(n_blocks * block_bytes,) uint8: what was read, in the order of `blocks`."""

        self._results = np.empty(n_blocks, np.int64)
        self._state = np.zeros(_N_FIELDS, np.int64)
        self._state[[_FILE, _BLOCK_BYTES]] = file_descriptor, block_bytes
        self._shared = (self._state, self.blocks, self._results, self.buffer)
        self._threads: list[Thread] = []
        self._start(n_readers - 1)

    def read(self, n_blocks: int) -> I64:
        """Read the first `n_blocks` of `blocks`; return when all are in the buffer.

        Returns (n_blocks,) int64, valid until the next call: bytes read of each block,
        or -errno.
        """
        n_woken = max(0, min(len(self._threads), n_blocks - 1))
        _loops().read(*self._shared, n_blocks, n_woken)
        return self._results[:n_blocks]

    def close(self) -> None:
        """Join the threads. Calling it twice is fine."""
        _loops().stop(self._state, len(self._threads))
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def _start(self, n_threads: int) -> None:
        _loops().begin(self._state)
        with ExitStack() as stack:
            stack.callback(self.close)
            for number in range(1, n_threads + 1):
                name = f"engram-read-{number}"
                # A daemon: a table that nobody closed must not keep the process alive.
                thread = Thread(
                    target=_loops().serve, args=self._shared, name=name, daemon=True
                )
                thread.start()
                self._threads.append(thread)
            stack.pop_all()


class _Loops(NamedTuple):
    begin: Any
    serve: Any
    read: Any
    stop: Any


@cache
def _loops() -> _Loops:
    """Compile when first needed: the functions of libc are not there on all systems."""
    shared = "i8[::1], i8[::1], i8[::1], u1[::1]"
    return _Loops(
        begin=kernel("void(i8[::1])")(_begin),
        serve=kernel(f"void({shared})")(_serve),
        read=kernel(f"void({shared}, i8, i8)")(_read),
        stop=kernel("void(i8[::1], i8)")(_stop),
    )


@register_jitable
def _address(state, field):  # type: ignore[no-untyped-def]  # pragma: no cover
    return np.int64(state.ctypes.data) + state.itemsize * field


def _begin(state):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    sem_init(pointer(_address(state, _WORK)), 0, 0)
    sem_init(pointer(_address(state, _DONE)), 0, 0)


def _serve(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    state, blocks, results, buffer
):
    """What a thread runs: it answers each `_WORK` with one `_DONE`."""
    while True:
        wait(pointer(_address(state, _WORK)))
        if state[_CLOSING]:
            return
        _take_blocks(state, blocks, results, buffer)
        sem_post(pointer(_address(state, _DONE)))


def _read(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    state, blocks, results, buffer, n_blocks, n_woken
):
    """When all woken have answered, none of them looks at the state any more."""
    state[_N_BLOCKS] = n_blocks
    state[_NEXT] = 0
    for _ in range(n_woken):
        sem_post(pointer(_address(state, _WORK)))
    _take_blocks(state, blocks, results, buffer)
    for _ in range(n_woken):
        wait(pointer(_address(state, _DONE)))


def _stop(state, n_threads):  # type: ignore[no-untyped-def]  # pragma: no cover
    state[_CLOSING] = 1
    for _ in range(n_threads):
        sem_post(pointer(_address(state, _WORK)))


@register_jitable
def _take_blocks(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    state, blocks, results, buffer
):
    """Read blocks until none is left; other threads do the same."""
    next_block = _address(state, _NEXT)
    n_bytes = state[_BLOCK_BYTES]
    i = fetch_add(next_block, 1)
    while i < state[_N_BLOCKS]:
        to = pointer(np.int64(buffer.ctypes.data) + i * n_bytes)
        results[i] = _read_block(state[_FILE], to, n_bytes, blocks[i] * n_bytes)
        i = fetch_add(next_block, 1)


@register_jitable
def _read_block(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    file_descriptor, to, n_bytes, offset_bytes
):
    n_read = pread(np.int32(file_descriptor), to, n_bytes, offset_bytes)
    while n_read < 0 and errno() == EINTR:
        n_read = pread(np.int32(file_descriptor), to, n_bytes, offset_bytes)
    return n_read if n_read >= 0 else -np.int64(errno())
