"""What the sidebar says: bars, legends, lines, without an app."""

from __future__ import annotations

from dataclasses import replace

from engram_local.telemetry import MachineRam, Resources
from engram_local.units import GIB, MIB
from engram_local.worker.protocol import GpuUse
from tests.tui.fakes import MEMORY, MODEL, STATUS, finished
from tui import sidebar_words as words
from tui.state import EngineState

STATE = EngineState(
    phase="ready",
    model=MODEL,
    memory_on=True,
    status=STATUS,
    machine=MachineRam(total_bytes=32 * GIB, available_bytes=24 * GIB),
    resources=Resources(
        rss_anon_bytes=2 * GIB, rss_file_bytes=4 * GIB, vram_bytes=None
    ),
)


def test_ram_is_ours_the_others_and_free() -> None:
    bar, own, files, others, free = words.ram_lines(STATE, 32)
    assert bar == "██" + "▓" * 4 + "▒" * 6 + "·" * 20
    assert own.split() == ["█", "engine,", "own", "2.0", "GiB"]
    assert files.split() == ["▓", "engine,", "files", "4.0", "GiB"]
    assert others.split() == ["▒", "other", "programs", "6.0", "GiB"]
    assert free.split() == ["·", "free", "of", "32.0", "GiB", "20.0", "GiB"]


def test_what_is_small_takes_a_cell() -> None:
    shares = [words.Share(name="a", n_bytes=1), words.Share(name="b", n_bytes=0)]
    assert words.bar(shares, GIB, 4) == "█···"


def test_a_bar_is_never_longer_than_its_width() -> None:
    shares = [words.Share(name="a", n_bytes=3 * GIB)] * 3
    assert words.bar(shares, GIB, 4) == "████"


def test_without_a_gpu_it_says_so() -> None:
    assert words.vram_lines(STATE, 30) == ["no GPU is used"]


def test_vram_is_weights_cache_and_the_rest() -> None:
    parts = tuple(replace(part, vram_bytes=64 * MIB) for part in MODEL.parts)
    gpu = GpuUse(name="\x1b[31mGPU", used_bytes=256 * MIB, total_bytes=GIB)
    state = replace(
        STATE,
        model=replace(MODEL, parts=parts),
        status=replace(STATUS, gpus=(gpu,)),
    )
    name, bar, *legend = words.vram_lines(state, 16)
    assert name == "\\x1b[31mGPU"
    assert bar == "█▓▒▒" + "·" * 12
    assert [line.split()[-2] for line in legend] == ["64.0", "64.0", "128.0", "768.0"]


def test_the_memory_in_numbers() -> None:
    lines = [line.split() for line in words.memory_lines(STATE)]
    assert ["wordnet", "mmap"] in lines
    assert ["rows", "per", "second", "330"] in lines
    assert ["stall", "per", "token", "0.04", "ms"] in lines
    assert ["ready", "/", "late", "100", "/", "14"] in lines
    assert ["of", "it", "in", "RAM", "2.3", "MiB,", "30", "%"] in lines


def test_what_is_unknown_is_called_so() -> None:
    status = replace(STATUS, resident_bytes=None, stall_ms=None, rows_per_s=None)
    lines = [line.split() for line in words.memory_lines(replace(STATE, status=status))]
    assert ["of", "it", "in", "RAM", "unknown"] in lines
    assert ["stall", "per", "token", "-"] in lines
    assert ["rows", "per", "second", "-"] in lines


def test_of_a_models_own_table_the_stall_is_unknown() -> None:
    own = replace(MODEL, memory=replace(MEMORY, kind="native"))
    lines = [line.split() for line in words.memory_lines(replace(STATE, model=own))]
    assert ["stall", "per", "token", "unknown"] in lines


def test_without_a_memory_it_says_so() -> None:
    state = replace(STATE, model=replace(MODEL, memory=None))
    assert words.memory_lines(state) == ["none"]


def test_the_speed_is_that_of_now_else_of_the_last_answer() -> None:
    assert words.speed(STATE) == 41.2
    idle = replace(STATE, status=replace(STATUS, tokens_per_s=None))
    assert words.speed(idle) is None
    assert words.speed(replace(idle, finished=finished("a b c"))) == 41.0
