"""Runs -> medians, ratios to the reference of the same repetition, a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from engram_local.bench.arms import REFERENCE, REPEATED, Run

Speed = Callable[[Run], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Some values of one quantity."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmSummary:
    """One arm: speeds, and ratios to the reference of the same repetition."""

    arm: str
    decode_per_s: Spread
    decode_ratio: Spread
    prompt_per_s: Spread
    prompt_ratio: Spread


def summarize_runs(runs: Sequence[Run]) -> list[ArmSummary]:
    """Return one summary per arm, in the order they first ran."""
    names = list(dict.fromkeys(run.arm for run in runs))
    return [
        ArmSummary(
            arm=name,
            decode_per_s=_speeds(runs, name, lambda run: run.tokens_per_s),
            decode_ratio=_ratios(runs, name, lambda run: run.tokens_per_s),
            prompt_per_s=_speeds(runs, name, lambda run: run.prompt_tokens_per_s),
            prompt_ratio=_ratios(runs, name, lambda run: run.prompt_tokens_per_s),
        )
        for name in sorted(names, key=lambda name: (name != REFERENCE, name))
    ]


def noise_floor(summaries: Sequence[ArmSummary]) -> tuple[float, float]:
    """Return how far the reference is from itself: largest deviation of decode and
    prompt ratios from 1. Differences below it say nothing.
    """
    repeated = next(item for item in summaries if item.arm == REPEATED)
    return _deviation(repeated.decode_ratio), _deviation(repeated.prompt_ratio)


def as_text(summaries: Sequence[ArmSummary]) -> str:
    """Return a table for people."""
    head = (
        f"{'arm':<22}{'decode tok/s':>24}{'ratio':>8}{'prompt tok/s':>26}{'ratio':>8}"
    )
    lines = [
        f"{item.arm:<22}{_spread(item.decode_per_s):>24}"
        f"{item.decode_ratio.median:>8.3f}{_spread(item.prompt_per_s):>26}"
        f"{item.prompt_ratio.median:>8.3f}"
        for item in summaries
    ]
    decode, prompt = noise_floor(summaries)
    floor = f"noise floor: decode {decode:.3f}, prompt {prompt:.3f}"
    return "\n".join([head, *lines, floor])


def _speeds(runs: Sequence[Run], name: str, speed: Speed) -> Spread:
    return _spread_of([speed(run) for run in runs if run.arm == name])


def _ratios(runs: Sequence[Run], name: str, speed: Speed) -> Spread:
    reference = {run.repetition: speed(run) for run in runs if run.arm == REFERENCE}
    return _spread_of(
        [speed(run) / reference[run.repetition] for run in runs if run.arm == name]
    )


def _spread_of(values: Sequence[float]) -> Spread:
    return Spread(median=median(values), low=min(values), high=max(values))


def _deviation(ratio: Spread) -> float:
    return max(abs(ratio.low - 1), abs(ratio.high - 1))


def _spread(spread: Spread) -> str:
    return f"{spread.median:.1f} ({spread.low:.1f}-{spread.high:.1f})"
