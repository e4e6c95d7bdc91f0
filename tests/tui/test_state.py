"""How events change what is known about the engine."""

from __future__ import annotations

from dataclasses import replace

from engram_local.events import ArmStarted
from engram_local.worker.protocol import ContextUse, MemoryChanged
from tests.tui.fakes import MODEL, STATUS, finished
from tui.state import EngineState, after

READY = EngineState(phase="ready", model=MODEL)
CONTEXT = ContextUse(n_prompt=1, n_ctx=10, n_left_out=0)


def test_the_newest_answer_of_the_chat_is_known_until_a_comparison() -> None:
    answer, other = finished("A lemur"), finished("Another")
    state = after(READY, answer)
    assert state.finished == answer
    assert after(state, CONTEXT).finished == answer
    comparing = after(after(state, ArmStarted(memory_on=True)), other)
    assert comparing.finished is None
    assert after(after(comparing, CONTEXT), other).finished == other


def test_the_peak_is_of_one_answer_without_its_prompt() -> None:
    reading = replace(STATUS, tokens_per_s=None, rows_per_s=9000.0)
    writing = replace(STATUS, rows_per_s=300.0)
    slower = replace(STATUS, rows_per_s=200.0)
    ended = replace(STATUS, tokens_per_s=None, rows_per_s=None)
    state = READY
    for status in (reading, writing, slower, ended):
        state = after(state, status)
    assert state.peak_rows_per_s == 300.0
    assert after(state, CONTEXT).peak_rows_per_s is None


def test_another_memory_and_a_comparison_begin_other_sequences() -> None:
    state = after(READY, MemoryChanged(memory=None, memory_on=False))
    assert state.n_sequences == 1
    assert after(state, ArmStarted(memory_on=True)).n_sequences == 2
    assert after(state, CONTEXT).n_sequences == 1
