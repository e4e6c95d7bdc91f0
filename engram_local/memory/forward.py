"""What happens at a memory layer while llama.cpp waits: compiled, without the GIL.

Waits for the records (the stall), then does what needs the hidden state: query norm,
gate, convolution, add. The arithmetic is that of fusion.py, which tests compare; the
source of the formulas stands there.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numba
import numpy as np
from numba import carray
from numba.extending import register_jitable
from numpy.typing import NDArray

from engram_local.kernels import layout, make_record, native, pointer
from engram_local.memory.fuse import fuse
from engram_local.memory.handover import (
    BUSY,
    ERROR,
    FIRST_READY,
    N_ACQUIRED,
    N_CONTROL,
    N_COUNTERS,
    N_GATES,
    N_PASSED,
    N_PREPARED,
    N_READY,
    N_SUBMITTED,
    N_WAITS,
    NOT_SUBMITTED,
    STALL_NS,
    WORK,
    Handover,
    semaphore,
)
from engram_local.memory.history import HISTORY_BYTES
from engram_local.memory.libc import (
    SEMAPHORE_BYTES,
    call,
    fence,
    now_ns,
    sem_post,
    sem_trywait,
    wait,
)
from engram_local.memory.module import FusionWeights
from engram_local.memory.prepare import DONE, Preparer
from engram_local.spec import FusionSpec

F32 = NDArray[np.float32]

_STATE = layout(
    "control",
    "counters",
    "gate_sums",
    "gates",
    "max_tokens",
    "semaphores",
    "records",
    "n_layers",
    "capacity",
    "history",
    "n_history",
    "taps",
    "n_taps",
    "dilation",
    "conv_norm",
    "scratch",
    "times",
    "hidden_size",
    "n_branches",
    "prepare_next",
    "preparer",
    reals=("norm_epsilon", "conv_norm_epsilon"),
)
"""All that a function called by C gets: addresses of arrays, sizes, numbers."""


class Forward:
    """Gate and convolution of all layers of a memory, for one sequence.

    `address` and `state` are what a hook gets (llama/hook.py).
    """

    def __init__(
        self,
        weights: tuple[FusionWeights, ...],
        spec: FusionSpec,
        handover: Handover,
        preparer: Preparer,
    ) -> None:
        self._spec = spec
        self._lost = 0
        """Inputs of positions before this one have been overwritten."""

        n_layers, width = len(weights), spec.n_branches * spec.hidden_size
        n_most = len(handover.canonical_ids)
        n_affordable = max(HISTORY_BYTES // (4 * width * n_layers), 4 * spec.reach)
        self._n_history = max(min(n_affordable, n_most), spec.reach + 1)
        self._keep = (handover, preparer)  # native code has their addresses
        self._owned: dict[str, NDArray[Any]] = {
            # Position p lies in row p modulo the number of rows.
            "history": np.zeros((n_layers, self._n_history, width), np.float32),
            "taps": np.stack([_taps(layer, spec) for layer in weights]),
            "conv_norm": np.stack([_conv_norm(layer, spec) for layer in weights]),
            "scratch": np.zeros((2, spec.hidden_size), np.float32),
            "times": np.zeros(2, np.int64),
        }
        self._state = self._make_state(handover, preparer)
        self.address = int(_native().address)
        self.state = int(self._state.ctypes.data)

    def add_deltas(self, line: int, hidden: F32) -> bool:
        """Do by hand what a hook does; False if ERROR in the hand-over says why not.

        hidden: (n_tokens, d) float32, the next tokens, changed in place.
        """
        function = _native().ctypes
        return bool(function(line, hidden.ctypes.data, len(hidden), self.state) == 0)

    def can_drop(self, n_kept: int, n_passed: int) -> bool:
        """Return whether the convolution can go back from `n_passed` to `n_kept`."""
        self._lost = max(self._lost, n_passed - self._n_history)
        return not self._spec.reach or max(0, n_kept - self._spec.reach) >= self._lost

    def reset(self) -> None:
        """Forget the sequence."""
        self._lost = 0

    def _make_state(self, handover: Handover, preparer: Preparer) -> Any:
        spec, in_place = self._spec, preparer.works_in_place
        n_layers, capacity, _ = handover.records.shape
        return make_record(
            _STATE,
            **self._owned,
            control=handover.control,
            counters=handover.counters,
            gate_sums=handover.gate_sums,
            gates=handover.gates,
            max_tokens=handover.gates.shape[1],
            semaphores=handover.semaphores,
            records=handover.records,
            n_layers=n_layers,
            capacity=capacity,
            n_history=self._n_history,
            n_taps=spec.conv_kernel,
            dilation=spec.conv_dilation,
            hidden_size=spec.hidden_size,
            n_branches=spec.n_branches,
            prepare_next=preparer.function if in_place else 0,
            preparer=preparer.state,
            norm_epsilon=spec.norm_epsilon,
            conv_norm_epsilon=spec.conv_norm_epsilon,
        )


def _taps(weights: FusionWeights, spec: FusionSpec) -> F32:
    """(taps, B * d): one tap's weights are neighbours."""
    if weights.conv is None:
        return np.zeros((0, spec.n_branches * spec.hidden_size), np.float32)
    return np.ascontiguousarray(weights.conv.T)


