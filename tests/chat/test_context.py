"""What the model sees of a conversation that does not fit."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from engram_local.chat.context import fit
from engram_local.chat.conversation import ChatMessage


def words(messages: Sequence[ChatMessage]) -> int:
    return sum(len(message.content.split()) for message in messages)


def dialogue(n_pairs: int, *, n_words: int = 10) -> list[ChatMessage]:
    """Return questions and answers of `n_words` words of 4 characters, and a last one.

    A token is a word here.
    """
    text = "abc " * n_words
    pair = [
        ChatMessage(role="user", content=text),
        ChatMessage(role="assistant", content=text),
    ]
    return [*pair * n_pairs, ChatMessage(role="user", content=text)]


SYSTEM = ChatMessage(role="system", content="be brief now")


def test_what_fits_is_left_as_it_is() -> None:
    messages = [SYSTEM, *dialogue(4)]
    calls = []

    def count(some: Sequence[ChatMessage]) -> int:
        calls.append(len(some))
        return words(some)

    assert fit(messages, count, 200) == (tuple(messages), 0)
    assert calls == [10]


def test_the_oldest_are_left_out_with_their_answers() -> None:
    messages = [SYSTEM, *dialogue(20)]
    seen, n_left_out = fit(messages, words, 200)
    assert seen[0] == SYSTEM
    assert seen[1].role == "user"
    assert n_left_out > 0 and n_left_out % 2 == 0
    assert list(seen[1:]) == messages[1 + n_left_out :]
    assert 100 < words(seen) <= 175


def test_an_eighth_is_kept_for_the_answer() -> None:
    assert fit(dialogue(3), words, 80)[1] == 0
    assert fit(dialogue(3), words, 78)[1] > 0


@pytest.mark.parametrize("n_pairs", [1, 2, 50])
def test_the_newest_question_stays_even_if_it_does_not_fit(n_pairs: int) -> None:
    messages = [SYSTEM, *dialogue(n_pairs)]
    assert fit(messages, words, 10) == ((SYSTEM, messages[-1]), 2 * n_pairs)


def test_one_question_that_is_too_long_is_left_to_the_engine() -> None:
    messages = dialogue(0)
    assert fit(messages, words, 5) == (tuple(messages), 0)


def test_what_there_is_of_an_answer_stays_with_its_question() -> None:
    messages = [*dialogue(10), ChatMessage(role="assistant", content="I am")]
    seen, n_left_out = fit(messages, words, 15)
    assert (seen, n_left_out) == (tuple(messages[-2:]), 20)


def test_the_view_begins_at_the_same_question_for_several_turns() -> None:
    """What the model has evaluated can be used again as long as it does."""
    left_out = [fit(dialogue(n), words, 400)[1] for n in range(20, 60)]
    assert left_out == sorted(left_out)
    assert len(set(left_out)) <= 40 / 2


def test_few_counts_are_needed() -> None:
    calls = []

    def count(some: Sequence[ChatMessage]) -> int:
        calls.append(len(some))
        return words(some)

    fit(dialogue(1000), count, 200)
    assert len(calls) <= 12
