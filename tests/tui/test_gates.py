"""Gates of an answer as numbers per token."""

from __future__ import annotations

from engram_local.events import TokenTrace
from engram_local.worker.protocol import AnswerTrace
from tui.gates import WHOLE_SCALE, gates_of, spread_of, why_no_gates


def trace_of(*gates: tuple[float, ...]) -> AnswerTrace:
    tokens = (TokenTrace(token_id=1, text="a", gates=one) for one in gates)
    return AnswerTrace(first=7, layer_ids=(2, 15), tokens=tuple(tokens))


def test_a_token_has_a_gate_per_layer_and_their_mean() -> None:
    trace = trace_of((0.25, 0.75), (), (0.0, 1.0))
    assert gates_of(trace, 2) == (0.25, None, 0.0)
    assert gates_of(trace, 15) == (0.75, None, 1.0)
    assert gates_of(trace, None) == (0.5, None, 0.5)


def test_the_spread_leaves_out_what_is_far_off() -> None:
    gates = [None, 0.0, *(0.9 + number / 1000 for number in range(99)), 1.0]
    low, high = spread_of(gates)
    assert 0.9 <= low <= 0.91
    assert 0.99 <= high <= 0.999
    assert spread_of((0.5, None)) == (0.5, 0.5)
    assert spread_of((None, None)) == WHOLE_SCALE
    assert spread_of(()) == WHOLE_SCALE


def test_there_is_a_reason_where_nothing_is_tinted() -> None:
    assert "no answer of the chat" in str(why_no_gates(None, "attached"))
    assert "no answer of the chat" in str(why_no_gates(trace_of(), "attached"))
    assert "llama.cpp" in str(why_no_gates(trace_of(()), "native"))
    assert "without a memory" in str(why_no_gates(trace_of(()), "attached"))
    assert why_no_gates(trace_of((), (0.5, 0.5)), "attached") is None
