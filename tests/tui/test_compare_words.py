"""What the Compare screen says in words."""

from __future__ import annotations

from dataclasses import replace

from tests.tui.fakes import MODEL, finished
from tui.compare_words import cannot_compare, finished_text
from tui.state import EngineState


def test_a_reason_is_given_where_nothing_can_be_compared() -> None:
    assert cannot_compare(EngineState()) == "No model is loaded yet."
    lost = EngineState(phase="lost", model=MODEL)
    assert "F9" in str(cannot_compare(lost))
    bare = replace(MODEL, memory=None)
    assert "both answers would be the same" in str(
        cannot_compare(EngineState(phase="ready", model=bare))
    )
    native = replace(MODEL, can_leave_out_memory=False)
    assert "cannot be left out" in str(
        cannot_compare(EngineState(phase="ready", model=native))
    )
    assert cannot_compare(EngineState(phase="ready", model=MODEL)) is None


def test_an_answers_end_in_words() -> None:
    answer = finished("one two three")
    assert finished_text(answer) == "4 tokens · 41.0 tok/s"
    cut = replace(answer, finish_reason="length", token_ids=())
    assert finished_text(cut) == "0 tokens · length"
