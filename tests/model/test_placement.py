"""A model's own table in RAM or in its file, as was asked for: the same numbers."""

from __future__ import annotations

import ctypes
import gc
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from engram_local import loading, memlock
from engram_local.bench.eviction import Region, cached_bytes, evict
from engram_local.bench.qwen4exp_shape import Qwen4ExpShape
from engram_local.bench.subject import find_rows
from engram_local.cli import main
from engram_local.engine import Engine
from engram_local.errors import FitError, UsageError
from engram_local.formats.offload import byte_ranges, tensors_on_gpu
from engram_local.formats.split import read_model_header
from engram_local.llama import load_watch
from engram_local.llama.devices import Device, Kind
from engram_local.llama.placement import NativeLoad
from engram_local.llama.runtime import Backbone
from engram_local.settings import Settings
from engram_local.units import MIB
from tests.model.conftest import EXACT
from tests.native_models import N_TOKENS, tiny_qwen4exp

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc"),
]

TABLE_BYTES = 32 * MIB
RAM, MMAP = replace(EXACT, memory_tier="ram"), replace(EXACT, memory_tier="mmap")
LOCKED = replace(RAM, mlock=True)


@pytest.fixture(scope="module")
def large(quantized: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose table is large enough to be seen in this process's memory."""
    shape = Qwen4ExpShape().with_table(TABLE_BYTES)
    path = tmp_path_factory.mktemp("large") / "large.gguf"
    return tiny_qwen4exp(path, rows_per_head=shape.rows_per_head)


def own_bytes() -> int:
    """Return this process's own memory, without what earlier tests left free in it."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return load_watch.count().own_bytes


def mapped_flags(path: Path) -> list[set[str]]:
    """Return the flags of each mapping that this process has of a file."""
    found, ours = [], False
    for line in Path("/proc/self/smaps").read_text("utf-8").splitlines():
        if "-" in line.split(" ")[0]:
            ours = line.endswith(str(path.resolve()))
        elif ours and line.startswith("VmFlags:"):
            found.append(set(line.split()[1:]))
    return found


def logits(
    path: Path, tier: Literal["mmap", "ram"] | None, *, lock: bool = False
) -> NDArray[np.float32]:
    """Return the logits of a few tokens in two batches, (n_tokens, n_vocab)."""
    native = tier and NativeLoad(tier=tier, lock=lock, n_bytes=path.stat().st_size)
    backbone = Backbone(path, replace(EXACT, n_batch=16), native=native or None)
    token_ids = np.random.default_rng(5).integers(0, N_TOKENS, 30).tolist()
    found = []
    for start in (0, 16):
        chunk = token_ids[start : start + 16]
        backbone.decode(chunk, start, all_logits=True)
        found += [backbone.logits(index).copy() for index in range(len(chunk))]
    backbone.close()
    return np.array(found)


def test_every_tier_has_the_same_logits_bit_for_bit(native_model: Path) -> None:
    as_llama_cpp_does = logits(native_model, None)
    assert as_llama_cpp_does.shape == (30, N_TOKENS)
    for found in (
        logits(native_model, "mmap"),
        logits(native_model, "ram"),
        logits(native_model, "ram", lock=True),
    ):
        assert found.tobytes() == as_llama_cpp_does.tobytes()


@pytest.mark.parametrize("name", ["qwen4exp_parts", "gemma4_parts"])
def test_so_it_is_in_parts(name: str, request: pytest.FixtureRequest) -> None:
    first = request.getfixturevalue(name)[0]
    assert logits(first, "mmap").tobytes() == logits(first, "ram").tobytes()


def test_in_ram_it_is_memory_of_the_process_and_nothing_is_mapped(large: Path) -> None:
    before = own_bytes()
    with Engine.open(large, settings=RAM) as engine:
        grown = own_bytes() - before
        assert engine.memory is not None and engine.memory.tier == "ram"
        assert mapped_flags(large) == []
    assert grown >= TABLE_BYTES


def test_in_its_file_it_is_read_as_needed(
    large: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = find_rows(large, None).region
    if evict(Region(path=large)).after_bytes != 0:
        pytest.skip("this file system keeps its files in memory")
    with caplog.at_level(logging.INFO, "llama.cpp"):
        before = own_bytes()
        with Engine.open(large, settings=MMAP) as engine:
            assert engine.memory is not None and engine.memory.tier == "mmap"
            grown = own_bytes() - before
            # What is read ahead of its neighbours may reach into it.
            assert (cached_bytes(table) or 0) < TABLE_BYTES // 8
            assert any("rr" in flags for flags in mapped_flags(large))
            engine.score(list(range(100)))
            read_bytes = cached_bytes(table)
    assert read_bytes is not None and 0 < read_bytes < TABLE_BYTES // 4
    assert grown < TABLE_BYTES
    assert "lazy read enabled" in caplog.text


def test_in_ram_llama_cpp_reads_nothing_lazily(
    qwen4exp: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "llama.cpp"):
        Engine.open(qwen4exp, settings=RAM).close()
    assert "load_mode = none" in caplog.text or "load_mode = mlock" in caplog.text
    assert "lazy" not in caplog.text


def test_without_ours_the_tier_is_the_same(
    qwen4exp: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "llama.cpp"):
        Engine.open(qwen4exp, memory=None, settings=MMAP).close()
    assert "lazy read enabled" in caplog.text


def test_auto_from_python_maps_it(qwen4exp: Path) -> None:
    with Engine.open(qwen4exp, settings=EXACT) as engine:
        assert engine.memory is not None and engine.memory.tier == "mmap"


# --- locking ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["qwen4exp", "large"])
def test_in_ram_it_is_locked_where_that_is_allowed(
    name: str, request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue(name)
    if path.stat().st_size + MIB > memlock.lockable_bytes():
        pytest.skip("this process may not lock so much")
    table = find_rows(path, None).region
    assert table.end_bytes is not None
    with Engine.open(path, settings=LOCKED) as engine:
        assert engine.notes == ()
        locked_bytes = memlock.locked_bytes()
    assert locked_bytes is not None
    assert locked_bytes >= table.end_bytes - table.begin_bytes


def test_what_may_not_be_locked_runs_and_says_so(
    qwen4exp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memlock, "lockable_bytes", lambda: 2 * MIB)
    before = memlock.locked_bytes()
    with Engine.open(qwen4exp, settings=RAM) as engine:
        (note,) = engine.notes
        assert memlock.locked_bytes() == before
    assert note.startswith("the table is not locked in RAM: ")
    assert note.endswith("and 2.0 MiB may be")


def test_what_has_to_be_locked_and_may_not_is_refused_before_it_is_loaded(
    qwen4exp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memlock, "lockable_bytes", lambda: 2 * MIB)
    monkeypatch.setattr(loading, "Backbone", None)
    with pytest.raises(
        FitError, match=r"MiB would be, .* and 2\.0 MiB may be"
    ) as error:
        Engine.open(qwen4exp, settings=LOCKED)
    assert "ulimit -l" in (error.value.hint or "")
    assert "LimitMEMLOCK" in (error.value.hint or "")


def test_a_lock_that_failed_is_no_lock(
    qwen4exp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memlock, "locked_bytes", lambda: 4096)
    monkeypatch.setattr(memlock, "lockable_bytes", lambda: 1 << 40)
    with Engine.open(qwen4exp, settings=RAM) as engine:
        (note,) = engine.notes
    assert note.endswith("the system took 4.0 KiB of its 256.0 KiB")
    with pytest.raises(FitError, match="the system took"):
        Engine.open(qwen4exp, settings=LOCKED)


# --- the backbone on a GPU ----------------------------------------------------------


def test_what_a_gpu_has_copied_leaves_the_page_cache(
    large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here there is none: pages come back when they are touched, and are right."""
    if evict(Region(path=large)).after_bytes != 0:
        pytest.skip("this file system keeps its files in memory")
    header = read_model_header(large)
    ((path, ranges),) = byte_ranges(tensors_on_gpu(header, None, 0)).items()
    copied = [Region(path=path, begin_bytes=a, end_bytes=b) for a, b in ranges]
    stays = header.tensor("token_embd.weight")
    region = Region(
        path=path,
        begin_bytes=stays.offset_bytes,
        end_bytes=stays.offset_bytes + stays.stored_bytes,
    )
    scores = []
    for devices in ((), (gpu(),)):
        monkeypatch.setattr("engram_local.residency.gpus", lambda found=devices: found)
        with Engine.open(large, settings=MMAP) as engine:
            cached = sum(cached_bytes(one) or 0 for one in copied)
            share = cached / sum(b - a for a, b in ranges)
            # A group of pages that a neighbour is in, too, stays.
            assert share < 0.1 if devices else share > 0.9
            assert (cached_bytes(region) or 0) > 0
            scores.append(engine.score(list(range(30))))
    assert scores[0] == scores[1]


def gpu() -> Device:
    return Device(
        name="CUDA0",
        description="a GPU",
        total_bytes=1 << 34,
        free_bytes=1 << 34,
        kind=Kind.GPU,
    )


# --- flags --------------------------------------------------------------------------


@contextmanager
def nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(loading, "Backbone", None)
        yield


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        ({"memory_tier": "direct"}, "not past the page cache", "--memory-tier mmap"),
        ({"reference": True}, "there is no reference", "--verify-rows"),
    ],
)
def test_flags_that_contradict_a_models_own_table(
    native_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, str | bool],
    message: str,
    hint: str,
) -> None:
    settings = replace(EXACT, **changes)  # type: ignore[arg-type]
    with nothing_is_loaded(monkeypatch), pytest.raises(UsageError) as caught:
        Engine.open(native_model, settings=settings)
    assert message in caught.value.message and str(native_model) in caught.value.message
    assert hint in (caught.value.hint or "")


