"""One prompt answered with the memory and without, each answer scored both ways."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace

from engram_local.engine import Engine, Prompt
from engram_local.errors import UsageError
from engram_local.events import ArmStarted, Compared, ComparedArm, Event, Finished
from engram_local.settings import Settings


def compare(
    engine: Engine,
    prompt: Prompt,
    settings: Settings,
    *,
    check: Callable[[], None] = lambda: None,
) -> Iterator[Event | ArmStarted | Compared]:
    """Answer with the memory, then without, with one seed; the last is `Compared`.

    Each answer comes as `Engine.generate` tells it, after an `ArmStarted`. After a
    cancelled one there is no other, and nothing is scored. The memory is on or off
    afterwards as it was. check: called before each score, to raise Interrupted: what
    `cancel` ends is an answer. Raises UsageError if there is no memory that can be left
    out, and what `Engine.generate` raises.
    """
    if not engine.can_leave_out_memory:
        raise UsageError(
            "there is no memory here that could be left out, so nothing to compare"
        )
    if settings.seed is None:
        settings = replace(settings, seed=secrets.randbits(31))
    was_on = engine.memory is not None
    answers: list[Finished] = []
    try:
        for on in (True, False):
            engine.use_memory(on)
            with closing(engine.generate(prompt, settings=settings)) as events:
                yield ArmStarted(memory_on=on)
                for event in events:
                    yield event
            assert isinstance(event, Finished)
            answers.append(event)
            if event.finish_reason == "cancelled":
                break
        yield Compared(arms=_arms(engine, prompt, answers, check))
    finally:
        engine.use_memory(was_on)


def _arms(
    engine: Engine,
    prompt: Prompt,
    answers: list[Finished],
    check: Callable[[], None],
) -> tuple[ComparedArm, ...]:
    on: list[float | None] = [None] * len(answers)
    off = on
    if answers[-1].finish_reason != "cancelled":
        off = _mean_nlls(
            engine, prompt, answers, check
        )  # it is off: the prompt is evaluated
        engine.use_memory(True)
        on = _mean_nlls(engine, prompt, answers, check)
    return tuple(
        ComparedArm(memory_on=i == 0, finished=answer, nll_on=on[i], nll_off=off[i])
        for i, answer in enumerate(answers)
    )


def _mean_nlls(
    engine: Engine,
    prompt: Prompt,
    answers: list[Finished],
    check: Callable[[], None],
) -> list[float | None]:
    """Return what each answer's tokens cost after the prompt, with the memory as it is.

    Nothing else is scored: no token of the prompt, and no end token.
    """
    prompt_ids = engine.encode(prompt)
    means: list[float | None] = []
    for answer in answers:
        check()
        token_ids = [*prompt_ids, *answer.token_ids]
        nll = engine.score(token_ids, first=len(prompt_ids))
        means.append(math.fsum(nll) / len(nll) if nll else None)
    return means
