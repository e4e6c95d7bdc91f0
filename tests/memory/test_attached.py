"""A memory at work: whatever way tokens and hidden states arrive, one result."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engram_local.errors import BackboneError, FormatError, TableError, UsageError
from engram_local.memory import forward, handover, reference, reference_memory
from engram_local.memory.attached import AttachedMemory
from engram_local.memory.module import FusionWeights, MemoryModule
from engram_local.memory.projector import WEIGHT_TYPES
from engram_local.memory.reference_memory import ReferenceMemory
from engram_local.memory.rows import encode_rows
from engram_local.spec import MEMORY_TYPES, Boundary, RowType, Window
from tests.fakes import HIDDEN_SIZE, TOKENS, Memory, make_memory, normal

F32 = NDArray[np.float32]
Write = Callable[[Memory], MemoryModule]
N_TOKENS = 24
TOKEN_IDS = np.random.default_rng(1).integers(0, len(TOKENS), N_TOKENS).tolist()
N_LAYERS = 2


@pytest.fixture
def memory(tmp_path: Path) -> Memory:
    return make_memory(tmp_path / "memory.gguf", n_branches=2, biases=True)


@pytest.fixture
def module(memory: Memory, written: Write) -> MemoryModule:
    return written(memory)


AnyMemory = AttachedMemory | ReferenceMemory

WAYS = [*WEIGHT_TYPES, "reference"]
"""Projections of each type in compiled code; plain numpy."""


@contextmanager
def attach(
    module: MemoryModule,
    tier: str = "ram",
    *,
    way: str = "int8",
    prefetch: bool = True,
    max_batch: int = N_TOKENS,
) -> Iterator[Any]:
    memory: AnyMemory
    if way == "reference":
        memory = ReferenceMemory(module, tier)
    else:
        memory = AttachedMemory(
            module,
            tier,
            max_tokens=N_TOKENS,
            max_batch=max_batch,
            prefetch=prefetch,
            weight_type=way,
        )
    try:
        yield memory
    finally:
        memory.close()


def rounded(weights: FusionWeights, way: str) -> FusionWeights:
    """Return weights with the projections as this way has them."""

    def cut(array: F32) -> F32:
        if way == "bf16":
            encoded = encode_rows(array, RowType.BF16).view(np.uint16)
            return (encoded.astype(np.uint32) << 16).view(np.float32)
        if way == "int8":
            step = np.abs(array).max(axis=1, keepdims=True) / 127
            return np.rint(array / step) * step
        return array

    return replace(weights, key=cut(weights.key), value=cut(weights.value))


def hidden_states(n_tokens: int = N_TOKENS) -> list[F32]:
    """Return what the backbone has at each memory layer, always the same."""
    random = np.random.default_rng(2)
    return [normal(random, n_tokens, HIDDEN_SIZE) for _ in range(N_LAYERS)]


def decode(
    memory: AnyMemory, start: int, end: int, pieces: Sequence[int] = ()
) -> list[F32]:
    """Pass submitted positions through the hook; return the changed states."""
    memory.prepare()
    states = [state[start:end].copy() for state in hidden_states()]
    cuts = [0, *pieces, end - start]
    # As llama.cpp does it: each piece runs through all layers.
    for first, last in pairwise(cuts):
        for line, state in enumerate(states):
            memory.add_delta(line, state[first:last])
    memory.check(end)
    return states


def run(memory: AnyMemory, lengths: Sequence[int], *, n_ahead: int = 0) -> list[F32]:
    """Submit and decode the whole sequence in batches."""
    ends = np.cumsum(lengths).tolist()
    spans = list(zip([0, *ends[:-1]], ends, strict=True))
    n_submitted = 0
    found = []
    for number, (start, end) in enumerate(spans):
        while n_submitted < min(len(spans), number + 1 + n_ahead):
            memory.submit(TOKEN_IDS[slice(*spans[n_submitted])])
            n_submitted += 1
        found.append(decode(memory, start, end))
    return [np.concatenate(layer) for layer in zip(*found, strict=True)]


def expected(
    memory: Memory, token_ids: Sequence[int] = TOKEN_IDS, *, way: str = "int8"
) -> list[Any]:
    """Return the changed states by the slow reference."""
    module = memory.module
    canonical_ids = module.token_map[list(token_ids)].tolist()
    result = []
    for layer, weights, rows, hidden in zip(
        module.spec.layers, module.weights, memory.rows, hidden_states(), strict=True
    ):
        row_ids = reference.row_ids(canonical_ids, layer.hash)
        gathered = rows.astype(np.float64)[row_ids].reshape(len(row_ids), -1)
        state = hidden[: len(token_ids)].astype(np.float64)
        streams = np.repeat(state[:, None], module.fusion.n_branches, axis=1)
        small = rounded(weights, way)
        delta, _ = reference.delta(gathered, streams, small, module.fusion)
        result.append(state + delta.sum(axis=1))
    return result


def assert_close(found: Sequence[F32], wanted: Sequence[Any]) -> None:
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=2e-5)


def prefetch_threads() -> list[str]:
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith("engram-prefetch")]


BATCHES = {
    "batch": [N_TOKENS],
    "step by step": [1] * N_TOKENS,
    "uneven": [5, 1, 1, 9, 8],
}


@pytest.mark.parametrize("batches", list(BATCHES))
@pytest.mark.parametrize("prefetch", [True, False])
@pytest.mark.parametrize("way", WAYS)
def test_states_equal_the_formulas(
    memory: Memory,
    module: MemoryModule,
    way: str,
    tier: str,
    prefetch: bool,
    batches: str,
) -> None:
    with attach(module, tier, way=way, prefetch=prefetch) as attached_memory:
        found = run(attached_memory, BATCHES[batches])
    assert_close(found, expected(memory, way=way))


def expected_gates(memory: Memory, *, way: str) -> NDArray[np.float64]:
    """Return each token's mean gate by the slow reference: (n_layers, n_tokens)."""
    module, result = memory.module, []
    canonical_ids = module.token_map[TOKEN_IDS].tolist()
    for layer, weights, rows, hidden in zip(
        module.spec.layers, module.weights, memory.rows, hidden_states(), strict=True
    ):
        row_ids = reference.row_ids(canonical_ids, layer.hash)
        gathered = rows.astype(np.float64)[row_ids].reshape(len(row_ids), -1)
        streams = np.repeat(hidden[:, None], module.fusion.n_branches, axis=1)
        small = rounded(weights, way)
        _, gates = reference.delta(gathered, streams, small, module.fusion)
        result.append(gates.mean(axis=1))
    return np.array(result)