def test_no_other_memory_can_be_added(
    native_model: Path, quantized: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with nothing_is_loaded(monkeypatch), pytest.raises(UsageError, match="of its own"):
        Engine.open(native_model, memory=quantized, settings=EXACT)


def test_flags_that_need_a_models_own_table(
    quantized: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = replace(EXACT, memory_tier="ram", mlock=True)
    verified = replace(EXACT, verify_rows=True)
    for settings, flag in ((locked, "--mlock"), (verified, "--verify-rows")):
        with nothing_is_loaded(monkeypatch), pytest.raises(UsageError) as caught:
            Engine.open(quantized, settings=settings)
        assert caught.value.hint == f"leave {flag} out"


Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `run` on a model; return exit code and stderr."""

    def answer(model: Path, *flags: str) -> tuple[int, str]:
        words = ["run", str(model), "-p", "Hi", "-n", "1", "-t", "1", *flags]
        code = main(words)
        return code, capsys.readouterr().err

    return answer


@pytest.mark.parametrize("flags", [[], ["--no-fit"]])
def test_the_table_cannot_be_left_out(
    native_model: Path, run: Run, flags: list[str]
) -> None:
    code, err = run(native_model, "--no-memory", *flags)
    assert code == 2
    assert "is a part of the model" in err and "--no-prefetch" in err


@pytest.mark.parametrize("tier", ["auto", "mmap"])
def test_only_a_table_in_ram_can_be_locked(qwen4exp: Path, run: Run, tier: str) -> None:
    code, err = run(qwen4exp, "--mlock", "--memory-tier", tier)
    assert code == 2
    assert "add --memory-tier ram" in err


def test_auto_says_in_one_line_where_the_table_is(
    native_model: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memlock, "lockable_bytes", lambda: 0)
    code, err = run(native_model)
    (line, timing) = err.splitlines()
    assert code == 0
    assert line.startswith("table of ") and " in RAM: " in line
    assert "memory ram" in timing


def test_without_the_plan_auto_maps_it(native_model: Path, run: Run) -> None:
    code, err = run(native_model, "--no-fit")
    assert code == 0
    assert "memory mmap" in err and "table of" not in err


def test_what_was_asked_for_is_not_explained(native_model: Path, run: Run) -> None:
    for tier in ("ram", "mmap"):
        _, err = run(native_model, "--memory-tier", tier)
        assert f"memory {tier}" in err and "table of" not in err


def test_settings_are_checked_where_they_are_made() -> None:
    for tier in ("auto", "mmap", "direct"):
        with pytest.raises(UsageError, match="mlock locks a table in RAM"):
            Settings(mlock=True, memory_tier=tier)
