"""Synthetic memories: real shapes, finite values, nothing left behind."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engram_local import catalog
from engram_local.bench import random_bytes, synthetic
from engram_local.bench.synthetic import (
    MemoryShape,
    spread_layers,
    write_synthetic_memory,
)
from engram_local.bench.synthetic_llama import parse_shape, write_backbone
from engram_local.errors import FileError, FormatError, UsageError
from engram_local.formats.backbone import read_backbone
from engram_local.formats.engram_gguf import read_memory
from engram_local.formats.header import read_header
from engram_local.memory.fusion import Fusion, project
from engram_local.memory.module import MemoryModule
from engram_local.memory.rows import decode_rows
from engram_local.memory.table import open_table
from engram_local.spec import RowType, TableSpec
from engram_local.units import GIB, KIB, MIB
from tests.fakes import N_BLOCKS, TOKENS, backbone_file, normal

SMALL = MemoryShape(layer_ids=(1, 4), table_bytes=256 * KIB)
PAGE_BYTES = 4096


@pytest.fixture(autouse=True)
def small_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that tests are fast, and tables take several rounds."""
    monkeypatch.setattr(random_bytes, "_TILE_BYTES", 64 * KIB)


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A backbone of six layers, width 8, that stands for the default model."""
    path = backbone_file().write(tmp_path / "tiny.gguf")
    monkeypatch.setattr(catalog, "default_model", lambda: path)
    return path


def memory(tiny: Path, shape: MemoryShape = SMALL, **changes: Any) -> MemoryModule:
    """Write a memory beside the backbone and read it back."""
    path = tiny.with_name("memory.gguf")
    write_synthetic_memory(path, tiny, replace(shape, **changes))
    return read_memory(read_header(path))


def table_of(module: MemoryModule, line: int) -> NDArray[np.uint8]:
    """Return the raw rows of one layer: (n_rows, row_bytes)."""
    table = module.spec.layers[line].table
    raw = np.fromfile(
        module.path, np.uint8, count=table.n_bytes, offset=table.offset_bytes
    )
    return raw.reshape(table.n_rows, -1)


def decoded(module: MemoryModule, line: int) -> NDArray[np.float32]:
    """Return all rows of one layer: (n_rows, width)."""
    table = module.spec.layers[line].table
    raw = table_of(module, line).reshape(-1)
    starts = np.arange(table.n_rows) * table.row_bytes
    out = np.empty((table.n_rows, table.width), np.float32)
    return decode_rows(raw, starts, table.row_type, out)


# --- memories -------------------------------------------------------------------------


def test_a_memory_has_the_shape_that_was_asked_for(tiny: Path) -> None:
    module = memory(tiny, n_heads=3, max_ngram=4, width=64, n_branches=2)
    assert module.fingerprint == read_backbone(read_header(tiny)).fingerprint
    assert [layer.layer_id for layer in module.spec.layers] == [1, 4]
    for layer in module.spec.layers:
        assert (layer.hash.n_slots, layer.hash.max_ngram) == (9, 4)
        assert layer.table.width == 64
        assert layer.hash.n_rows == layer.table.n_rows
    assert module.fusion.n_branches == 2
    assert (module.fusion.conv_kernel, module.fusion.conv_dilation) == (4, 4)
    assert module.token_map.tolist() == list(range(len(TOKENS)))


def test_all_slots_have_sizes_of_their_own(tiny: Path) -> None:
    sizes = [size for layer in memory(tiny).spec.layers for size in layer.hash.sizes]
    assert len(set(sizes)) == len(sizes) == 16


@pytest.mark.parametrize("table_bytes", [256 * KIB, 3 * MIB])
@pytest.mark.parametrize("row_type", list(synthetic.ROW_TYPES))
def test_a_table_has_the_bytes_that_were_asked_for(
    tiny: Path, row_type: RowType, table_bytes: int
) -> None:
    module = memory(tiny, row_type=row_type, table_bytes=table_bytes)
    assert table_bytes <= module.spec.table_bytes <= table_bytes * 1.2
    assert module.spec.layers[0].table.row_type is row_type


def test_defaults_are_those_of_the_shipped_memory() -> None:
    folder, *_ = catalog.models_folders()
    module = read_memory(read_header(folder / "smollm2-135m-wordnet.gguf"))
    shape, layers = MemoryShape(), module.spec.layers
    assert shape.layer_ids == tuple(layer.layer_id for layer in layers)
    assert shape.n_slots == layers[0].hash.n_slots
    assert (shape.width, shape.row_type) == (
        layers[0].table.width,
        layers[0].table.row_type,
    )
    assert shape.max_ngram == layers[0].hash.max_ngram == module.fusion.conv_dilation
    assert shape.conv_kernel == module.fusion.conv_kernel
    assert shape.table_bytes == pytest.approx(module.spec.table_bytes, rel=0.05)


@pytest.mark.parametrize("width", [32, 64])
@pytest.mark.parametrize("row_type", list(synthetic.ROW_TYPES))
def test_rows_are_finite_and_of_ordinary_size(
    tiny: Path, row_type: RowType, width: int
) -> None:
    module = memory(tiny, row_type=row_type, width=width)
    for line in (0, 1):
        rows = decoded(module, line)
        assert np.isfinite(rows).all()
        assert 0.3 < float(rows.std()) < 1.1
        assert abs(float(rows.mean())) < 0.02


@pytest.mark.parametrize("row_type", list(synthetic.ROW_TYPES))
def test_no_two_pages_of_a_table_are_alike(tiny: Path, row_type: RowType) -> None:
    """Else a drive or a file system could keep one of them."""
    module = memory(tiny, row_type=row_type, table_bytes=4 * MIB)
    raw = module.path.read_bytes()
    pages = [raw[at : at + PAGE_BYTES] for at in range(0, len(raw), PAGE_BYTES)]
    assert len(pages) > 1000
    assert len(set(pages)) == len(pages)


def test_a_table_can_be_gathered_from(tiny: Path) -> None:
    module = memory(tiny)
    table = module.spec.layers[1].table
    opened = open_table(module.path, table, "mmap")
    row_ids = np.array([0, table.n_rows - 1], np.int64)
    rows = opened.gather(row_ids, np.empty((2, table.width), np.float32))
    opened.close()
    np.testing.assert_array_equal(rows, decoded(module, 1)[row_ids])
    assert rows.std() > 0.1


@pytest.mark.parametrize("changes", [{}, {"n_branches": 4}, {"conv_kernel": 0}])
def test_deltas_are_small_and_not_nothing(tiny: Path, changes: dict[str, Any]) -> None:
    module = memory(tiny, **changes)
    layer, weights, spec = module.spec.layers[0], module.weights[0], module.fusion
    rows = decoded(module, 0)[: 16 * layer.hash.n_slots].reshape(16, -1)
    hidden = normal(np.random.default_rng(0), 16, spec.n_branches, spec.hidden_size)
    fusion = Fusion(weights, spec, history_bytes=MIB)
    delta, _ = fusion.delta(project(rows, weights, spec), hidden)
    assert 0.001 < float(delta.std()) < 0.05


def test_a_hole_takes_no_space(tiny: Path) -> None:
    module = memory(tiny, table_bytes=GIB, real_bytes=0)
    stat = module.path.stat()
    assert stat.st_size > module.spec.table_bytes > GIB
    assert stat.st_blocks * 512 < MIB
    table = module.spec.layers[1].table
    opened = open_table(module.path, table, "mmap")
    out = np.ones((1, table.width), np.float32)
    opened.gather(np.array([table.n_rows - 1], np.int64), out)
    opened.close()
    assert not out.any()


def test_the_start_of_a_table_can_be_real(tiny: Path) -> None:
    n_real = 500
    real_bytes = n_real * 34 + 33  # a broken row is left out
    module = memory(tiny, table_bytes=4 * MIB, real_bytes=real_bytes)
    for line in (0, 1):
        rows = table_of(module, line)
        assert rows[:n_real].any(axis=1).all()
        assert not rows[n_real:].any()
    assert module.path.stat().st_blocks * 512 < MIB


def test_more_real_bytes_than_the_table_has_are_all_of_it(tiny: Path) -> None:
    module = memory(tiny, real_bytes=GIB)
    assert table_of(module, 1).any(axis=1).all()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"layer_ids": ()}, "needs a layer"),
        ({"n_heads": 0}, "a head"),
        ({"n_branches": 0}, "a branch"),
        ({"width": 0}, "a width"),
        ({"max_ngram": 1}, "n-grams of 2"),
        ({"row_type": RowType.FP8}, "may be q8_0, f16, q4_0, not fp8"),
        (
            {"table_bytes": 16 * 34 - 1},
            "a table of 543 B has no row for each of its 16",
        ),
    ],
)
def test_memories_that_cannot_be_made_are_refused(
    changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence):
        replace(SMALL, **changes)


def test_a_width_that_does_not_fit_its_type_is_refused() -> None:
    with pytest.raises(FormatError, match="width divisible by 32, found 48"):
        replace(SMALL, width=48)
    assert replace(SMALL, width=48, row_type=RowType.F16).width == 48


def test_a_layer_that_the_backbone_lacks_is_refused(tiny: Path) -> None:
    with pytest.raises(UsageError, match=f"layer {N_BLOCKS} is not in a backbone of 6"):
        memory(tiny, layer_ids=(1, N_BLOCKS))


@pytest.mark.parametrize(
    ("n_layers", "depth", "layer_ids"),
    [
        (1, 30, (2,)),
        (2, 30, (2, 16)),
        (4, 30, (2, 9, 16, 23)),
        (3, 4, (1, 2, 3)),
        (4, 4, (0, 1, 2, 3)),
    ],
)
def test_layers_are_spread(
    n_layers: int, depth: int, layer_ids: tuple[int, ...]
) -> None:
    assert spread_layers(n_layers, depth) == layer_ids


@pytest.mark.parametrize("n_layers", [0, 5])
def test_layers_that_do_not_go_in_are_refused(n_layers: int) -> None:
    with pytest.raises(UsageError, match=f"{n_layers} memory layers do not go into"):
        spread_layers(n_layers, 4)


# --- space and what is left behind ----------------------------------------------------


Write = Callable[[Path, Path], None]


def a_backbone(path: Path, tiny: Path) -> None:
    write_backbone(path, parse_shape("128x4"))


def a_memory(path: Path, tiny: Path) -> None:
    write_synthetic_memory(path, tiny, SMALL)


@pytest.mark.parametrize("write", [a_backbone, a_memory])
def test_too_little_space_is_seen_before_writing(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, write: Write
) -> None:
    usage = shutil.disk_usage(tiny.parent)._replace(free=100 * KIB)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    path = tiny.with_name("new.gguf")
    with pytest.raises(FileError, match=r"new\.gguf needs \d.* 100\.0 KiB free"):
        write(path, tiny)
    assert list(tiny.parent.iterdir()) == [tiny]


def test_a_hole_needs_no_space(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tiny.parent)._replace(free=100 * KIB)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert memory(tiny, table_bytes=GIB, real_bytes=0).spec.table_bytes > GIB


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("broken")])
def test_an_interrupted_write_leaves_nothing(tiny: Path, error: BaseException) -> None:
    def progress(done_bytes: int, total_bytes: int) -> None:
        if done_bytes > total_bytes / 2:
            raise error

    with pytest.raises(type(error)):
        write_synthetic_memory(
            tiny.with_name("memory.gguf"), tiny, SMALL, progress=progress
        )
    assert list(tiny.parent.iterdir()) == [tiny]


def test_random_bytes_do_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table far larger than the tile is written from it without a seam."""
    source = random_bytes.RandomBytes(RowType.Q8_0, std=1.0)
    table = TableSpec(row_type=RowType.Q8_0, width=32, n_rows=9999, offset_bytes=0)
    raw = np.concatenate([*source.take(34), *source.take(table.n_bytes)])
    assert len(raw) == 10_000 * 34 > 5 * 64 * KIB
    scales = raw.reshape(-1, 34)[:, :2].copy().view(np.float16)
    assert np.unique(np.abs(scales)).size == 1
