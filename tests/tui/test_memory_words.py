"""What the Memory screen says in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engram_local.units import GIB
from engram_local.worker.protocol import Loading
from tests.tui.fakes import MEMORY, MODEL, STATUS, finished
from tui.engine_words import why_no_engine
from tui.memory_words import (
    about_memory,
    last_stall_text,
    nothing_to_see,
    progress_text,
    ready_text,
    rows_needed,
    rows_read_text,
    tier_costs,
)
from tui.state import EngineState


def test_a_memory_in_one_line() -> None:
    assert about_memory(MEMORY, True) == (
        "wordnet · on · tier mmap · 40,000 rows of 200 B, 7.6 MiB · 8 per token"
    )
    assert about_memory(MEMORY, True, True).endswith(" · answering, gates follow")
    native = replace(MEMORY, name="\x1b[2J", kind="native")
    assert about_memory(native, False).startswith("\\x1b[2J · OFF · ")
    assert "the model's own table" in about_memory(native, False)


def test_there_is_always_something_to_do() -> None:
    assert nothing_to_see(EngineState()) == why_no_engine(EngineState())
    assert nothing_to_see(EngineState(phase="ready", model=MODEL)) is None
    bare = replace(MODEL, memory=None, memories=("/a/one.gguf",))
    sentence = str(nothing_to_see(EngineState(phase="ready", model=bare)))
    assert "There is 1 file of a memory here: c chooses one." in sentence
    assert "  one.gguf" in sentence


def test_readiness_in_words() -> None:
    assert ready_text(None) == "no rows were needed yet"
    assert ready_text(replace(STATUS, n_ready=0, n_late=0)) == "no rows were needed yet"
    assert ready_text(STATUS) == "ready 100 of 114 times a layer asked, late 14"


def test_stalls_of_an_answer_in_words() -> None:
    assert last_stall_text(None) == ""
    assert last_stall_text(replace(finished("A"), memory=None)) == ""
    assert last_stall_text(finished("A")).startswith("last answer: p50 0.040 · p95")


def test_what_was_read_in_words() -> None:
    assert rows_read_text(None) == ""
    assert rows_read_text(STATUS) == "912 rows, 178.1 KiB since the model was loaded"


def test_rows_per_second_are_those_of_now_or_of_the_last_answer() -> None:
    idle = EngineState(phase="ready", model=MODEL)
    assert rows_needed(idle) == (None, "")
    answered = replace(idle, finished=finished("one two three"))
    need, when = rows_needed(answered)
    assert need == pytest.approx(8 * 41)
    assert when == "on average in the last answer"
    peaked = replace(answered, peak_rows_per_s=400.0)
    assert rows_needed(peaked) == (400.0, "at the peak of the last answer")
    busy = replace(peaked, phase="busy", status=STATUS)
    assert rows_needed(busy) == (329.6, "now")


def test_progress_in_words() -> None:
    assert progress_text(None) == ""
    loading = Loading(what="reading \x1b", part=0.405)
    assert progress_text(loading) == "reading \\x1b 40 % (Esc stops it)"


def test_costs_of_tiers_have_the_memorys_numbers() -> None:
    costs = tier_costs(MEMORY, 4 * GIB)
    assert list(costs) == ["mmap", "ram", "direct"]
    assert "7.6 MiB are read into RAM now" in costs["ram"]
    assert "4.0 GiB are available" in costs["ram"]
    assert "8 reads per token" in costs["direct"]
    assert "available" not in tier_costs(MEMORY, None)["ram"]
