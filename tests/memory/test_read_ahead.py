"""The thread that reads prompts ahead: what it reads, how far, and when it stops."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from engram_local.memory.read_ahead import ReadAhead

CONTEXT, DISTANCE = 2, 300
LONG = list(range(2000))  # an id is its position
TIMEOUT_S = 30


class FakeReader:
    """Reads nothing; notes the tokens. With `holds`, a read lasts until a cancel."""

    context = CONTEXT

    def __init__(self) -> None:
        self.read_ids: list[int] = []
        self.pieces: list[list[int]] = []
        self.n_before: list[int] = []
        self.holds = False
        self._news = threading.Condition()
        self._cancelled = threading.Event()

    def read(self, token_ids: NDArray[np.int64], n_before: int) -> int:
        piece = [int(token_id) for token_id in token_ids[n_before:]]
        with self._news:
            self.pieces.append([int(token_id) for token_id in token_ids])
            self.n_before.append(n_before)
            self.read_ids += piece
            self._news.notify_all()
        if self.holds:
            assert self._cancelled.wait(TIMEOUT_S)
        return len(piece)

    def cancel(self) -> None:
        self._cancelled.set()

    def allow(self) -> None:
        self._cancelled.clear()

    def wait_for(self, token_id: int) -> None:
        """Wait until the rows of a token were asked for."""
        with self._news:
            assert self._news.wait_for(lambda: token_id in self.read_ids, TIMEOUT_S)


@pytest.fixture
def reader() -> FakeReader:
    return FakeReader()


@pytest.fixture
def ahead(reader: FakeReader) -> Iterator[ReadAhead]:
    ahead = ReadAhead(reader, distance_tokens=DISTANCE)
    yield ahead
    ahead.close()
    assert "engram-prefetch" not in [one.name for one in threading.enumerate()]


def test_a_prompt_is_read_in_order_and_once(
    ahead: ReadAhead, reader: FakeReader
) -> None:
    ahead.follow(LONG[:100])
    ahead.follow(LONG[100:290])
    reader.wait_for(289)
    assert reader.read_ids == LONG[:290]


def test_each_piece_has_the_ids_before_it(ahead: ReadAhead, reader: FakeReader) -> None:
    ahead.follow(LONG[:280])
    reader.wait_for(279)
    assert reader.n_before[0] == 0 and set(reader.n_before[1:]) == {CONTEXT}
    for piece in reader.pieces:
        assert piece == LONG[piece[0] : piece[-1] + 1]


def test_it_reads_no_further_than_its_distance(
    ahead: ReadAhead, reader: FakeReader
) -> None:
    ahead.follow(LONG)
    for n_passed in (0, 100, 700):
        ahead.passed(n_passed)
        reader.wait_for(n_passed + DISTANCE - 1)
        assert reader.read_ids[-1] == n_passed + DISTANCE - 1


def test_what_has_passed_is_not_read(ahead: ReadAhead, reader: FakeReader) -> None:
    ahead.follow(LONG)
    reader.wait_for(DISTANCE - 1)
    ahead.passed(1000)
    reader.wait_for(1000 + DISTANCE - 1)
    assert not set(range(DISTANCE, 1000)) & set(reader.read_ids)


def test_single_tokens_are_left_to_the_graph(
    ahead: ReadAhead, reader: FakeReader
) -> None:
    for position in range(5):
        ahead.follow([position])
        ahead.passed(position + 1)
    ahead.follow([5, 6])
    reader.wait_for(6)
    assert reader.read_ids == [5, 6]
    assert reader.pieces == [[3, 4, 5, 6]]


def test_a_rewind_ends_what_is_read_and_what_was_left(
    ahead: ReadAhead, reader: FakeReader
) -> None:
    reader.holds = True
    ahead.follow(LONG)
    reader.wait_for(0)
    reader.holds = False
    ahead.rewind(0)
    ahead.follow([5000, 5001])
    reader.wait_for(5001)
    assert reader.read_ids[-2:] == [5000, 5001]
    assert 300 not in reader.read_ids


def test_after_a_trim_the_new_tokens_are_read_with_the_old_before_them(
    ahead: ReadAhead, reader: FakeReader
) -> None:
    ahead.follow(LONG[:50])
    reader.wait_for(49)
    ahead.passed(50)
    ahead.rewind(20)
    ahead.follow([9000, 9001])
    reader.wait_for(9001)
    assert reader.pieces[-1] == [18, 19, 9000, 9001]
    assert reader.n_before[-1] == CONTEXT


def test_pages_are_counted_until_taken(ahead: ReadAhead, reader: FakeReader) -> None:
    ahead.follow(LONG[:50])
    reader.wait_for(49)
    ahead.close()
    assert ahead.take_pages() == 50
    assert ahead.take_pages() == 0


def test_it_closes_while_it_reads_and_twice(
    ahead: ReadAhead, reader: FakeReader
) -> None:
    reader.holds = True
    ahead.follow(LONG)
    reader.wait_for(0)
    ahead.close()
    ahead.close()
    assert len(reader.pieces) == 1
