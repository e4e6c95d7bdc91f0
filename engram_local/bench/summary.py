"""Runs -> medians, and ratios to the turn without a memory of the same repetition."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from engram_local.bench.arms import NONE, NONE_AGAIN
from engram_local.bench.runner import Run
from engram_local.bench.turn import Part, most

PartOf = Callable[[Run], Part]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Some values of one quantity."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall:
    """How long a decode call waited for rows, in milliseconds."""

    p50_ms: float
    """Of the repetitions' percentiles, the median."""

    p95_ms: float
    max_ms: float
    """The longest of all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartSummary:
    """The prompts of an arm, or the tokens after them.

    None = no memory, or the system does not tell.
    """

    tokens_per_s: Spread
    ratio: Spread
    """Of the speed to that of `none` in the same repetition."""

    rows_per_s: Spread | None
    stall: Stall | None
    resident_before_bytes: Spread | None
    resident_after_bytes: Spread | None
    drive_bytes: Spread | None
    amplification: Spread | None
    n_major_faults: Spread | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmSummary:
    """One arm in all repetitions."""

    arm: str
    decode: PartSummary
    prompt: PartSummary
    rss_anon_bytes: int | None
    """The most that was seen."""

    rss_file_bytes: int | None
    peak_rss_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseFloor:
    """How far `none again` is from `none`. Smaller differences say nothing."""

    median: float
    largest: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSummary:
    """Arms that were run in alternation."""

    group: str
    arms: tuple[ArmSummary, ...]
    decode_floor: NoiseFloor
    prompt_floor: NoiseFloor


def summarize_runs(runs: Sequence[Run]) -> list[GroupSummary]:
    """Return a summary per group, with `none` first, then in the order they ran."""
    groups = dict.fromkeys(run.group for run in runs)
    return [_group(name, [run for run in runs if run.group == name]) for name in groups]


def _group(name: str, runs: Sequence[Run]) -> GroupSummary:
    first = min(run.repetition for run in runs)
    names = dict.fromkeys([NONE.name, NONE_AGAIN.name])
    names |= dict.fromkeys(run.arm for run in runs if run.repetition == first)
    arms = tuple(_arm(arm, runs) for arm in names)
    again = arms[1]
    return GroupSummary(
        group=name,
        arms=arms,
        decode_floor=_floor(again.arm, runs, _decode),
        prompt_floor=_floor(again.arm, runs, _prompt),
    )


def _arm(name: str, runs: Sequence[Run]) -> ArmSummary:
    turns = [run.turn for run in runs if run.arm == name]
    return ArmSummary(
        arm=name,
        decode=_part(name, runs, _decode),
        prompt=_part(name, runs, _prompt),
        rss_anon_bytes=most(turn.rss_anon_bytes for turn in turns),
        rss_file_bytes=most(turn.rss_file_bytes for turn in turns),
        peak_rss_bytes=most(turn.peak_rss_bytes for turn in turns),
    )


def _decode(run: Run) -> Part:
    return run.turn.decode


def _prompt(run: Run) -> Part:
    return run.turn.prompt


def _part(name: str, runs: Sequence[Run], part_of: PartOf) -> PartSummary:
    parts = [part_of(run) for run in runs if run.arm == name]
    with_memory = [part for part in parts if part.rows_read]
    return PartSummary(
        tokens_per_s=_spread(part.tokens_per_s for part in parts),
        ratio=_spread(_ratios(name, runs, part_of)),
        rows_per_s=_known(part.rows_per_s for part in with_memory),
        stall=_stall(parts),
        resident_before_bytes=_known(part.resident_before_bytes for part in parts),
        resident_after_bytes=_known(part.resident_after_bytes for part in parts),
        drive_bytes=_known(part.drive_bytes for part in parts),
        amplification=_known(part.amplification for part in parts),
        n_major_faults=_known(part.n_major_faults for part in parts),
    )


def _ratios(name: str, runs: Sequence[Run], part_of: PartOf) -> list[float]:
    reference = {
        run.repetition: part_of(run).tokens_per_s
        for run in runs
        if run.arm == NONE.name
    }
    return [
        part_of(run).tokens_per_s / reference[run.repetition]
        for run in runs
        if run.arm == name
    ]


def _floor(name: str, runs: Sequence[Run], part_of: PartOf) -> NoiseFloor:
    deviations = [abs(ratio - 1) for ratio in _ratios(name, runs, part_of)]
    return NoiseFloor(median=median(deviations), largest=max(deviations))


def _stall(parts: Sequence[Part]) -> Stall | None:
    stalls = [part.stall for part in parts if part.stall is not None]
    if not stalls:
        return None
    return Stall(
        p50_ms=median(stall.p50_ms for stall in stalls),
        p95_ms=median(stall.p95_ms for stall in stalls),
        max_ms=max(stall.max_ms for stall in stalls),
    )


def _known(values: Iterable[float | None]) -> Spread | None:
    known = [value for value in values if value is not None]
    return _spread(known) if known else None


def _spread(values: Iterable[float]) -> Spread:
    ordered = sorted(values)
    return Spread(median=median(ordered), low=ordered[0], high=ordered[-1])
