"""Ids -> records: hash, gather, decode, project. Everything that needs tokens alone.

One compiled loop without the GIL (`_serve`) does all of it where rows can be read in
place. Rows of other tables come from `Table.gather`, a piece at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numba
import numpy as np
from numba import carray
from numba.extending import register_jitable
from numpy.typing import NDArray

from engram_local.errors import TableError
from engram_local.kernels import kernel, layout, make_record, native, pointer
from engram_local.memory.handover import (
    BUSY,
    ERROR,
    ERROR_LINE,
    ERROR_ROW,
    FILE_TOO_SHORT,
    FIRST_READY,
    N_CONTROL,
    N_COUNTERS,
    N_PASSED,
    N_PREPARED,
    N_SUBMITTED,
    NOT_SUBMITTED,
    ROW_NOT_FINITE,
    STOP,
    WORK,
    Handover,
    fail,
    publish,
    semaphore,
)
from engram_local.memory.hashing import RowHasher, hash_rows
from engram_local.memory.libc import (
    SEMAPHORE_BYTES,
    call,
    fence,
    file_bytes,
    sem_post,
    wait,
)
from engram_local.memory.module import MemoryModule
from engram_local.memory.projector import (
    WEIGHT_TYPES,
    Projector,
    finish_records,
    product_bf16,
    product_f32,
    product_int8,
)
from engram_local.memory.rows import CODES, E4M3, E8M0, decode, locate_rows
from engram_local.memory.table import Table, gather_finite, not_finite
from engram_local.spec import Boundary, FusionSpec

F32 = NDArray[np.float32]

_MAX_PIECE = 64
"""Tokens prepared at once: the weights are read once for all of them."""

_NOTHING_TO_DO, DONE, _STOPPED = -1, -2, -3
_INT8, _BF16, _ = range(len(WEIGHT_TYPES))

_LAYER = layout(
    "multipliers",
    "shifts",
    "sizes",
    "offsets",
    "matrix",
    "line_scale",
    "bias",
    "key_scale",
    "row_ids",
    "starts",
    "rows",
    "in_place",  # 0: rows come from `Table.gather`
    "table",
    "table_bytes",
    "row_bytes",
    "row_code",
    "descriptor",
    "file_bytes",
    "weight_code",  # place in WEIGHT_TYPES
    "max_ngram",
    "n_slots",
    "width",
    "fill_id",
    "eos_rule",
    "n_branches",
    "hidden_size",
    reals=("epsilon",),
)
"""What the compiled loop knows of a layer: addresses of arrays, then numbers."""


_STATE = layout(
    "layers",
    "n_layers",
    "control",
    "counters",
    "canonical_ids",
    "records",
    "capacity",
    "record_size",
    "semaphores",
    "e4m3",
    "e8m0",
)
"""What it knows of a memory: addresses, then sizes."""


class Preparer:
    """Makes records for a hand-over; used by one thread, the prefetcher or another."""

    def __init__(
        self,
        module: MemoryModule,
        tables: Sequence[Table],
        handover: Handover,
        weight_type: str,
    ) -> None:
        self._handover = handover
        self._error: BaseException | None = None
        self._layers = [
            _Layer(module, line, table, weight_type)
            for line, table in enumerate(tables)
        ]
        self._layer_states = np.concatenate([layer.state for layer in self._layers])
        self._state = self._make_state()
        self.function = int(_native().address)
        """Of `int64 function(void* state)`: prepares one piece; hold BUSY."""

        self.state = int(self._state.ctypes.data)

    def work(self, *, wait_for_more: bool) -> None:
        """Prepare what was submitted and has room; then return, or wait for more.

        What goes wrong is kept for `raise_error`, and ends the forward pass. Returns
        when STOP is set in the hand-over.
        """
        while (line := self._serve(wait_for_more)) >= 0:
            self._handover.acquire()
            try:
                self._prepare_piece(line)
            except BaseException as error:  # noqa: BLE001 - raised in another thread
                self._error = error
                self._handover.fail()
            finally:
                self._handover.release()

    def raise_error(self) -> None:
        """Raise why records cannot be had, if that is so."""
        code, line, row_id = self._handover.control[[ERROR, ERROR_LINE, ERROR_ROW]]
        assert code != NOT_SUBMITTED, (
            "a hidden state arrived for tokens that were not submitted"
        )
        if code == FILE_TOO_SHORT:
            # This says how short, if it still is: a file copied over begins empty.
            gather_finite(self._layers[line].table, np.zeros(1, np.int64), 0)
            raise TableError(
                "the memory file was too short for a moment",
                hint="it was replaced while in use: start again",
            )
        if code == ROW_NOT_FINITE:
            raise not_finite(row_id, self._layers[line].layer_id)
        if code:
            assert self._error is not None
            raise self._error

    @property
    def works_in_place(self) -> bool:
        """Whether `function` can prepare all layers by itself."""
        return bool(self._layer_states["in_place"].all())

    def _make_state(self) -> Any:
        handover = self._handover
        n_layers, capacity, record_size = handover.records.shape
        return make_record(
            _STATE,
            layers=self._layer_states,
            n_layers=n_layers,
            control=handover.control,
            counters=handover.counters,
            canonical_ids=handover.canonical_ids,
            records=handover.records,
            capacity=capacity,
            record_size=record_size,
            semaphores=handover.semaphores,
            e4m3=E4M3,
            e8m0=E8M0,
        )

    def _serve(self, wait_for_more: bool) -> int:
        control, semaphores = self._handover.control, self._handover.semaphores
        line: int = _serve(
            self.function, self.state, control, semaphores, wait_for_more
        )
        return line

    def _prepare_piece(self, line: int) -> None:
        """Make the next records of a layer whose rows come from `Table.gather`."""
        handover, layer = self._handover, self._layers[line]
        capacity = handover.records.shape[1]
        start = int(handover.counters[line, N_PREPARED])
        n_tokens = int(_piece(handover.control, handover.counters, line, capacity))
        if n_tokens == 0:  # the sequence was rewound before BUSY was acquired
            return
        first = start % capacity
        n_before = min(start, layer.hasher.context)
        ids = handover.canonical_ids[start - n_before : start + n_tokens]
        row_ids = layer.hasher.row_ids(ids, n_before)
        rows = gather_finite(layer.table, row_ids.reshape(-1), layer.layer_id)
        rows = rows.reshape(n_tokens, -1)
        layer.projector.project(rows, handover.records[line, first : first + n_tokens])
        handover.publish(line, n_tokens)


class _Layer:
    """What one memory layer needs: its hash, its rows, its weights."""

    def __init__(
        self, module: MemoryModule, line: int, table: Table, weight_type: str
    ) -> None:
        spec, self.table = module.spec.layers[line], table
        self.layer_id = spec.layer_id
        self.hasher = RowHasher(spec.hash)
        self.projector = Projector(module.weights[line], module.fusion, weight_type)
        n_rows = _MAX_PIECE * spec.hash.n_slots
        self._row_ids = np.zeros(n_rows, np.int64)
        self._starts = np.zeros(n_rows, np.int64)
        self._rows = np.zeros((n_rows, spec.table.width), np.float32)
        self.state = self._make_state(module.fusion, weight_type)

    def _make_state(self, fusion: FusionSpec, weight_type: str) -> Any:
        hasher, projector, table = self.hasher, self.projector, self.table.spec
        place = self.table.in_place()
        return make_record(
            _LAYER,
            multipliers=hasher.multipliers,
            shifts=hasher.shifts,
            sizes=hasher.sizes,
            offsets=hasher.offsets,
            matrix=projector.matrix,
            line_scale=projector.line_scale,
            bias=projector.bias,
            key_scale=projector.key_scale,
            row_ids=self._row_ids,
            starts=self._starts,
            rows=self._rows,
            in_place=place is not None,
            table=place.address if place else 0,
            table_bytes=table.n_bytes,
            row_bytes=table.row_bytes,
            row_code=CODES[table.row_type],
            descriptor=place.descriptor if place else -1,
            file_bytes=place.file_bytes if place else 0,
            weight_code=WEIGHT_TYPES.index(weight_type),
            max_ngram=hasher.spec.max_ngram,
            n_slots=hasher.spec.n_slots,
            width=table.width,
            fill_id=hasher.spec.fill_id,
            eos_rule=hasher.spec.boundary is Boundary.EOS,
            n_branches=fusion.n_branches,
            hidden_size=fusion.hidden_size,
            epsilon=fusion.norm_epsilon,
        )


@kernel("i8(i8[::1], i8[:, ::1], i8, i8)")
def _piece(control, counters, line, capacity):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Return how many records of a layer can be made at once."""
    n_prepared = counters[line, N_PREPARED]
    room = capacity - (n_prepared - counters[line, N_PASSED])
    to_end = capacity - n_prepared % capacity  # of the ring
    n_tokens = min(control[N_SUBMITTED] - n_prepared, room, to_end, _MAX_PIECE)
    fence()  # how many there are, then their ids
    return n_tokens


