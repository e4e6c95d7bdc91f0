"""The convolution's earlier inputs: what is kept, and how far back it goes."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from engram_local.memory.history import History

F32 = NDArray[np.float32]
REACH, WIDTH = 3, 2
ROW_BYTES = 4 * WIDTH


def inputs(first: int, n_tokens: int) -> F32:
    """Return inputs that carry their position, from 1 on."""
    positions = np.arange(first + 1, first + n_tokens + 1, dtype=np.float32)
    return np.stack([positions, -positions], axis=1)


def positions_of(view: F32) -> list[int]:
    return [int(number) for number in view[:, 0]]


def make_history(n_rows: int) -> History:
    return History(reach=REACH, width=WIDTH, max_bytes=n_rows * ROW_BYTES)


def test_before_the_sequence_there_are_zeros() -> None:
    history = make_history(40)
    assert positions_of(history.append(inputs(0, 2))) == [0, 0, 0, 1, 2]
    assert positions_of(history.append(inputs(2, 1))) == [0, 1, 2, 3]


@pytest.mark.parametrize("n_rows", [0, 12, 13, 40])
@pytest.mark.parametrize("step", [1, 2, 5, 30])
def test_a_full_buffer_is_shifted_without_losing_its_reach(
    n_rows: int, step: int
) -> None:
    history = make_history(n_rows)
    for first in range(0, 200, step):
        found = positions_of(history.append(inputs(first, step)))
        expected = range(first + 1 - REACH, first + step + 1)
        assert found == [max(0, position) for position in expected]


def test_append_after_drop_continues_at_the_kept_end() -> None:
    history = make_history(40)
    history.append(inputs(0, 10))
    assert history.drop(4)
    assert positions_of(history.append(inputs(100, 1))) == [4, 5, 6, 101]


def test_everything_can_be_dropped_down_to_the_start() -> None:
    history = make_history(40)
    history.append(inputs(0, 10))
    assert history.drop(10)
    assert positions_of(history.append(inputs(50, 1))) == [0, 0, 0, 51]


def test_dropping_more_than_there_is_changes_nothing() -> None:
    history = make_history(40)
    history.append(inputs(0, 10))
    assert not history.drop(11)
    assert positions_of(history.append(inputs(10, 1))) == [8, 9, 10, 11]


def test_dropping_past_what_a_shift_left_changes_nothing() -> None:
    history = make_history(12)
    for first in range(30):
        history.append(inputs(first, 1))
    assert not history.drop(12)
    assert positions_of(history.append(inputs(30, 1))) == [28, 29, 30, 31]


def test_a_shift_keeps_half_of_the_buffer_for_drop() -> None:
    history = make_history(20)
    history.append(inputs(0, 17))  # full: reach + 17
    history.append(inputs(17, 1))  # shifts: 10 rows stay, 7 of them past the reach
    assert not history.drop(9)
    assert history.drop(8)
    assert positions_of(history.append(inputs(90, 1))) == [8, 9, 10, 91]


def test_dropping_nothing_is_fine() -> None:
    history = make_history(20)
    assert history.drop(0)
    assert positions_of(history.append(inputs(0, 1))) == [0, 0, 0, 1]


def test_reset_forgets_the_sequence() -> None:
    history = make_history(20)
    for first in range(40):  # shifted: the first rows of the buffer are in use
        history.append(inputs(first, 1))
    history.reset()
    assert not history.drop(1)
    assert positions_of(history.append(inputs(0, 1))) == [0, 0, 0, 1]


def test_a_history_without_reach_returns_only_what_came() -> None:
    history = History(reach=0, width=WIDTH, max_bytes=0)
    for first in (0, 5, 6):
        assert positions_of(history.append(inputs(first, 2))) == [first + 1, first + 2]