@pytest.mark.parametrize("way", WAYS)
def test_gates_of_each_token_equal_the_formulas(
    memory: Memory, module: MemoryModule, way: str
) -> None:
    wanted = expected_gates(memory, way=way)
    found = []
    for lengths in BATCHES.values():
        with attach(module, way=way) as attached_memory:
            run(attached_memory, lengths)
            found.append(attached_memory.gates(0, N_TOKENS))
            part = attached_memory.gates(5, 7)
        np.testing.assert_array_equal(part, found[-1][:, 5:7])
        np.testing.assert_allclose(found[-1], wanted, rtol=1e-5)
    assert len({gates.tobytes() for gates in found}) == 1 or way == "reference"


@pytest.mark.parametrize("way", WAYS)
def test_gates_follow_the_sequence(module: MemoryModule, way: str) -> None:
    with attach(module, way=way) as attached_memory:
        assert attached_memory.gates(0, N_TOKENS).shape == (N_LAYERS, 0)
        run(attached_memory, [N_TOKENS])
        before = attached_memory.gates(0, N_TOKENS)
        assert attached_memory.trim(10)
        assert attached_memory.gates(0, N_TOKENS).tobytes() == before[:, :10].tobytes()
        attached_memory.submit([1, 1])
        assert attached_memory.gates(0, N_TOKENS).shape == (N_LAYERS, 10)
        decode(attached_memory, 10, 12)
        after = attached_memory.gates(0, N_TOKENS)
        assert after.shape == (N_LAYERS, 12)
        assert (after[:, 10:] != before[:, 10:12]).any()
        attached_memory.reset()
        assert attached_memory.gates(0, N_TOKENS).shape == (N_LAYERS, 0)


