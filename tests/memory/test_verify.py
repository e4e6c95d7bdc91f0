"""Rows that llama.cpp would gather, made the slow way, compared: alike and spoilt."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gguf.constants import GGMLQuantizationType
from gguf.quants import dequantize
from numpy.typing import NDArray

from engram_local.errors import BackboneError, EngramError, RowsDifferError, TableError
from engram_local.memory import reference
from engram_local.memory.constants import offsets_of
from engram_local.memory.module import NativeModule
from engram_local.memory.rows import encode_rows
from engram_local.memory.verify import RowVerifier
from engram_local.spec import (
    Boundary,
    HashSpec,
    RowType,
    Window,
)
from tests.fakes import normal
from tests.memory.native_fakes import EOS, GEMMA, N_VOCAB, OFFSET_BYTES, make_native

F32 = NDArray[np.float32]


def make_hash(max_ngram: int = 3, n_heads: int = 2) -> HashSpec:
    """Return a hash of qwen4exp's kind, with products that wrap."""
    random = np.random.default_rng(max_ngram)
    sizes = random.integers(50, 90, (max_ngram - 1) * n_heads).tolist()
    drawn = random.integers(2**63, 2**64, max_ngram, dtype=np.uint64)
    return HashSpec(
        multipliers=tuple(int(number) | 1 for number in drawn),
        sizes=tuple(sizes),
        offsets=offsets_of(sizes),
        n_heads=n_heads,
        window=Window.NEWEST_FIRST,
        boundary=Boundary.EOS,
        fill_id=EOS,
    )


class Gatherer:
    """A model of one table, as llama.cpp would see it."""

    def __init__(
        self,
        path: Path,
        spec: HashSpec,
        *,
        row_type: RowType = RowType.F16,
        width: int = 32,
        scale: float = 1.0,
    ) -> None:
        random = np.random.default_rng(11)
        self.raw = self._encode(random, spec.n_rows, row_type, width)
        module = make_native(
            path, spec, row_type=row_type, width=width, rows=self.raw.tobytes()
        )
        self.module = replace(module, node_scale=scale)

    def rows(self, token_ids: Sequence[int], spec: HashSpec | None = None) -> F32:
        """Return the rows of a whole sequence: (n_tokens, slots x width)."""
        (layer,) = self.module.spec.layers
        row_ids = np.array(reference.row_ids(list(token_ids), spec or layer.hash))
        kind = GGMLQuantizationType[layer.table.row_type.name]
        rows = dequantize(self.raw[row_ids.reshape(-1)], kind)
        scaled = rows * np.float32(self.module.node_scale)
        return np.ascontiguousarray(scaled.reshape(len(token_ids), -1), np.float32)

    @staticmethod
    def _encode(
        random: np.random.Generator, n_rows: int, row_type: RowType, width: int
    ) -> NDArray[np.uint8]:
        if width == 32:
            return encode_rows(normal(random, n_rows, width), row_type)
        # Small bytes are small numbers as halves, so no scale is infinite.
        return random.integers(0, 60, (n_rows, row_type.row_bytes(width)), np.uint8)


@pytest.fixture
def model(tmp_path: Path) -> Gatherer:
    """A table of n-grams up to 3, with 4 rows of 32 per token."""
    return Gatherer(tmp_path / "model.gguf", make_hash())


@pytest.fixture
def verify() -> Iterator[Callable[[NativeModule], RowVerifier]]:
    """Make verifiers that are closed at the end."""
    made: list[RowVerifier] = []

    def make(module: NativeModule) -> RowVerifier:
        made.append(RowVerifier(module))
        return made[-1]

    yield make
    for verifier in made:
        verifier.close()


Verify = Callable[[NativeModule], RowVerifier]


def token_ids_of(n_tokens: int, seed: int = 0) -> list[int]:
    """Return tokens of which every seventh is EOS: first, doubled, last are among."""
    random = np.random.default_rng(seed)
    token_ids = random.integers(3, N_VOCAB, n_tokens)
    token_ids[random.random(n_tokens) < 1 / 7] = EOS
    return [EOS, *token_ids.tolist(), EOS, EOS]


def feed(verifier: RowVerifier, rows: F32, lengths: Sequence[int]) -> None:
    """Compare rows piece by piece; each piece ends a decode."""
    end = 0
    for length in lengths:
        start, end = end, end + length
        verifier.compare(0, rows[start:end])
        verifier.check(end)
    assert end == len(rows)


# --- what is alike --------------------------------------------------------------------


