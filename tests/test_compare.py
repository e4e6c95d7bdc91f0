"""One prompt with the memory and without: the order of things, by a scripted engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from engram_local.compare import compare
from engram_local.errors import Interrupted, UsageError
from engram_local.events import (
    ArmStarted,
    Compared,
    Event,
    Finished,
    FinishReason,
    TextChunk,
    Timing,
)
from engram_local.settings import Settings

PROMPT = [{"role": "user", "content": "Hi"}]
PROMPT_IDS = [1, 2, 3]


class FakeEngine:
    """Answers 2 tokens with the memory, 4 without; a token costs 1.5 nats, or 3."""

    can_leave_out_memory = True

    def __init__(self, *, on: bool = True, reason: FinishReason = "stop") -> None:
        self.memory: object | None = object() if on else None
        self.reason = reason
        self.seeds: list[int | None] = []
        self.n_words = {True: 2, False: 4}

    @property
    def on(self) -> bool:
        return self.memory is not None

    def use_memory(self, on: bool) -> None:
        self.memory = object() if on else None

    def encode(self, _prompt: object) -> list[int]:
        return PROMPT_IDS

    def generate(self, _prompt: object, *, settings: Settings) -> Iterator[Event]:
        self.seeds.append(settings.seed)
        n_words = self.n_words[self.on]
        yield TextChunk(text="a " * n_words)
        zero = Timing(total_ms=0, p50_ms=0, p95_ms=0, max_ms=0)
        yield Finished(
            text="a " * n_words,
            token_ids=(7,) * n_words,
            finish_reason=self.reason,
            n_prompt=3,
            n_cached=0,
            prompt_s=1.0,
            first_token_s=1.0,
            token_ms=zero,
            decode_s=1.0,
            memory=None,
        )

    def score(self, token_ids: Sequence[int], *, first: int) -> list[float]:
        assert list(token_ids[:first]) == PROMPT_IDS
        return [1.5 if self.on else 3.0] * (len(token_ids) - first)


def run(engine: Any, settings: Settings | None = None) -> list[Any]:
    return list(compare(engine, PROMPT, settings or Settings()))


def test_both_answers_come_and_are_scored_both_ways() -> None:
    events = run(FakeEngine())
    assert events[0] == ArmStarted(memory_on=True)
    assert events[3] == ArmStarted(memory_on=False)
    last = events[-1]
    assert isinstance(last, Compared)
    assert [arm.finished for arm in last.arms] == [events[2], events[5]]
    assert [arm.memory_on for arm in last.arms] == [True, False]
    assert {(arm.nll_on, arm.nll_off) for arm in last.arms} == {(1.5, 3.0)}


@pytest.mark.parametrize("seed", [None, 0, 7])
def test_both_arms_have_one_seed(seed: int | None) -> None:
    engine = FakeEngine()
    run(engine, Settings(seed=seed))
    one, other = engine.seeds
    assert one == other is not None
    assert seed in (None, one)


def test_no_seed_is_drawn_anew() -> None:
    engine = FakeEngine()
    for _ in range(8):
        run(engine)
    assert len(set(engine.seeds)) > 1


@pytest.mark.parametrize("on", [True, False])
def test_the_memory_is_left_as_it_was(on: bool) -> None:
    engine: Any = FakeEngine(on=on)
    run(engine)
    assert engine.on == on
    events = compare(engine, PROMPT, Settings())
    next(events)
    events.close()  # type: ignore[attr-defined]
    assert engine.on == on


def test_a_cancelled_answer_is_the_last() -> None:
    events = run(FakeEngine(reason="cancelled"))
    (arm,) = events[-1].arms
    assert arm.memory_on
    assert arm.nll_on is arm.nll_off is None


def test_what_is_cancelled_between_two_scores_ends() -> None:
    n_left = iter([2, 1, 0])

    def check() -> None:
        if not next(n_left):
            raise Interrupted("enough")

    engine: Any = FakeEngine()
    with pytest.raises(Interrupted):
        list(compare(engine, PROMPT, Settings(), check=check))
    assert engine.on


def test_an_empty_answer_costs_nothing() -> None:
    engine = FakeEngine()
    engine.n_words = {True: 0, False: 1}
    empty, other = run(engine)[-1].arms
    assert empty.nll_on is empty.nll_off is None
    assert (other.nll_on, other.nll_off) == (1.5, 3.0)


def test_a_memory_that_is_part_of_the_model_cannot_be_compared() -> None:
    engine = FakeEngine()
    engine.can_leave_out_memory = False
    with pytest.raises(UsageError, match="nothing to compare"):
        run(engine)
