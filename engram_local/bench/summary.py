"""Runs -> medians, and ratios to the base's turn of the same repetition."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from engram_local.bench.arms import Suite
from engram_local.bench.runner import Run
from engram_local.bench.turn import Part, Turn, most

PartOf = Callable[[Turn], Part]


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
    """Of the speed to that of the base in the same repetition."""

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
    """How far the base is from itself. Smaller differences say nothing."""

    median: float
    largest: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """An arm beside the slow one: how much of the way to the base it goes."""

    arm: str
    slow: str
    gap: Spread
    """Of the base's prompt speed, what the slow arm lacks."""

    closed: Spread | None
    """Of that, what the arm does not lack, in the repetitions where the slow arm lacks
    something; None = there are none."""

    decode_ratio: Spread
    """Of the decode speed to that of the slow arm in the same repetition."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSummary:
    """Arms that were run in alternation."""

    group: str
    arms: tuple[ArmSummary, ...]
    decode_floor: NoiseFloor
    prompt_floor: NoiseFloor
    gains: tuple[Gain, ...]


def summarize_runs(runs: Sequence[Run], suite: Suite) -> list[GroupSummary]:
    """Return a summary per group: the base first, then arms in the order they ran."""
    groups = dict.fromkeys(run.group for run in runs)
    return [
        _Group(name, [run for run in runs if run.group == name], suite).summarize()
        for name in groups
    ]


class _Group:
    def __init__(self, name: str, runs: Sequence[Run], suite: Suite) -> None:
        self._name, self._suite = name, suite
        first = min(run.repetition for run in runs)
        names = dict.fromkeys([suite.base.name, suite.again.name])
        names |= dict.fromkeys(run.arm for run in runs if run.repetition == first)
        self._turns = {
            arm: {run.repetition: run.turn for run in runs if run.arm == arm}
            for arm in names
        }

    def summarize(self) -> GroupSummary:
        return GroupSummary(
            group=self._name,
            arms=tuple(map(self._arm, self._turns)),
            decode_floor=self._floor(_decode),
            prompt_floor=self._floor(_prompt),
            gains=tuple(self._gains()),
        )

    def _arm(self, name: str) -> ArmSummary:
        turns = self._turns[name].values()
        return ArmSummary(
            arm=name,
            decode=self._part(name, _decode),
            prompt=self._part(name, _prompt),
            rss_anon_bytes=most(turn.rss_anon_bytes for turn in turns),
            rss_file_bytes=most(turn.rss_file_bytes for turn in turns),
            peak_rss_bytes=most(turn.peak_rss_bytes for turn in turns),
        )

    def _part(self, name: str, part_of: PartOf) -> PartSummary:
        ratios = self._ratios(name, self._suite.base.name, part_of)
        return _summarize_parts(list(map(part_of, self._turns[name].values())), ratios)

    def _ratios(self, name: str, to: str, part_of: PartOf) -> list[float]:
        return [
            part_of(turn).tokens_per_s
            / part_of(self._turns[to][repetition]).tokens_per_s
            for repetition, turn in self._turns[name].items()
        ]

    def _floor(self, part_of: PartOf) -> NoiseFloor:
        ratios = self._ratios(self._suite.again.name, self._suite.base.name, part_of)
        deviations = [abs(ratio - 1) for ratio in ratios]
        return NoiseFloor(median=median(deviations), largest=max(deviations))

    def _gains(self) -> Iterator[Gain]:
        base, again = self._suite.base.name, self._suite.again.name
        slow = next((arm for arm in self._turns if arm in self._suite.slow), None)
        if slow is None:
            return
        lacks = [1 - ratio for ratio in self._ratios(slow, base, _prompt)]
        for arm in self._turns:
            if arm in (base, again, slow):
                continue
            ratios = self._ratios(arm, base, _prompt)
            pairs = zip(ratios, lacks, strict=True)
            yield Gain(
                arm=arm,
                slow=slow,
                gap=_spread(lacks),
                closed=_known(
                    1 - (1 - ratio) / lack for ratio, lack in pairs if lack > 0
                ),
                decode_ratio=_spread(self._ratios(arm, slow, _decode)),
            )


def _decode(turn: Turn) -> Part:
    return turn.decode


def _prompt(turn: Turn) -> Part:
    return turn.prompt


def _summarize_parts(parts: Sequence[Part], ratios: Sequence[float]) -> PartSummary:
    with_memory = [part for part in parts if part.rows_read]
    return PartSummary(
        tokens_per_s=_spread(part.tokens_per_s for part in parts),
        ratio=_spread(ratios),
        rows_per_s=_known(part.rows_per_s for part in with_memory),
        stall=_stall(parts),
        resident_before_bytes=_known(part.resident_before_bytes for part in parts),
        resident_after_bytes=_known(part.resident_after_bytes for part in parts),
        drive_bytes=_known(part.drive_bytes for part in parts),
        amplification=_known(part.amplification for part in parts),
        n_major_faults=_known(part.n_major_faults for part in parts),
    )


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