@pytest.mark.parametrize("way", ["int8", "bf16"])
def test_small_weights_differ_from_the_files_own(
    memory: Memory, module: MemoryModule, way: str
) -> None:
    """Else the tests above could not tell them apart."""
    with attach(module, way="f32") as attached_memory:
        found = run(attached_memory, [N_TOKENS])
    with pytest.raises(AssertionError):
        assert_close(found, expected(memory, way=way))
    for one, other in zip(found, expected(memory, way=way), strict=True):
        assert np.abs(one - other).max() < 0.02 * np.abs(other).max()


@pytest.mark.parametrize("way", WEIGHT_TYPES)
def test_however_tokens_come_the_bits_are_the_same(
    module: MemoryModule, way: str
) -> None:
    found = []
    for batches in BATCHES.values():
        with attach(module, way=way) as attached_memory:
            found.append(run(attached_memory, batches))
    for other in found[1:]:
        for one, same in zip(found[0], other, strict=True):
            assert one.tobytes() == same.tobytes()


@pytest.mark.parametrize("lengths", [[N_TOKENS], [1] * N_TOKENS])
@pytest.mark.parametrize("capacity", [1, 5, 7])
def test_a_ring_shorter_than_what_was_submitted_is_filled_while_it_is_emptied(
    memory: Memory,
    module: MemoryModule,
    tier: str,
    capacity: int,
    lengths: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record_bytes = 4 * 3 * HIDDEN_SIZE
    limit = capacity * record_bytes * N_LAYERS
    monkeypatch.setattr(handover, "RECORD_BYTES", limit)
    with attach(module, tier) as attached_memory:
        found = run(attached_memory, lengths, n_ahead=N_TOKENS)
        counters = attached_memory.take_counters()
    assert_close(found, expected(memory))
    assert counters.n_waits == N_LAYERS * len(lengths)
    assert 0 <= counters.n_ready <= counters.n_waits  # a layer is late once at most


@pytest.mark.parametrize("window", list(Window))
@pytest.mark.parametrize("boundary", list(Boundary))
def test_every_hash_dialect_equals_the_reference(
    tmp_path: Path, written: Write, window: Window, boundary: Boundary
) -> None:
    memory = make_memory(tmp_path / "memory.gguf", window=window, boundary=boundary)
    with attach(written(memory)) as attached_memory:
        found = run(attached_memory, BATCHES["uneven"])
    assert_close(found, expected(memory))


@pytest.mark.parametrize("n_ahead", [1, 2, 5])
@pytest.mark.parametrize("prefetch", [True, False])
def test_batches_submitted_ahead_change_nothing(
    memory: Memory, module: MemoryModule, prefetch: bool, n_ahead: int
) -> None:
    with attach(module, prefetch=prefetch) as attached_memory:
        found = run(attached_memory, BATCHES["uneven"], n_ahead=n_ahead)
    assert_close(found, expected(memory))


def test_prefetch_off_changes_no_bit(module: MemoryModule) -> None:
    found = []
    for prefetch in (True, False):
        with attach(module, prefetch=prefetch) as attached_memory:
            found.append(run(attached_memory, BATCHES["uneven"], n_ahead=1))
    for on, off in zip(*found, strict=True):
        assert on.tobytes() == off.tobytes()


@pytest.mark.parametrize("row_type", MEMORY_TYPES)
def test_the_tier_changes_no_bit(
    tmp_path: Path, written: Write, tier: str, row_type: RowType
) -> None:
    module = written(make_memory(tmp_path / "memory.gguf", row_type=row_type))
    found = []
    for one in ("ram", tier):
        with attach(module, one) as attached_memory:
            found.append(run(attached_memory, [N_TOKENS]))
    for ram, other in zip(*found, strict=True):
        assert ram.tobytes() == other.tobytes()


@pytest.mark.parametrize("prefetch", [True, False])
def test_a_hidden_state_may_arrive_in_pieces(
    memory: Memory, module: MemoryModule, prefetch: bool
) -> None:
    with attach(module, prefetch=prefetch) as attached_memory:
        attached_memory.submit(TOKEN_IDS)
        found = decode(attached_memory, 0, N_TOKENS, pieces=[1, 7, 20])
        counters = attached_memory.take_counters()
    assert_close(found, expected(memory))
    assert counters.n_waits == N_LAYERS * 4
    assert len(counters.stalls_s) == 1


def test_a_hidden_state_may_span_several_batches(
    memory: Memory, module: MemoryModule
) -> None:
    with attach(module) as attached_memory:
        for start in range(0, N_TOKENS, 8):
            attached_memory.submit(TOKEN_IDS[start : start + 8])
        found = decode(attached_memory, 0, N_TOKENS, pieces=[3])
    assert_close(found, expected(memory))


@pytest.mark.parametrize("way", WAYS)
def test_a_hidden_state_for_nothing_is_our_mistake(
    module: MemoryModule, way: str
) -> None:
    with attach(module, way=way) as attached_memory:
        attached_memory.submit(TOKEN_IDS[:2])
        decode(attached_memory, 0, 2)
        with pytest.raises(AssertionError, match="not submitted"):
            attached_memory.add_delta(0, np.zeros((1, HIDDEN_SIZE), np.float32))


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("wrong", [-1, 10**9])
def test_a_token_id_outside_the_vocabulary_is_refused(
    module: MemoryModule, batch: int, wrong: int
) -> None:
    with attach(module) as attached_memory:
        with pytest.raises(UsageError, match=f"{wrong} is no token id"):
            attached_memory.submit([wrong] * batch)
        assert attached_memory._handover.control[handover.N_SUBMITTED] == 0


@pytest.mark.parametrize("batch", [1, 3])
def test_more_tokens_than_there_is_room_for_are_our_mistake(
    module: MemoryModule, batch: int
) -> None:
    with attach(module) as attached_memory:
        attached_memory.submit(TOKEN_IDS)
        with pytest.raises(AssertionError, match=f"room for {N_TOKENS}"):
            attached_memory.submit([1] * batch)


def test_the_memory_does_change_the_state(module: MemoryModule) -> None:
    with attach(module) as attached_memory:
        found = run(attached_memory, [N_TOKENS])
    for state, before in zip(found, hidden_states(), strict=True):
        assert (np.abs(state - before).max(axis=1) > 1e-3).all()


# --- going back -----------------------------------------------------------------------


@pytest.mark.parametrize("n_kept", [0, 1, 2, 9, 15])
@pytest.mark.parametrize("prefetch", [True, False])
@pytest.mark.parametrize("way", WAYS)
def test_trim_then_continue_equals_a_fresh_start(
    memory: Memory, module: MemoryModule, way: str, prefetch: bool, n_kept: int
) -> None:
    with attach(module, way=way, prefetch=prefetch) as attached_memory:
        attached_memory.submit(list(reversed(TOKEN_IDS[n_kept:16])))
        attached_memory.reset()
        attached_memory.submit(TOKEN_IDS[:n_kept] + [3] * (16 - n_kept))
        decode(attached_memory, 0, 16)
        assert attached_memory.trim(n_kept)
        attached_memory.submit(TOKEN_IDS[n_kept:])
        found = decode(attached_memory, n_kept, N_TOKENS)
    wanted = expected(memory, way=way)
    assert_close(found, [state[n_kept:] for state in wanted])


def test_trim_forgets_batches_that_were_not_decoded(
    memory: Memory, module: MemoryModule
) -> None:
    with attach(module) as attached_memory:
        attached_memory.submit(TOKEN_IDS[:10])
        decode(attached_memory, 0, 10)
        attached_memory.submit([1, 1, 1])
        attached_memory.submit([2])
        assert attached_memory.trim(8)
        attached_memory.submit(TOKEN_IDS[8:])
        found = decode(attached_memory, 8, N_TOKENS)
    assert_close(found, [state[8:] for state in expected(memory)])


@pytest.mark.parametrize("n_kept", [10, 12, 99])
def test_trim_keeps_no_token_that_was_not_decoded(
    memory: Memory, module: MemoryModule, n_kept: int
) -> None:
    with attach(module) as attached_memory:
        attached_memory.submit(TOKEN_IDS[:10])
        decode(attached_memory, 0, 10)
        attached_memory.submit([1, 1, 1])
        assert attached_memory.trim(n_kept)
        attached_memory.submit(TOKEN_IDS[10:])
        found = decode(attached_memory, 10, N_TOKENS)
    assert_close(found, [state[10:] for state in expected(memory)])


@pytest.mark.parametrize("way", WAYS)
def test_trim_further_back_than_the_history_says_no(
    module: MemoryModule, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for home in (forward, reference_memory):
        monkeypatch.setattr(home, "HISTORY_BYTES", 0)  # 4 x reach rows stay
    with attach(module, way=way) as attached_memory:
        for position in range(N_TOKENS):
            attached_memory.submit(TOKEN_IDS[position : position + 1])
            decode(attached_memory, position, position + 1)
        assert not attached_memory.trim(2)
        attached_memory.reset()
        assert attached_memory.trim(0)


@pytest.mark.parametrize("seed", range(6))
def test_any_mixture_of_batches_and_trims_equals_a_fresh_run(
    memory: Memory, module: MemoryModule, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    width = 2 * HIDDEN_SIZE
    monkeypatch.setattr(forward, "HISTORY_BYTES", 17 * 4 * width * N_LAYERS)
    random = np.random.default_rng(seed)
    found = [np.zeros((0, HIDDEN_SIZE), np.float32)] * N_LAYERS
    done = 0
    with attach(module) as attached_memory:
        while done < N_TOKENS:
            end = min(N_TOKENS, done + int(random.integers(1, 12)))
            attached_memory.submit(TOKEN_IDS[done:end])
            states = decode(attached_memory, done, end)
            found = [
                np.concatenate([old[:done], new])
                for old, new in zip(found, states, strict=True)
            ]
            done = end
            if random.random() < 0.4:
                kept = int(random.integers(0, done))
                done = kept if attached_memory.trim(kept) else done
    assert_close(found, expected(memory))


def test_a_piece_of_a_sequence_that_was_rewound_is_nothing(
    module: MemoryModule,
) -> None:
    """The thread lets others in between choosing a layer and preparing it."""
    with attach(module, prefetch=False) as attached_memory:
        attached_memory._preparer._prepare_piece(0)
        counters = attached_memory._handover.counters
    assert not counters[:, handover.N_PREPARED].any()


@pytest.mark.parametrize("way", WAYS)
def test_reset_begins_a_new_sequence(
    memory: Memory, module: MemoryModule, way: str
) -> None:
    with attach(module, way=way) as attached_memory:
        run(attached_memory, [10, 14])
        attached_memory.reset()
        attached_memory.submit([1, 2])
        attached_memory.reset()
        found = run(attached_memory, [N_TOKENS])
    assert_close(found, expected(memory, way=way))


# --- counters -------------------------------------------------------------------------


def test_counters_tell_ready_and_late(module: MemoryModule) -> None:
    with attach(module) as attached_memory:
        attached_memory.submit(TOKEN_IDS[:8])
        wait_until_prepared(attached_memory, 8)
        decode(attached_memory, 0, 8)
        ready = attached_memory.take_counters()
        late = decode_before_prepared(attached_memory, 8, 16)
    assert (ready.n_waits, ready.n_ready) == (N_LAYERS, N_LAYERS)
    assert ready.stalls_s == [0.0]
    assert (late.n_waits, late.n_ready) == (N_LAYERS, N_LAYERS - 1)
    assert late.stalls_s[0] > 0.01


def test_the_thread_prepares_single_tokens_while_it_is_to_be_ahead(
    module: MemoryModule,
) -> None:
    with attach(module) as attached_memory:
        control = attached_memory._handover.control
        control[handover.N_AHEAD] = 2
        for n_tokens in (1, 2):
            attached_memory.submit(TOKEN_IDS[n_tokens - 1 : n_tokens])
            wait_until_prepared(attached_memory, n_tokens)  # nobody else does it
        assert control[handover.N_AHEAD] == 0


def wait_until_prepared(memory: AttachedMemory, n_tokens: int) -> None:
    while (memory._handover.counters[:, handover.N_PREPARED] < n_tokens).any():
        time.sleep(0.001)


def decode_before_prepared(memory: AttachedMemory, start: int, end: int) -> Any:
    """Decode while the prefetch thread is held up for a while."""
    memory._handover.acquire()
    memory.submit(TOKEN_IDS[start:end])
    timer = threading.Timer(0.02, memory._handover.release)
    timer.start()
    state = hidden_states()[0][start:end]
    memory.add_delta(0, state)
    timer.join()
    wait_until_prepared(memory, end)
    memory.add_delta(1, hidden_states()[1][start:end])
    memory.check(end)
    return memory.take_counters()


@pytest.mark.parametrize("way", WAYS)
def test_counters_tell_rows_bytes_and_stalls(module: MemoryModule, way: str) -> None:
    with attach(module, way=way) as attached_memory:
        run(attached_memory, BATCHES["uneven"])
        counters = attached_memory.take_counters()
        empty = attached_memory.take_counters()
    rows_per_token = 4 * N_LAYERS
    assert counters.rows_read == N_TOKENS * rows_per_token
    assert counters.bytes_read == counters.rows_read * 32 * 4
    assert len(counters.stalls_s) == 5
    assert min(counters.stalls_s) >= 0
    assert (empty.rows_read, empty.n_waits, empty.stalls_s) == (0, 0, [])


@pytest.mark.parametrize("way", ["f32", "reference"])
def test_counters_tell_the_mean_gate_per_layer(
    memory: Memory, module: MemoryModule, way: str
) -> None:
    with attach(module, way=way) as attached_memory:
        run(attached_memory, BATCHES["uneven"])
        means = attached_memory.take_counters().gate_means()
    assert list(means) == [1, 4]
    canonical_ids = module.token_map[TOKEN_IDS].tolist()
    for line, layer in enumerate(module.spec.layers):
        row_ids = reference.row_ids(canonical_ids, layer.hash)
        rows = memory.rows[line].astype(np.float64)[row_ids].reshape(N_TOKENS, -1)
        hidden = hidden_states()[line].astype(np.float64)
        streams = np.repeat(hidden[:, None], module.fusion.n_branches, axis=1)
        _, gates = reference.delta(rows, streams, module.weights[line], module.fusion)
        assert means[layer.layer_id] == pytest.approx(gates.mean(), rel=1e-5)


def test_no_decode_means_no_mean_gate(module: MemoryModule) -> None:
    with attach(module) as attached_memory:
        assert attached_memory.take_counters().gate_means() == {}


# --- errors and the end ---------------------------------------------------------------


def pass_all(memory: AnyMemory, n_tokens: int) -> list[F32]:
    """Decode zeros; return the states that were reached."""
    memory.prepare()
    states = [np.zeros((n_tokens, HIDDEN_SIZE), np.float32) for _ in range(N_LAYERS)]
    for line, state in enumerate(states):
        memory.add_delta(line, state)
    return states


@pytest.mark.parametrize("prefetch", [True, False])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("n_tokens", [1, N_TOKENS])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_row_of_nan_is_a_format_error(
    memory: Memory,
    written: Write,
    value: float,
    n_tokens: int,
    way: str,
    prefetch: bool,
) -> None:
    memory.rows[1][:] = value
    with attach(written(memory), way=way, prefetch=prefetch) as attached_memory:
        attached_memory.submit(TOKEN_IDS[:n_tokens])
        with pytest.raises(FormatError, match=r"row \d+ of memory layer 4") as caught:
            pass_all(attached_memory, n_tokens)
    assert caught.value.hint is not None


@pytest.mark.parametrize("way", WAYS)
def test_the_broken_row_is_named(memory: Memory, written: Write, way: str) -> None:
    canonical_ids = memory.module.token_map[TOKEN_IDS].tolist()
    row_ids = reference.row_ids(canonical_ids, memory.module.spec.layers[0].hash)
    broken = row_ids[7][2]
    memory.rows[0][broken, 3] = np.nan
    message = f"row {broken} of memory layer 1"
    with (
        attach(written(memory), way=way) as attached_memory,
        pytest.raises(FormatError, match=message),
    ):
        for token_id in TOKEN_IDS:
            attached_memory.submit([token_id])
            pass_all(attached_memory, 1)


@pytest.mark.parametrize("prefetch", [True, False])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("n_tokens", [1, N_TOKENS - 3])
def test_a_file_cut_off_while_in_use_reaches_the_decoding_thread(
    module: MemoryModule, way: str, n_tokens: int, prefetch: bool
) -> None:
    with attach(module, "mmap", way=way, prefetch=prefetch) as attached_memory:
        attached_memory.submit(TOKEN_IDS[:3])
        decode(attached_memory, 0, 3)
        with open(module.path, "r+b") as file:
            file.truncate(100)
        attached_memory.submit(TOKEN_IDS[3 : 3 + n_tokens])
        attached_memory.prepare()
        state = np.zeros((n_tokens, HIDDEN_SIZE), np.float32)
        with pytest.raises(TableError, match="is 100 bytes"):
            attached_memory.add_delta(0, state)
        assert not state.any()


def test_a_file_that_is_whole_again_is_an_error_too(module: MemoryModule) -> None:
    with attach(module, "mmap") as attached_memory:
        attached_memory._handover.control[handover.ERROR] = handover.FILE_TOO_SHORT
        with pytest.raises(TableError, match="for a moment"):
            attached_memory.raise_error()


def test_after_an_error_a_new_sequence_can_begin(
    memory: Memory, written: Write
) -> None:
    canonical_ids = memory.module.token_map[TOKEN_IDS].tolist()
    row_ids = reference.row_ids(canonical_ids, memory.module.spec.layers[0].hash)
    fine = {row for rows in row_ids[:12] for row in rows}
    broken = next(row for rows in row_ids[12:] for row in rows if row not in fine)
    memory.rows[0][broken] = np.nan
    with attach(written(memory)) as attached_memory:
        attached_memory.submit(TOKEN_IDS)
        with pytest.raises(FormatError):
            pass_all(attached_memory, N_TOKENS)
        attached_memory.reset()
        attached_memory.submit(TOKEN_IDS[:12])
        found = decode(attached_memory, 0, 12)
    assert_close(found, expected(memory, TOKEN_IDS[:12]))


@pytest.mark.parametrize("way", WAYS)
def test_a_layer_that_saw_too_little_is_noticed(module: MemoryModule, way: str) -> None:
    with attach(module, way=way) as attached_memory:
        attached_memory.submit(TOKEN_IDS[:4])
        attached_memory.prepare()
        attached_memory.add_delta(0, np.zeros((4, HIDDEN_SIZE), np.float32))
        with pytest.raises(BackboneError, match=r"the memory layers saw \[4, 0\]"):
            attached_memory.check(4)


def test_closing_leaves_no_thread_and_is_fine_twice(module: MemoryModule) -> None:
    attached_memory = AttachedMemory(module, "mmap", max_tokens=99, max_batch=9)
    attached_memory.submit(TOKEN_IDS)
    assert len(prefetch_threads()) == 1
    attached_memory.close()
    attached_memory.close()
    assert prefetch_threads() == []


def test_without_prefetch_there_is_no_thread(module: MemoryModule) -> None:
    with attach(module, prefetch=False) as attached_memory:
        run(attached_memory, [N_TOKENS])
        assert prefetch_threads() == []


def test_a_table_that_cannot_be_opened_leaves_nothing_open(
    module: MemoryModule,
) -> None:
    with open(module.path, "r+b") as file:
        file.truncate(module.spec.layers[1].table.offset_bytes)
    with pytest.raises(TableError):
        AttachedMemory(module, "mmap", max_tokens=9, max_batch=9)
    assert prefetch_threads() == []


@pytest.mark.parametrize("way", WAYS)
def test_layers_and_residency_are_told(module: MemoryModule, way: str) -> None:
    with attach(module, "ram", way=way) as attached_memory:
        assert attached_memory.layer_ids == (1, 4)
        assert attached_memory.resident_bytes == module.spec.table_bytes
