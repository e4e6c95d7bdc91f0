"""Forward and back in a sequence, with a backbone and a memory that remember lists."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from engram_local.errors import BackboneError, Interrupted
from engram_local.sequence import TokenSequence

N_DECODED = 30
"""Tokens of the prompt that the tests begin with; its state is saved 8 before."""


class Backbone:
    """Keeps a KV cache, from which tokens go, and a state, from which they do not."""

    needs_saved_states = True
    state_bytes = 8

    def __init__(self) -> None:
        self.cache: list[int] = []
        self.state: list[int] = []
        self.states: dict[int, list[int]] = {}
        self.trims = False
        self.fails: Exception | None = None
        self.n_decoded = 0

    def decode(self, token_ids: Sequence[int], position: int, **_: object) -> None:
        assert position == len(self.cache) == len(self.state)
        self.cache += token_ids
        self.state += token_ids
        self.n_decoded += len(token_ids)
        if self.fails is not None:
            self.cache.append(-1)
            self.state.append(-1)
            raise self.fails

    def trim(self, n_tokens: int) -> bool:
        if len(self.state) > n_tokens and not self.trims:
            return False
        del self.cache[n_tokens:], self.state[n_tokens:]
        return True

    def save(self) -> Any:
        self.states[len(self.states)] = list(self.state)
        return np.array([len(self.states) - 1])

    def restore(self, data: Any, n_tokens: int) -> bool:
        self.state = list(self.states[int(data[0])])
        return self.trim(n_tokens)

    def reset(self) -> None:
        self.cache, self.state = [], []


class Memory:
    """Keeps what was submitted, and goes back at most 100 tokens."""

    def __init__(self) -> None:
        self.submitted: list[int] = []
        self.n_checked = 0
        self.reach = 100

    def submit(self, token_ids: Sequence[int]) -> None:
        self.submitted += token_ids

    def prepare(self) -> None:
        pass

    def check(self, n_tokens: int) -> None:
        self.n_checked = n_tokens

    def trim(self, n_tokens: int) -> bool:
        if self.n_checked - n_tokens > self.reach:
            return False
        self.n_checked = min(self.n_checked, n_tokens)
        del self.submitted[self.n_checked :]
        return True

    def reset(self) -> None:
        self.submitted.clear()
        self.n_checked = 0


@pytest.fixture
def backbone() -> Backbone:
    return Backbone()


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def sequence(backbone: Backbone, memory: Memory) -> TokenSequence:
    """A prompt of 30 tokens, 0 to 29, and an answer of 20."""
    sequence = TokenSequence(backbone, memory)  # type: ignore[arg-type]
    assert evaluate(sequence, range(N_DECODED)) == 0
    answer(sequence, range(100, 120))
    return sequence


def evaluate(sequence: TokenSequence, prompt: Sequence[int]) -> int:
    """Do what an engine does with a prompt; return how many tokens were kept."""
    prompt = list(prompt)
    n_kept = sequence.rewind(prompt)
    assert sequence.token_ids == prompt[:n_kept]
    sequence.submit(prompt[n_kept:])
    for part in sequence.parts(prompt[n_kept:]):
        sequence.step(part)
    return n_kept


def answer(sequence: TokenSequence, token_ids: Sequence[int]) -> None:
    for token_id in token_ids:
        sequence.submit([token_id])
        sequence.step([token_id])


def check(sequence: TokenSequence, backbone: Backbone, memory: Memory) -> None:
    """Everybody has evaluated the same tokens."""
    assert backbone.state == backbone.cache == sequence.token_ids
    assert memory.submitted == sequence.token_ids
    assert memory.n_checked == len(sequence.token_ids)


def test_a_conversation_goes_on(
    sequence: TokenSequence, backbone: Backbone, memory: Memory
) -> None:
    prompt = [*sequence.token_ids, *range(200, 220)]
    assert evaluate(sequence, prompt) == 50
    check(sequence, backbone, memory)
    assert backbone.n_decoded == len(prompt)


@pytest.mark.parametrize(
    "prompt",
    [
        [*range(N_DECODED)],  # once more
        [*range(N_DECODED), 100, 7, 8],  # the answer reads otherwise
        [*range(N_DECODED - 5), 1, 2, 3, 4, 5, 6, 7, 8, 9],  # as does its beginning
    ],
)
def test_going_back_begins_at_the_saved_state(
    sequence: TokenSequence, backbone: Backbone, memory: Memory, prompt: list[int]
) -> None:
    assert evaluate(sequence, prompt) == N_DECODED - 8
    check(sequence, backbone, memory)
    for _ in range(2):
        assert evaluate(sequence, prompt) == len(prompt) - 8
        check(sequence, backbone, memory)


def test_further_back_than_every_saved_state_nothing_is_kept(
    sequence: TokenSequence, backbone: Backbone, memory: Memory
) -> None:
    prompt = [*range(N_DECODED - 9), 1, 2, 3]
    assert evaluate(sequence, prompt) == 0
    check(sequence, backbone, memory)


def test_the_same_prompt_and_nothing_after_it_evaluates_the_last_tokens(
    backbone: Backbone, memory: Memory
) -> None:
    sequence = TokenSequence(backbone, memory)  # type: ignore[arg-type]
    evaluate(sequence, range(N_DECODED))
    assert evaluate(sequence, range(N_DECODED)) == N_DECODED - 8
    check(sequence, backbone, memory)


def test_each_turn_can_be_taken_back(
    sequence: TokenSequence, backbone: Backbone, memory: Memory
) -> None:
    ends = [N_DECODED]
    for turn in range(4):
        evaluate(sequence, [*sequence.token_ids, *range(10 * turn, 10 * turn + 10)])
        ends.append(len(sequence.token_ids))
        answer(sequence, [90 + turn] * 15)
    for end in reversed(ends):
        kept = sequence.token_ids[:end]
        assert evaluate(sequence, [*kept, 77, 78]) == end - 8
        check(sequence, backbone, memory)


def test_a_short_turn_is_saved_before_it(
    sequence: TokenSequence, backbone: Backbone, memory: Memory
) -> None:
    before = list(sequence.token_ids)
    evaluate(sequence, [*before, 1, 2, 3])
    answer(sequence, [5] * 10)
    assert evaluate(sequence, [*before, 4, 4, 4]) == len(before)
    check(sequence, backbone, memory)


def test_where_a_prompt_turned_off_the_next_one_begins(
    backbone: Backbone, memory: Memory
) -> None:
    text = list(range(1000, 1300))
    memory.reach = 1000
    sequence = TokenSequence(backbone, memory)  # type: ignore[arg-type]
    kept = [evaluate(sequence, [*text, *[question] * 80]) for question in range(4)]
    assert kept == [0, 0, 300, 300]
    check(sequence, backbone, memory)


def test_a_memory_that_cannot_follow_begins_anew(
    sequence: TokenSequence, backbone: Backbone, memory: Memory
) -> None:
    memory.reach = 10
    assert evaluate(sequence, range(N_DECODED)) == 0
    check(sequence, backbone, memory)


def test_tokens_that_were_only_submitted_are_forgotten(
    sequence: TokenSequence, backbone: Backbone, memory: Memory
) -> None:
    sequence.submit([55])  # the reader left before it was evaluated
    assert evaluate(sequence, [*sequence.token_ids, 56]) == 50
    check(sequence, backbone, memory)


def test_ctrl_c_goes_back_to_a_saved_state(
    sequence: TokenSequence, backbone: Backbone, memory: Memory
) -> None:
    backbone.fails = Interrupted("the computation was interrupted")
    sequence.submit([1, 2, 3])
    with pytest.raises(Interrupted):
        sequence.step([1, 2, 3])
    assert sequence.token_ids == list(range(N_DECODED - 8))
    backbone.fails = None
    check(sequence, backbone, memory)
    assert evaluate(sequence, range(N_DECODED)) == N_DECODED - 8


def test_ctrl_c_costs_one_step_where_tokens_can_go(
    sequence: TokenSequence, backbone: Backbone, memory: Memory
) -> None:
    backbone.trims, backbone.fails = True, Interrupted("interrupted")
    sequence.submit([1])
    with pytest.raises(Interrupted):
        sequence.step([1])
    check(sequence, backbone, memory)
    assert len(sequence.token_ids) == 50


def test_after_an_error_nothing_is_kept(
    sequence: TokenSequence, backbone: Backbone, memory: Memory
) -> None:
    backbone.fails = BackboneError("broken")
    sequence.submit([1])
    with pytest.raises(BackboneError):
        sequence.step([1])
    assert sequence.token_ids == []
    backbone.fails = None
    assert evaluate(sequence, range(N_DECODED)) == 0
    check(sequence, backbone, memory)


def test_nothing_is_saved_where_tokens_can_go(
    backbone: Backbone, memory: Memory
) -> None:
    backbone.trims, backbone.needs_saved_states = True, False
    sequence = TokenSequence(backbone, memory)  # type: ignore[arg-type]
    sequence.rewind(list(range(50)))
    assert sequence.parts(range(50)) == [range(50)]  # in one piece
    evaluate(sequence, range(50))
    assert evaluate(sequence, [*range(40), 1, 2]) == 40
    assert not backbone.states
    check(sequence, backbone, memory)


def test_a_state_larger_than_all_that_may_be_saved_is_not(
    backbone: Backbone, memory: Memory
) -> None:
    backbone.state_bytes = 1 << 40
    sequence = TokenSequence(backbone, memory)  # type: ignore[arg-type]
    evaluate(sequence, range(50))
    assert evaluate(sequence, range(50)) == 0
    assert not backbone.states


@pytest.mark.parametrize("seed", range(20))
def test_any_mixture_of_turns_edits_and_interruptions(
    backbone: Backbone, memory: Memory, seed: int
) -> None:
    chance = random.Random(seed)
    memory.reach = chance.choice([20, 10_000])
    sequence = TokenSequence(backbone, memory)  # type: ignore[arg-type]
    for _ in range(60):
        cut = chance.randint(0, len(sequence.token_ids))
        new = [chance.randint(0, 3) for _ in range(chance.randint(1, 90))]
        backbone.fails = Interrupted("") if chance.random() < 0.2 else None
        try:
            evaluate(sequence, [*sequence.token_ids[:cut], *new])
            answer(sequence, new[: chance.randint(0, 9)])
        except Interrupted:
            pass
        check(sequence, backbone, memory)


def test_what_will_not_be_evaluated_is_dropped(
    sequence: TokenSequence, backbone: Backbone, memory: Memory
) -> None:
    sequence.submit(range(200, 300))
    sequence.stop()
    check(sequence, backbone, memory)
    assert len(sequence.token_ids) == 50


def test_a_memory_that_cannot_stop_begins_anew(
    sequence: TokenSequence, backbone: Backbone, memory: Memory
) -> None:
    memory.reach = -1
    sequence.submit([200])
    sequence.stop()
    check(sequence, backbone, memory)
    assert sequence.token_ids == []
