"""What the prefetch thread and the forward pass share, without the GIL.

Ids go in at one end, records (projector.py) come out at the other. For every layer

    n_passed <= n_prepared <= n_submitted

are counts of tokens of the sequence; a record waits in a ring between `prepared` and
`passed`. Semaphores of libc put the one who is too early to sleep (an array that is
polled in a loop could be read once and never again). A count may be seen before the
semaphore is, so a `fence` stands between it and what it counts. The layout is flat, so
that a function called by C finds everything by address (docs/memory.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import carray
from numba.extending import register_jitable
from numpy.typing import NDArray

from engram_local.errors import UsageError
from engram_local.kernels import kernel, layout, make_record, native, pointer
from engram_local.memory.libc import (
    SEMAPHORE_BYTES,
    fence,
    sem_init,
    sem_post,
    wait,
)
from engram_local.units import MIB

RECORD_BYTES = 48 * MIB
"""Bound on the rings of all layers; one batch ahead is enough to hide its making."""

# control: one number for the whole memory.
N_SUBMITTED, STOP, ERROR, ERROR_LINE, ERROR_ROW, STALL_NS, N_AHEAD, N_CONTROL = range(8)

SLOW_NS = 300_000
"""A decode that waited longer than this had rows to fetch from the drive. Then the
thread is woken for the next N_AHEAD tokens; else the forward pass makes their records
itself, 60 us for the default model: waking a thread takes nearly as long, and where
llama.cpp's threads fill all processors, it then works in place of one of them."""

_TOKENS_AHEAD = 32

# counters: one line of numbers per layer.
N_PREPARED, N_PASSED, N_ACQUIRED, N_WAITS, N_READY, N_GATES, N_COUNTERS = range(7)

# Values of ERROR.
ROW_NOT_FINITE, FILE_TOO_SHORT, RAISED, NOT_SUBMITTED = range(1, 5)

# Semaphores: who may prepare; that there is work; then per layer, that records came.
BUSY, WORK, FIRST_READY = range(3)


_STATE = layout(
    "control",
    "counters",
    "n_layers",
    "canonical_ids",
    "token_map",
    "vocab_size",
    "max_tokens",
    "work",
)
"""Addresses and sizes for the two functions that are called once per token."""


class Handover:
    """The shared arrays of one memory and one sequence."""

    def __init__(
        self,
        *,
        token_map: NDArray[np.int32],
        n_layers: int,
        record_size: int,
        max_tokens: int,
        max_batch: int,
        bounded: bool,
    ) -> None:
        """record_size: floats of one record. max_tokens: of the sequence; max_batch:
        of a decode. bounded: a ring may be shorter than a batch, which needs a thread
        that fills it while it is emptied.
        """
        n_affordable = RECORD_BYTES // (4 * record_size * n_layers)
        capacity = max(1, min(max_batch, n_affordable)) if bounded else max_batch
        self.token_map = np.ascontiguousarray(token_map, np.int32)
        self.canonical_ids = np.zeros(max_tokens, np.int64)
        self.records = np.zeros((n_layers, capacity, record_size), np.float32)
        self.control = np.zeros(N_CONTROL, np.int64)
        self.counters = np.zeros((n_layers, N_COUNTERS), np.int64)
        self.gate_sums = np.zeros(n_layers, np.float64)
        self.gates = np.zeros((n_layers, max_tokens), np.float32)
        self.semaphores = np.zeros((FIRST_READY + n_layers, SEMAPHORE_BYTES), np.uint8)
        for line in range(len(self.semaphores)):
            _init(self.semaphores, line, int(line == BUSY))
        self._state = make_record(
            _STATE,
            control=self.control,
            counters=self.counters,
            n_layers=n_layers,
            canonical_ids=self.canonical_ids,
            token_map=self.token_map,
            vocab_size=len(self.token_map),
            max_tokens=max_tokens,
            work=self.semaphores[WORK],
        )
        self._address = int(self._state.ctypes.data)
        self._native = _native()

    def acquire(self) -> None:
        """Keep others from preparing until `release`."""
        _wait(self.semaphores, BUSY)

    def release(self) -> None:
        """End what `acquire` began."""
        _post(self.semaphores, BUSY)

    def submit(self, token_ids: Sequence[int]) -> None:
        """Append tokens to the sequence; wake the prefetch thread where that pays.

        Raises UsageError for an id outside the vocabulary.
        """
        # In decode: numpy would take 40 us out of a cold cache.
        if len(token_ids) == 1 and self._native.submit(self._address, token_ids[0]):
            return
        ids = np.asarray(token_ids, np.int64)
        self._check(ids)
        canonical_ids = self.token_map[ids]
        _append(self.control, self.canonical_ids, self.semaphores, canonical_ids)

    def always_ahead(self) -> None:
        """Wake the thread for every token: nobody else can make records."""
        self.control[N_AHEAD] = 2**62

    def announce_work(self) -> None:
        """Wake the prefetch thread."""
        _post(self.semaphores, WORK)

    def end_decode(self, n_tokens: int) -> int:
        """Return the nanoseconds waited since the last call; negative if not all
        layers have passed exactly the first `n_tokens`.
        """
        stall_ns: int = self._native.end_decode(self._address, n_tokens)
        return stall_ns

    def publish(self, line: int, n_tokens: int) -> None:
        """Hand over records that have been written behind `n_prepared`."""
        _publish(self.counters, self.semaphores, line, n_tokens)

    def fail(self) -> None:
        """Wake all who wait for records; they find ERROR set."""
        _fail(self.control, self.semaphores, RAISED)

    def rewind(self, n_tokens: int) -> None:
        """Go back to the first tokens of the sequence, and forget an error.

        Waits for a piece that is being prepared. Not while a graph is computed.
        """
        _rewind(self.control, self.counters, self.semaphores, n_tokens)

    def _check(self, token_ids: NDArray[np.int64]) -> None:
        n_tokens = int(self.control[N_SUBMITTED]) + len(token_ids)
        assert n_tokens <= len(self.canonical_ids), (
            f"{n_tokens} tokens were submitted, there is room for "
            f"{len(self.canonical_ids)}"
        )
        wrong = token_ids[(token_ids < 0) | (token_ids >= len(self.token_map))]
        if len(wrong):
            raise UsageError(
                f"{wrong[0]} is no token id, they are 0 to {len(self.token_map) - 1}"
            )


