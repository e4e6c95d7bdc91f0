"""How many saved states are kept, and which."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import psutil
import pytest

from engram_local.llama.saved_states import SavedState, SavedStates
from engram_local.units import GIB, MIB


def state(n_tokens: int, n_bytes: int = 10) -> SavedState:
    """Return one of that many bytes."""
    return SavedState(n_tokens=n_tokens, data=np.zeros(n_bytes, np.uint8))


def lengths(states: SavedStates) -> list[int]:
    """Return what is kept, by forgetting it."""
    found = []
    while (newest := states.newest()) is not None:
        found.append(newest.n_tokens)
        states.forget_after(newest.n_tokens - 1)
    return found


def test_the_newest_few_are_kept() -> None:
    states = SavedStates(max_bytes=1000)
    for n_tokens in range(1, 13):
        states.add(state(n_tokens))
    assert lengths(states) == list(range(12, 4, -1))


def test_bytes_are_bounded() -> None:
    states = SavedStates(max_bytes=35)
    for n_tokens in (3, 5, 9, 20):
        states.add(state(n_tokens))
    states.add(state(30, n_bytes=16))
    assert lengths(states) == [30, 20]


def test_a_state_of_more_tokens_than_the_sequence_is_forgotten() -> None:
    states = SavedStates(max_bytes=1000)
    for n_tokens in (3, 5, 9):
        states.add(state(n_tokens))
    states.forget_after(5)
    assert lengths(states) == [5, 3]
    assert states.newest() is None


@pytest.mark.parametrize(
    ("ram_bytes", "max_bytes"), [(64 * GIB, 512 * MIB), (4000 * MIB, 200 * MIB)]
)
def test_a_small_computer_keeps_less(
    monkeypatch: pytest.MonkeyPatch, ram_bytes: int, max_bytes: int
) -> None:
    monkeypatch.setattr(
        psutil, "virtual_memory", lambda: SimpleNamespace(total=ram_bytes)
    )
    assert SavedStates().max_bytes == max_bytes
