"""Tokens to measure with."""

from __future__ import annotations

from collections import Counter

import pytest

from engram_local.bench.tokens import Plan, cut_text, draw_tokens
from engram_local.errors import UsageError

PLAN = Plan(n_prompt=6, n_decode=4, n_repetitions=3)


def test_drawn_tokens_are_split_seeded_and_differ_between_repetitions() -> None:
    draw = draw_tokens(1000, PLAN)
    prompt_ids, token_ids = draw(1)
    assert (len(prompt_ids), len(token_ids)) == (6, 4)
    assert draw(1) == draw_tokens(1000, PLAN)(1)
    assert draw(1) != draw(2)
    assert draw(1) != draw_tokens(1000, Plan(n_prompt=6, n_decode=4, seed=1))(1)


def test_drawn_tokens_follow_zipfs_law() -> None:
    """p(n) = 1/(n H) with H = 7.49 for 1000 words: 13.4 %, 6.7 %, 4.5 %."""
    prompt_ids, _ = draw_tokens(1000, Plan(n_prompt=100_000, n_decode=1))(0)
    assert min(prompt_ids) >= 0 and max(prompt_ids) < 1000
    counts = Counter(prompt_ids).most_common()
    parts = [count / 100_000 for _, count in counts[:3]]
    assert parts == pytest.approx([0.1336, 0.0668, 0.0445], abs=0.005)


def test_frequent_tokens_are_the_same_in_all_repetitions() -> None:
    draw = draw_tokens(1000, Plan(n_prompt=10_000, n_decode=1))
    first, second = (Counter(draw(i)[0]).most_common(1)[0][0] for i in (0, 1))
    assert first == second != 0


def test_a_text_is_cut_at_even_distances() -> None:
    cut = cut_text(range(40), PLAN)
    pieces = [cut(i) for i in range(4)]
    assert [prompt_ids[0] for prompt_ids, _ in pieces] == [0, 10, 20, 30]
    assert pieces[1] == (list(range(10, 16)), list(range(16, 20)))
    assert pieces[3][1][-1] == 39


def test_pieces_of_a_short_text_overlap() -> None:
    cut = cut_text(range(13), PLAN)
    assert [cut(i)[0][0] for i in range(4)] == [0, 1, 2, 3]


def test_a_text_that_is_too_short_is_refused() -> None:
    with pytest.raises(UsageError, match="is 9 tokens, a prompt of 6 and 4"):
        cut_text(range(9), PLAN)
