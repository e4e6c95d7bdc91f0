"""What is told of a token's rows: the rows that are read, and the n-grams they mean."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engram_local.events import TokenRow
from engram_local.memory import reference
from engram_local.memory.constants import derive_multipliers, derive_sizes, offsets_of
from engram_local.memory.module import MemoryModule, NativeModule
from engram_local.memory.ngrams import token_rows
from engram_local.spec import (
    Boundary,
    HashSpec,
    LayerSpec,
    MemorySpec,
    RowType,
    TableSpec,
    Window,
)
from tests.fakes import TOKENS, Memory, make_memory, read_golden
from tests.memory.native_fakes import EOS, GEMMA, QWEN
from tests.memory.test_hashing import random_spec

Write = Callable[[Memory], MemoryModule]


def native_of(spec: HashSpec) -> NativeModule:
    """Return a table whose ids are hashed as they are; nothing of it is read."""
    table = TableSpec(row_type=RowType.F16, width=8, n_rows=spec.n_rows, offset_bytes=0)
    layer = LayerSpec(layer_id=3, hash=spec, table=table)
    memory = MemorySpec(layers=(layer,), n_canonical=1000)
    return NativeModule(path=Path("none"), spec=memory, node="none")


def rows_of(spec: HashSpec, ids: list[int], position: int) -> tuple[TokenRow, ...]:
    return token_rows(native_of(spec), ids, position, str)


def hashed(row: TokenRow, spec: HashSpec, canonical_ids: list[int]) -> int:
    """Return the row of an n-gram, by the formula alone; what is missing is filled."""
    ngram = [spec.fill_id] * (row.order - len(canonical_ids)) + canonical_ids
    if spec.window is Window.NEWEST_FIRST:
        ngram.reverse()
    mixed = 0
    for canonical_id, multiplier in zip(ngram, spec.multipliers, strict=False):
        mixed ^= canonical_id * multiplier % 2**64
    slot = (row.order - spec.min_ngram) * spec.n_heads + row.head
    return spec.offsets[slot] + mixed % spec.sizes[slot]


@pytest.mark.parametrize("seed", range(40))
def test_rows_are_those_that_the_hash_reads_and_that_their_ngrams_give(
    seed: int,
) -> None:
    random = np.random.default_rng(seed)
    spec = random_spec(random)
    ids = random.integers(0, 4, 20).tolist()  # many of them are the fill id
    for position, wanted in enumerate(reference.row_ids(ids, spec)):
        rows = rows_of(spec, ids, position)
        assert [row.row_id for row in rows] == wanted
        assert [hashed(row, spec, list(row.token_ids)) for row in rows] == wanted


@pytest.mark.parametrize("window", list(Window))
@pytest.mark.parametrize("boundary", list(Boundary))
def test_an_attached_memory_hashes_canonical_ids_and_tells_the_tokens(
    tmp_path: Path, written: Write, window: Window, boundary: Boundary
) -> None:
    module = written(
        make_memory(tmp_path / "memory.gguf", window=window, boundary=boundary)
    )
    ids = np.random.default_rng(4).integers(0, len(TOKENS), 12).tolist()
    canonical_ids = module.token_map[ids].tolist()
    wanted = [reference.row_ids(canonical_ids, one.hash) for one in module.spec.layers]
    for position in range(len(ids)):
        rows = token_rows(module, ids, position, TOKENS.__getitem__)
        assert [row.row_id for row in rows] == [
            row_id for one in wanted for row_id in one[position]
        ]
        assert {row.layer_id for row in rows} == {1, 4}
        for row in rows:
            assert row.texts == tuple(TOKENS[i] for i in row.token_ids)


@pytest.mark.parametrize("name", ["peft_a", "peft_b"])
def test_rows_are_those_of_engram_peft(golden: Path, name: str) -> None:
    arrays, _ = read_golden(golden / name / "reference.safetensors")
    config = json.loads((golden / name / "config.json").read_text())
    n_heads, layer_id = config["n_head_per_ngram"], min(config["target_layers"])
    sizes = derive_sizes(
        [count // n_heads for count in config["engram_vocab_size_per_ngram"]],
        n_layers=1,
        n_heads=n_heads,
    )[0]
    spec = HashSpec(
        multipliers=derive_multipliers(
            seed=config["seed"],
            layer_id=layer_id,
            n_canonical=config["compressed_vocab_size"],
            max_ngram=config["max_ngram_size"],
        ),
        sizes=sizes,
        offsets=offsets_of(sizes),
        n_heads=n_heads,
        window=Window.OLDEST_FIRST,
        boundary=Boundary.PAD,
        fill_id=int(arrays["token_map"][config["pad_id"]]),
    )
    ids = arrays["token_map"][arrays["token_ids"]].astype(np.int64).tolist()
    found = [[row.row_id for row in rows_of(spec, ids, i)] for i in range(len(ids))]
    np.testing.assert_array_equal(found, arrays[f"{layer_id}.row_ids"])


def test_ngrams_are_told_oldest_first() -> None:
    rows = rows_of(QWEN, [11, 12, 13, 14], 3)
    assert [(row.order, row.head) for row in rows] == [(2, 0), (2, 1), (3, 0), (3, 1)]
    assert [row.token_ids for row in rows] == [(13, 14)] * 2 + [(12, 13, 14)] * 2
    assert rows[0].texts == ("13", "14")
    assert {row.layer_id for row in rows} == {3}


def test_the_bigram_of_engram_peft_is_one_token_behind() -> None:
    spec = HashSpec(
        multipliers=QWEN.multipliers,
        sizes=QWEN.sizes,
        offsets=QWEN.offsets,
        n_heads=2,
        window=Window.OLDEST_FIRST,
        boundary=Boundary.PAD,
        fill_id=2,
    )
    rows = rows_of(spec, [11, 12, 13, 14], 3)
    assert [row.token_ids for row in rows] == [(12, 13)] * 2 + [(12, 13, 14)] * 2
    assert rows_of(spec, [11], 0)[0].token_ids == ()


def test_the_begin_of_a_sequence_and_an_eos_cut_an_ngram() -> None:
    assert {row.token_ids for row in rows_of(QWEN, [11, 12], 0)} == {(11,)}
    assert {row.token_ids for row in rows_of(QWEN, [11, EOS, 13], 2)} == {(13,)}
    assert {row.token_ids for row in rows_of(QWEN, [11, 12, EOS], 2)} == {
        (12, EOS),
        (11, 12, EOS),
    }


def test_a_row_per_token_id_has_no_neighbours() -> None:
    (row,) = rows_of(GEMMA, [5, 6, 7], 1)
    assert (row.order, row.token_ids, row.row_id) == (1, (6,), 6)