@register_jitable
def _next_layer(control, counters, capacity):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Return the layer that is furthest behind, of those with work and room.

    The layer whose record is waited for has room, so nobody waits forever.
    """
    chosen = _NOTHING_TO_DO
    if control[ERROR] == 0:
        for line in range(counters.shape[0]):
            if _piece(control, counters, line, capacity) > 0 and (
                chosen < 0 or counters[line, N_PREPARED] < counters[chosen, N_PREPARED]
            ):
                chosen = line
    return chosen


@register_jitable
def _first_broken(rows):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Return the first row that holds NaN or infinity, or -1."""
    for row in range(rows.shape[0]):
        total = np.float32(0)
        for i in range(rows.shape[1]):
            total += rows[row, i] * np.float32(0)
        if total != 0:  # NaN
            return row
    return -1


@register_jitable
def _hash(layer, canonical_ids, position, n_tokens):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Return the row ids of some positions, (n_tokens, n_slots)."""
    n_slots, n_orders = layer.n_slots, layer.max_ngram - 1
    n_before = min(position, n_orders)
    row_ids = carray(pointer(layer.row_ids), (n_tokens, n_slots), np.int64)
    hash_rows(
        canonical_ids[position - n_before : position + n_tokens],
        n_before,
        carray(pointer(layer.multipliers), (layer.max_ngram,), np.uint64),
        carray(pointer(layer.shifts), (n_orders, layer.max_ngram), np.int64),
        carray(pointer(layer.sizes), (n_slots,), np.uint64),
        carray(pointer(layer.offsets), (n_slots,), np.uint64),
        layer.fill_id,
        layer.eos_rule != 0,
        row_ids,
    )
    return row_ids.reshape(n_tokens * n_slots)


@register_jitable
def _gather(layer, row_ids, e4m3, e8m0):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Return rows, (n_rows, width) float32; the hash can name no other than these."""
    starts = carray(pointer(layer.starts), row_ids.shape, np.int64)
    n_rows = layer.table_bytes // layer.row_bytes
    locate_rows(row_ids, n_rows, layer.row_bytes, 0, starts)
    rows = carray(pointer(layer.rows), (row_ids.shape[0], layer.width), np.float32)
    table = carray(pointer(layer.table), (layer.table_bytes,), np.uint8)
    decode(table, starts, layer.row_bytes, layer.row_code, e4m3, e8m0, rows)
    return rows


