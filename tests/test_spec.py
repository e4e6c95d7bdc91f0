"""Specs refuse numbers that contradict each other, and derive the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

from engram_local.errors import FormatError
from engram_local.spec import (
    BackboneShape,
    Boundary,
    FusionSpec,
    HashSpec,
    LayerSpec,
    MemorySpec,
    RowType,
    TableSpec,
    Window,
)

HASH = HashSpec(
    multipliers=(3, 5, 7),
    sizes=(10, 20, 30, 40),
    offsets=(0, 10, 30, 60),
    n_heads=2,
    window=Window.NEWEST_FIRST,
    boundary=Boundary.PAD,
    fill_id=0,
)
TABLE = TableSpec(row_type=RowType.Q8_0, width=64, n_rows=100, offset_bytes=32)
FUSION = FusionSpec(hidden_size=8, n_branches=2, conv_kernel=4, conv_dilation=3)
LAYER = LayerSpec(layer_id=1, hash=HASH, table=TABLE)


def test_sizes_are_derived() -> None:
    assert (HASH.max_ngram, HASH.n_slots, HASH.n_rows) == (3, 4, 100)
    assert (TABLE.row_bytes, TABLE.n_bytes) == (68, 6800)
    assert FUSION.reach == 9
    assert LAYER.embedding_size == 256


def test_a_memory_adds_up_its_layers() -> None:
    memory = MemorySpec(layers=(LAYER, replace(LAYER, layer_id=5)), n_canonical=10)
    assert memory.rows_per_token == 8
    assert memory.bytes_per_token == 8 * 68
    assert memory.table_bytes == 2 * 6800


def test_rows_are_counted_to_the_last_slot_that_is_reached() -> None:
    assert replace(HASH, offsets=(0, 10, 200, 60)).n_rows == 230


@pytest.mark.parametrize(
    ("window", "shifts"),
    [
        (Window.NEWEST_FIRST, {2: (0, 1), 3: (0, 1, 2)}),
        (Window.OLDEST_FIRST, {2: (2, 1), 3: (2, 1, 0)}),
    ],
)
def test_windows_look_back_in_their_order(
    window: Window, shifts: dict[int, tuple[int, ...]]
) -> None:
    spec = replace(HASH, window=window)
    assert {order: spec.shifts(order) for order in (2, 3)} == shifts


@pytest.mark.parametrize(("kernel", "reach"), [(0, 0), (1, 0), (2, 3), (4, 9)])
def test_the_reach_of_a_convolution(kernel: int, reach: int) -> None:
    assert replace(FUSION, conv_kernel=kernel).reach == reach


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "unigrams": (
        lambda: replace(HASH, multipliers=(3,)),
        "maximal order 1 and 2 heads",
    ),
    "no heads": (lambda: replace(HASH, n_heads=0), "3 and 0 heads"),
    "sizes missing": (
        lambda: replace(HASH, sizes=(10, 20, 30)),
        "need 4 sizes and offsets, found 3 and 4",
    ),
    "offsets missing": (
        lambda: replace(HASH, offsets=()),
        "need 4 sizes and offsets, found 4 and 0",
    ),
    "size zero": (lambda: replace(HASH, sizes=(0, 20, 30, 40)), "hash constant"),
    "negative offset": (
        lambda: replace(HASH, offsets=(-1, 10, 30, 60)),
        "hash constant",
    ),
    "multiplier of 65 bits": (
        lambda: replace(HASH, multipliers=(3, 5, 2**64)),
        "hash constant",
    ),
    "negative pad": (lambda: replace(HASH, fill_id=-1), "hash constant"),
    "no hidden size": (lambda: replace(FUSION, hidden_size=0), "0 and 2"),
    "no branch": (lambda: replace(FUSION, n_branches=0), "8 and 0"),
    "negative kernel": (lambda: replace(FUSION, conv_kernel=-1), "-1 taps"),
    "no dilation": (lambda: replace(FUSION, conv_dilation=0), "dilation 0"),
    "a table too small": (
        lambda: replace(LAYER, table=replace(TABLE, n_rows=99)),
        "layer 1: the hash reaches 100 rows, the table has 99",
    ),
    "no layers": (lambda: MemorySpec(layers=(), n_canonical=1), r"found \[\]"),
    "a layer twice": (
        lambda: MemorySpec(layers=(LAYER, LAYER), n_canonical=1),
        r"found \[1, 1\]",
    ),
    "layers that descend": (
        lambda: MemorySpec(layers=(LAYER, replace(LAYER, layer_id=0)), n_canonical=1),
        r"found \[1, 0\]",
    ),
    "a negative layer": (
        lambda: MemorySpec(layers=(replace(LAYER, layer_id=-1),), n_canonical=1),
        r"found \[-1\]",
    ),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_numbers_that_contradict_each_other_are_refused(name: str) -> None:
    make, sentence = REFUSED[name]
    with pytest.raises(FormatError, match=sentence):
        make()


@pytest.mark.parametrize("spec", [HASH, TABLE, FUSION, LAYER], ids=lambda s: type(s))
def test_specs_are_frozen(spec: Any) -> None:
    name = type(spec).__dataclass_fields__.popitem()[0]
    with pytest.raises(FrozenInstanceError):
        setattr(spec, name, 1)


SHAPE = BackboneShape(n_layers=2, hidden_size=96, n_heads=6, n_kv_heads=2, ffn_size=256)


def test_heads_share_the_hidden_size() -> None:
    assert SHAPE.head_size == 16


@pytest.mark.parametrize(
    "change",
    [
        {"n_layers": 0},
        {"ffn_size": 0},
        {"n_kv_heads": 4},  # 6 queries cannot share 4 keys evenly
        {"n_kv_heads": 0},
        {"n_heads": 0},
        {"hidden_size": 0},
        {"hidden_size": 100},
        {"n_heads": 32, "n_kv_heads": 1},  # heads of 3 cannot be rotated in pairs
    ],
)
def test_shapes_that_cannot_be_built_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(FormatError, match=r"does not exist|does not split"):
        replace(SHAPE, **change)
