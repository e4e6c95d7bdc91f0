"""What is evaluated to be measured: likelihoods of tokens, times of a replay."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engram_local.events import MemoryStats
from engram_local.llama.runtime import Backbone
from engram_local.llama.sampling import Sampler
from engram_local.sequence import TokenSequence
from engram_local.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """How long a prompt took, and each token after it; what the memory did in both."""

    prompt_s: float
    token_s: tuple[float, ...]
    prompt_memory: MemoryStats | None
    token_memory: MemoryStats | None


def score(
    backbone: Backbone,
    sequence: TokenSequence,
    token_ids: Sequence[int],
    *,
    chunk_sizes: Sequence[int] | None,
    first: int,
) -> list[float]:
    """See `Engine.score`."""
    start = _evaluate_before(sequence, token_ids[:first])
    scored, targets = token_ids[start:], token_ids[start + 1 :]
    sequence.submit(scored)
    nll: list[float] = []
    for chunk in sequence.chunks(scored, chunk_sizes):
        sequence.step(chunk, all_logits=True)
        n_scored = min(len(chunk), len(targets) - len(nll))
        nll += [
            _nll(backbone.logits(index), targets[len(nll) + index])
            for index in range(n_scored)
        ]
    return nll


def _evaluate_before(sequence: TokenSequence, token_ids: Sequence[int]) -> int:
    """Evaluate all but the last token, unless they are; return how many these are."""
    n_before = len(token_ids) - 1
    if n_before < 1:
        sequence.reset()
        return 0
    n_cached = sequence.rewind(token_ids)
    for _ in sequence.evaluate(token_ids[n_cached:n_before]):
        pass
    return n_before


def _nll(logits: NDArray[np.float32], target: int) -> float:
    shifted = logits.astype(np.float64) - float(logits.max())
    return float(np.log(np.exp(shifted).sum()) - shifted[target])


def replay(
    backbone: Backbone,
    sequence: TokenSequence,
    prompt_ids: Sequence[int],
    token_ids: Sequence[int],
    *,
    settings: Settings,
    take_stats: Callable[[], MemoryStats | None],
    between: Callable[[], None] | None,
) -> Replay:
    """See `Engine.replay`."""
    sequence.reset()
    take_stats()  # what was counted before
    start = time.perf_counter()
    for _ in sequence.evaluate(prompt_ids):
        pass
    prompt_s = time.perf_counter() - start
    prompt_memory = take_stats()
    if between is not None:
        between()
    token_s = _replay_tokens(backbone, sequence, token_ids, settings)
    return Replay(
        prompt_s=prompt_s,
        token_s=token_s,
        prompt_memory=prompt_memory,
        token_memory=take_stats(),
    )


def _replay_tokens(
    backbone: Backbone,
    sequence: TokenSequence,
    token_ids: Sequence[int],
    settings: Settings,
) -> tuple[float, ...]:
    times = [time.perf_counter()]
    with closing(Sampler(settings)) as sampler:
        for token_id in token_ids:
            backbone.sample(sampler)
            sequence.submit([token_id])
            sequence.step([token_id])
            times.append(time.perf_counter())
    return tuple(np.diff(times).tolist())