@register_jitable
def _project(layer, rows, records):  # type: ignore[no-untyped-def]  # pragma: no cover
    shape = (records.shape[1], rows.shape[1])
    matrix = pointer(layer.matrix)
    if layer.weight_code == _INT8:
        product_int8(carray(matrix, shape, np.int8), rows, records)
    elif layer.weight_code == _BF16:
        product_bf16(carray(matrix, shape, np.uint16), rows, records)
    else:
        product_f32(carray(matrix, shape, np.float32), rows, records)
    finish_records(
        records,
        carray(pointer(layer.line_scale), (shape[0],), np.float32),
        carray(pointer(layer.bias), (shape[0],), np.float32),
        carray(
            pointer(layer.key_scale), (layer.n_branches, layer.hidden_size), np.float32
        ),
        layer.epsilon,
    )


@register_jitable
def _prepare(layer, position, canonical_ids, records, control, e4m3, e8m0):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Make records in place; return 0 or ERROR."""
    if layer.descriptor >= 0 and file_bytes(layer.descriptor) < layer.file_bytes:
        return FILE_TOO_SHORT
    n_tokens = records.shape[0]
    row_ids = _hash(layer, canonical_ids, position, n_tokens)
    rows = _gather(layer, row_ids, e4m3, e8m0)
    broken = _first_broken(rows)
    if broken >= 0:
        control[ERROR_ROW] = row_ids[broken]
        return ROW_NOT_FINITE
    _project(layer, rows.reshape((n_tokens, layer.n_slots * layer.width)), records)
    return 0


def _prepare_next(state):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Prepare one piece; the caller holds BUSY.

    Returns a layer that is not to be read in place, _NOTHING_TO_DO or DONE.
    """
    one = carray(state, (1,), _STATE)[0]
    n_layers = one.n_layers
    control = carray(pointer(one.control), (N_CONTROL,), np.int64)
    counters = carray(pointer(one.counters), (n_layers, N_COUNTERS), np.int64)
    line = _next_layer(control, counters, one.capacity)
    if line < 0:
        return line
    layer = carray(pointer(one.layers), (n_layers,), _LAYER)[line]
    if layer.in_place == 0:
        return line
    position = counters[line, N_PREPARED]
    n_tokens = _piece(control, counters, line, one.capacity)
    first = position % one.capacity
    shape = (n_layers, one.capacity, one.record_size)
    records = carray(pointer(one.records), shape, np.float32)[line]
    error = _prepare(
        layer,
        position,
        carray(pointer(one.canonical_ids), (position + n_tokens,), np.int64),
        records[first : first + n_tokens],
        control,
        carray(pointer(one.e4m3), (256,), np.float32),
        carray(pointer(one.e8m0), (256,), np.float32),
    )
    semaphores = carray(
        pointer(one.semaphores), (FIRST_READY + n_layers, SEMAPHORE_BYTES), np.uint8
    )
    if error == 0:
        publish(counters, semaphores, line, n_tokens)
    else:
        control[ERROR_LINE] = line
        fail(control, semaphores, error)
    return DONE


@cache
def _native() -> Any:
    return native(numba.i8(numba.types.voidptr))(_prepare_next)


@kernel("i8(i8, i8, i8[::1], u1[:, ::1], b1)")
def _serve(prepare_next, state, control, semaphores, wait_for_more):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Prepare piece by piece until STOP, or until there is nothing to do.

    Returns the number of a layer whose rows are not to be read in place.
    """
    busy = semaphore(semaphores, BUSY)
    while control[STOP] == 0:
        wait(busy)
        result = call(prepare_next, state)
        sem_post(busy)
        if result >= 0 or (result == _NOTHING_TO_DO and not wait_for_more):
            return result
        if result == _NOTHING_TO_DO:
            wait(semaphore(semaphores, WORK))
    return _STOPPED
