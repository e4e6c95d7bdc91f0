"""Going back in a sequence: what llama.cpp keeps decides, with a fake memory."""

from __future__ import annotations

import llama_cpp
import pytest

from engram_local.llama.runtime import Backbone


class Memory:
    """What llama.cpp answers about a sequence of 100 tokens."""

    def __init__(self, *, oldest: int, window: int, goes_back: bool) -> None:
        self.oldest, self.window, self.goes_back = oldest, window, goes_back

    def remove(self, _memory: object, _sequence: int, first: int, _end: int) -> bool:
        return self.goes_back or first > 99


def trims(monkeypatch: pytest.MonkeyPatch, memory: Memory, n_tokens: int) -> bool:
    answers = {
        "llama_get_memory": lambda _: memory,
        "llama_memory_seq_pos_min": lambda *_: memory.oldest,
        "llama_memory_seq_pos_max": lambda *_: 99,
        "llama_model_n_swa": lambda _: memory.window,
        "llama_memory_seq_rm": memory.remove,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(llama_cpp, name, answer)
    backbone = object.__new__(Backbone)
    backbone._context = backbone._model = None
    return backbone.trim(n_tokens)


@pytest.mark.parametrize(
    ("n_tokens", "kept"), [(100, True), (90, True), (89, False), (5, False)]
)
def test_a_window_goes_back_as_far_as_it_reaches(
    monkeypatch: pytest.MonkeyPatch, n_tokens: int, kept: bool
) -> None:
    memory = Memory(oldest=74, window=16, goes_back=True)
    assert trims(monkeypatch, memory, n_tokens) is kept


@pytest.mark.parametrize(("n_tokens", "kept"), [(100, True), (99, False)])
def test_a_state_beside_a_window_goes_on(
    monkeypatch: pytest.MonkeyPatch, n_tokens: int, kept: bool
) -> None:
    """lfm2: its oldest is the last token, and a chat goes on from there."""
    memory = Memory(oldest=99, window=16, goes_back=False)
    assert trims(monkeypatch, memory, n_tokens) is kept