@pytest.mark.parametrize("max_ngram", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("length", [None, 1, 7])
def test_rows_of_the_reference_are_equal(
    tmp_path: Path, verify: Verify, max_ngram: int, length: int | None
) -> None:
    spec = GEMMA if max_ngram == 1 else make_hash(max_ngram)
    model = Gatherer(tmp_path / "model.gguf", spec, scale=13.856406)
    verifier, token_ids = verify(model.module), token_ids_of(207)
    verifier.submit(token_ids)
    n = length or len(token_ids)
    feed(verifier, model.rows(token_ids), [n] * (len(token_ids) // n))
    assert verifier.take_count() == len(token_ids) * spec.n_slots
    assert verifier.take_count() == 0


@pytest.mark.parametrize("row_type", [t for t in RowType if t is not RowType.FP8])
def test_rows_of_every_type_are_equal(
    tmp_path: Path, verify: Verify, row_type: RowType
) -> None:
    path = tmp_path / "model.gguf"
    model = Gatherer(path, make_hash(), row_type=row_type, width=256)
    verifier, token_ids = verify(model.module), token_ids_of(20)
    verifier.submit(token_ids)
    rows = model.rows(token_ids)
    assert np.isfinite(rows).all() and rows.any()
    feed(verifier, rows, [len(rows)])


def test_the_width_is_that_of_all_rows(model: Gatherer, verify: Verify) -> None:
    assert verify(model.module).width == 4 * 32


def test_history_follows_trims_resets_and_turns(
    model: Gatherer, verify: Verify
) -> None:
    verifier = verify(model.module)
    token_ids = token_ids_of(40)
    verifier.submit(token_ids)
    feed(verifier, model.rows(token_ids), [len(token_ids)])
    verifier.trim(20)
    turn = [*token_ids[:20], 77, 78, EOS, 79]
    verifier.submit(turn[20:])
    verifier.compare(0, model.rows(turn)[20:])
    verifier.check(24)
    verifier.trim(0)
    verifier.submit(turn[5:])
    verifier.compare(0, model.rows(turn[5:]))
    verifier.check(19)
    assert verifier.take_count() == 4 * (len(token_ids) + 4 + 19)


def test_an_interrupted_batch_begins_again_where_it_began(
    model: Gatherer, verify: Verify
) -> None:
    verifier, token_ids = verify(model.module), token_ids_of(30)
    rows = model.rows(token_ids)
    verifier.submit(token_ids)
    verifier.compare(0, rows[:10])
    verifier.check(10)
    verifier.compare(0, rows[10:17])  # the rest of this decode was given up
    verifier.trim(10)
    verifier.submit(token_ids[10:])
    verifier.compare(0, rows[10:])
    verifier.check(len(token_ids))


def test_nan_is_nan_whatever_its_bits(model: Gatherer, verify: Verify) -> None:
    model.raw[:] = np.tile([0x01, 0x7E], 32)  # every value is a NaN
    model.module.path.write_bytes(bytes(OFFSET_BYTES) + model.raw.tobytes())
    verifier = verify(model.module)
    verifier.submit([5])
    verifier.compare(0, np.full((1, 128), -np.nan, np.float32))
    verifier.submit([5])
    with pytest.raises(RowsDifferError, match=r"value 3 is 0 .*it is nan"):
        rows = np.full((1, 128), np.nan, np.float32)
        rows[0, 3] = 0
        verifier.compare(0, rows)


# --- what is not ----------------------------------------------------------------------


def caught(
    verifier: RowVerifier, token_ids: Sequence[int], rows: F32
) -> tuple[int, int, int, int, int]:
    """Return position, token id, slot, row id and value's index of the error."""
    verifier.submit(token_ids)
    with pytest.raises(RowsDifferError) as error:
        verifier.compare(0, rows)
    assert (error.value.code, error.value.exit_code) == ("rows-differ", 1)
    found = re.match(
        r"token (\d+) \(id (\d+)\), slot (\d+): .* than row (\d+): value (\d+) is ",
        error.value.message,
    )
    assert found is not None
    position, token_id, slot, row_id, index = map(int, found.groups())
    return position, token_id, slot, row_id, index


def first_difference(ours: F32, theirs: F32) -> tuple[int, int, int]:
    """Return position, slot and index of the first value that differs."""
    position, value = np.argwhere(ours != theirs)[0].tolist()
    return position, *divmod(value, 32)


def row_id_of(model: Gatherer, token_ids: list[int], position: int, slot: int) -> int:
    (layer,) = model.module.spec.layers
    return reference.row_ids(token_ids, layer.hash)[position][slot]


def test_one_bit_of_the_table_is_found(model: Gatherer, verify: Verify) -> None:
    token_ids = token_ids_of(30)
    rows = model.rows(token_ids)
    row_id = row_id_of(model, token_ids, 17, 3)
    file = bytearray(model.module.path.read_bytes())
    file[OFFSET_BYTES + row_id * 64 + 2 * 9] ^= 1  # the lowest bit of value 9
    model.module.path.write_bytes(file)
    found = caught(verify(model.module), token_ids, rows)
    assert found == (17, token_ids[17], 3, row_id, 9)


def test_the_error_gives_both_values_with_their_bits(
    model: Gatherer, verify: Verify
) -> None:
    rows = model.rows([7, 8])
    wrong, ours = rows.copy(), rows[1, 40]
    wrong[1, 40] = np.nextafter(ours, np.float32(9))
    verifier = verify(model.module)
    verifier.submit([7, 8])
    with pytest.raises(RowsDifferError) as error:
        verifier.compare(0, wrong)
    bits = [f"0x{value.view(np.uint32):08x}" for value in (wrong[1, 40], ours)]
    assert f"value 8 is {wrong[1, 40]:.9g} ({bits[0]})" in error.value.message
    assert f"in the file it is {ours:.9g} ({bits[1]})" in error.value.message


def test_the_sign_of_a_zero_counts(tmp_path: Path, verify: Verify) -> None:
    model = Gatherer(tmp_path / "model.gguf", make_hash())
    model.module.path.write_bytes(bytes(OFFSET_BYTES) + bytes(model.raw.nbytes))
    rows = np.zeros((1, 128), np.float32)
    rows[0, 127] = -0.0
    assert caught(verify(model.module), [9], rows)[2:] == (
        3,
        row_id_of(model, [9], 0, 3),
        31,
    )


Rule = Callable[[HashSpec], HashSpec]


@pytest.mark.parametrize(
    "rule",
    [
        lambda spec: replace(
            spec, multipliers=(*spec.multipliers[:2], spec.multipliers[2] + 2)
        ),
        lambda spec: replace(spec, multipliers=spec.multipliers[::-1]),
        lambda spec: replace(spec, fill_id=EOS, boundary=Boundary.PAD),
        lambda spec: replace(spec, window=Window.OLDEST_FIRST),
    ],
    ids=["multiplier", "order of multipliers", "no EOS rule", "window"],
)
def test_another_rule_is_found(model: Gatherer, verify: Verify, rule: Rule) -> None:
    token_ids = token_ids_of(60)
    (layer,) = model.module.spec.layers
    theirs = model.rows(token_ids, rule(layer.hash))
    position, slot, index = first_difference(model.rows(token_ids), theirs)
    found = caught(verify(model.module), token_ids, theirs)
    row_id = row_id_of(model, token_ids, position, slot)
    assert found == (position, token_ids[position], slot, row_id, index)


def test_a_dropped_eos_rule_is_found_right_after_the_eos(
    model: Gatherer, verify: Verify
) -> None:
    token_ids = [10, 11, 12, EOS, 13, 14]
    (layer,) = model.module.spec.layers
    theirs = model.rows(token_ids, replace(layer.hash, boundary=Boundary.PAD))
    # The bigram with the EOS is the same by both rules, the trigram looks behind it.
    assert caught(verify(model.module), token_ids, theirs)[:3] == (4, 13, 2)


def test_a_shifted_history_is_found(model: Gatherer, verify: Verify) -> None:
    token_ids = [10, 11, 12, 13]
    theirs = model.rows([10, 98, 12, 13])  # as after a trim that forgot too little
    verifier = verify(model.module)
    verifier.submit(token_ids)
    verifier.compare(0, theirs[:1])
    with pytest.raises(RowsDifferError, match=r"token 1 \(id 11\), slot 0"):
        verifier.compare(0, theirs[1:])


def test_another_scale_is_found(tmp_path: Path, verify: Verify) -> None:
    model = Gatherer(tmp_path / "model.gguf", GEMMA, scale=8.0)
    token_ids = [1, 2, 3]
    theirs = model.rows(token_ids) * np.float32(2)
    assert caught(verify(model.module), token_ids, theirs) == (0, 1, 0, 1, 0)


def test_a_node_that_nobody_saw_is_an_error(model: Gatherer, verify: Verify) -> None:
    verifier = verify(model.module)
    verifier.submit([3, 4, 5])
    verifier.compare(0, model.rows([3, 4]))
    with pytest.raises(BackboneError, match="3 tokens were computed, the rows of 2"):
        verifier.check(3)


def test_a_missing_file_is_refused(model: Gatherer, tmp_path: Path) -> None:
    with pytest.raises(TableError, match="cannot be read"):
        RowVerifier(replace(model.module, path=tmp_path / "none.gguf"))


def test_a_closed_verifier_compares_nothing(model: Gatherer) -> None:
    verifier = RowVerifier(model.module)
    verifier.close()
    verifier.close()
    verifier.submit([3])
    with pytest.raises(EngramError, match="closed"):
        verifier.compare(0, model.rows([3]))