def _conv_norm(weights: FusionWeights, spec: FusionSpec) -> F32:
    if weights.conv_norm is None:
        return np.zeros((spec.n_branches, spec.hidden_size), np.float32)
    return weights.conv_norm


@cache
def _native() -> Any:
    pointer_type = numba.types.voidptr
    signature = numba.i4(numba.i8, pointer_type, numba.i8, pointer_type)
    return native(signature)(_on_hidden)


def _on_hidden(line, hidden, n_tokens, state):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The type of a native hook: llama/hook.py, NATIVE_FUNCTION."""
    one = carray(state, (1,), _STATE)[0]
    streams = carray(hidden, (n_tokens, one.hidden_size), np.float32)
    return np.int32(_add_deltas(line, streams, one))


@register_jitable
def _add_deltas(line, hidden, state):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Wait for records and add them, in pieces as they come; return 0 or ERROR."""
    n_layers = state.n_layers
    control = carray(pointer(state.control), (N_CONTROL,), np.int64)
    counters = carray(pointer(state.counters), (n_layers, N_COUNTERS), np.int64)[line]
    semaphores = carray(
        pointer(state.semaphores), (FIRST_READY + n_layers, SEMAPHORE_BYTES), np.uint8
    )
    n_tokens = hidden.shape[0]
    if counters[N_PASSED] + n_tokens > control[N_SUBMITTED]:
        control[ERROR] = NOT_SUBMITTED
        return control[ERROR]
    counters[N_WAITS] += 1
    waited_ns = np.int64(0)
    done = 0
    while done < n_tokens:
        waited_ns += _acquire(line, control, counters, semaphores, state)
        if control[ERROR] != 0:
            return control[ERROR]
        first = counters[N_PASSED] % state.capacity
        n_piece = min(
            counters[N_ACQUIRED] - counters[N_PASSED],
            n_tokens - done,
            state.capacity - first,
        )
        _fuse_piece(line, hidden[done : done + n_piece], first, counters, state)
        fence()  # the records have been read
        counters[N_PASSED] += n_piece
        done += n_piece
        if counters[N_PREPARED] < control[N_SUBMITTED]:  # the ring has room again
            sem_post(semaphore(semaphores, WORK))
    control[STALL_NS] += waited_ns
    if waited_ns == 0:
        counters[N_READY] += 1
    return 0


@register_jitable
def _help_or_sleep(ready, semaphores, state):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Prepare a piece, where the thread has not begun; else sleep until it has ended.

    Woken in time or not, with all processors busy it may begin late: by up to 4.8 ms,
    for 0.06 of work.
    """
    busy = semaphore(semaphores, BUSY)
    if state.prepare_next != 0 and sem_trywait(busy) == 0:
        result = call(state.prepare_next, state.preparer)
        sem_post(busy)
        if result == DONE:
            return
    # The thread may have looked for work just before there was some.
    sem_post(semaphore(semaphores, WORK))
    wait(ready)


@register_jitable
def _acquire(line, control, counters, semaphores, state):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Sleep until there is a record that has not been passed, or an error.

    Returns how long that took, in nanoseconds; 0 if there was one.
    """
    ready = semaphore(semaphores, FIRST_READY + line)
    began_ns = np.int64(0)
    while counters[N_ACQUIRED] == counters[N_PASSED] and control[ERROR] == 0:
        if sem_trywait(ready) != 0:
            if began_ns == 0:
                began_ns = now_ns(carray(pointer(state.times), (2,), np.int64))
            _help_or_sleep(ready, semaphores, state)
        counters[N_ACQUIRED] = counters[N_PREPARED]
        fence()  # how many records there are, then the records
    if began_ns == 0:
        return np.int64(0)
    return now_ns(carray(pointer(state.times), (2,), np.int64)) - began_ns


@register_jitable
def _fuse_piece(line, hidden, first, counters, state):  # type: ignore[no-untyped-def]  # pragma: no cover
    n_layers, n_branches, d = state.n_layers, state.n_branches, state.hidden_size
    width = n_branches * d
    records = carray(
        pointer(state.records), (n_layers, state.capacity, width + d), np.float32
    )[line]
    n_tokens, start = hidden.shape[0], counters[N_PASSED]
    gates = carray(pointer(state.gates), (n_layers, state.max_tokens), np.float32)[line]
    sums = carray(pointer(state.gate_sums), (n_layers,), np.float64)
    sums[line] += fuse(
        hidden.reshape((n_tokens, 1, d)),
        records[first : first + n_tokens],
        start,
        carray(pointer(state.history), (n_layers, state.n_history, width), np.float32)[
            line
        ],
        carray(pointer(state.taps), (n_layers, state.n_taps, width), np.float32)[line],
        carray(pointer(state.conv_norm), (n_layers, n_branches, d), np.float32)[line],
        state.dilation,
        state.norm_epsilon,
        state.conv_norm_epsilon,
        carray(pointer(state.scratch), (2, d), np.float32),
        gates[start : start + n_tokens],
    )
    counters[N_GATES] += n_tokens * n_branches