@register_jitable
def semaphore(semaphores, line):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Return the pointer of one of the semaphores."""
    return pointer(np.int64(semaphores.ctypes.data) + line * SEMAPHORE_BYTES)


@register_jitable
def fail(control, semaphores, error):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Note an error and wake all who wait for records."""
    control[ERROR] = error
    for line in range(FIRST_READY, semaphores.shape[0]):
        sem_post(semaphore(semaphores, line))


@register_jitable
def publish(counters, semaphores, line, n_tokens):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Hand over records that lie behind `n_prepared`; the caller holds BUSY."""
    fence()  # the records, then their number
    counters[line, N_PREPARED] += n_tokens
    sem_post(semaphore(semaphores, FIRST_READY + line))


@kernel("void(u1[:, ::1], i8, i8)")
def _init(semaphores, line, value):  # type: ignore[no-untyped-def]  # pragma: no cover
    sem_init(semaphore(semaphores, line), np.int32(0), np.uint32(value))


@kernel("void(u1[:, ::1], i8)")
def _post(semaphores, line):  # type: ignore[no-untyped-def]  # pragma: no cover
    sem_post(semaphore(semaphores, line))


@kernel("void(u1[:, ::1], i8)")
def _wait(semaphores, line):  # type: ignore[no-untyped-def]  # pragma: no cover
    wait(semaphore(semaphores, line))


@kernel("void(i8[::1], u1[:, ::1], i8)")
def _fail(control, semaphores, error):  # type: ignore[no-untyped-def]  # pragma: no cover
    fail(control, semaphores, error)


@kernel("void(i8[:, ::1], u1[:, ::1], i8, i8)")
def _publish(counters, semaphores, line, n_tokens):  # type: ignore[no-untyped-def]  # pragma: no cover
    publish(counters, semaphores, line, n_tokens)


@kernel("void(i8[::1], i8[::1], u1[:, ::1], i4[::1])")
def _append(control, canonical_ids, semaphores, new_ids):  # type: ignore[no-untyped-def]  # pragma: no cover
    n = control[N_SUBMITTED]
    for i in range(new_ids.shape[0]):
        canonical_ids[n + i] = new_ids[i]
    fence()  # the ids, then their number
    control[N_SUBMITTED] = n + new_ids.shape[0]
    sem_post(semaphore(semaphores, WORK))


@kernel("void(i8[::1], i8[:, ::1], u1[:, ::1], i8)")
def _rewind(control, counters, semaphores, n_tokens):  # type: ignore[no-untyped-def]  # pragma: no cover
    """In one call: Ctrl-C in Python could not leave BUSY taken for ever."""
    busy = semaphore(semaphores, BUSY)
    wait(busy)
    control[N_SUBMITTED] = n_tokens
    control[ERROR] = 0
    for line in range(counters.shape[0]):
        counters[line, N_PREPARED] = n_tokens
        counters[line, N_PASSED] = n_tokens
        counters[line, N_ACQUIRED] = n_tokens
    sem_post(busy)


class _Native(NamedTuple):
    submit: Any
    end_decode: Any


@cache
def _native() -> _Native:
    """Called through ctypes: a compiled function of Python costs more per array."""
    state = numba.types.voidptr
    return _Native(
        submit=native(numba.i8(state, numba.i8))(_submit).ctypes,
        end_decode=native(numba.i8(state, numba.i8))(_end_decode).ctypes,
    )


def _submit(state, token_id):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Return 1, or 0 and do nothing where the token cannot be."""
    one = carray(state, (1,), _STATE)[0]
    control = carray(pointer(one.control), (N_CONTROL,), np.int64)
    n = control[N_SUBMITTED]
    if token_id < 0 or token_id >= one.vocab_size or n >= one.max_tokens:
        return 0
    token_map = carray(pointer(one.token_map), (token_id + 1,), np.int32)
    carray(pointer(one.canonical_ids), (n + 1,), np.int64)[n] = token_map[token_id]
    fence()  # the id, then its number
    control[N_SUBMITTED] = n + 1
    if control[N_AHEAD] > 0:
        control[N_AHEAD] -= 1
        sem_post(pointer(one.work))
    return 1


def _end_decode(state, n_tokens):  # type: ignore[no-untyped-def]  # pragma: no cover
    one = carray(state, (1,), _STATE)[0]
    control = carray(pointer(one.control), (N_CONTROL,), np.int64)
    shape = (one.n_layers, N_COUNTERS)
    counters = carray(pointer(one.counters), shape, np.int64)
    stall_ns = control[STALL_NS]
    control[STALL_NS] = 0
    if stall_ns > SLOW_NS:
        control[N_AHEAD] = max(control[N_AHEAD], _TOKENS_AHEAD)
    for line in range(one.n_layers):
        if counters[line, N_PASSED] != n_tokens:
            stall_ns = -1
    return stall_ns
