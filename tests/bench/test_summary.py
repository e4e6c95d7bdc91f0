"""Medians, ratios of pairs, the noise floor."""

from __future__ import annotations

import pytest

from engram_local.bench.arms import ATTACHED, NATIVE
from engram_local.bench.report import _gain
from engram_local.bench.runner import Run
from engram_local.bench.summary import (
    GroupSummary,
    NoiseFloor,
    Spread,
    Stall,
    summarize_runs,
)
from engram_local.events import Timing
from tests.bench.fakes import make_part, make_turn, plain_part

NONE_S = (1.0, 2.0, 4.0)
"""Seconds of `none` for 10 tokens: the machine became slower and slower."""


def turn_of(arm: str, repetition: int, factor: float, group: str = "warm") -> Run:
    """Return a turn that takes `factor` times as long as `none` in its repetition."""
    make = plain_part if arm.startswith("none") else make_part
    decode_s = NONE_S[repetition - 1] * factor
    prompt = make(elapsed_s=decode_s / 2)
    turn = make_turn(decode=make(elapsed_s=decode_s), prompt=prompt)
    return Run(arm=arm, group=group, repetition=repetition, turn=turn)


def runs(group: str = "warm") -> list[Run]:
    """Return three repetitions of three arms, in rotated order."""
    factors = {
        "none again": (1.25, 1.0, 1.25),
        "mmap": (2.0, 2.5, 1.25),
        "none": (1.0, 1.0, 1.0),
    }
    return [
        turn_of(arm, repetition, factors[arm][repetition - 1], group)
        for repetition in (1, 2, 3)
        for arm in factors
    ]


@pytest.fixture
def group() -> GroupSummary:
    """The only group of `runs`."""
    (group,) = summarize_runs(runs(), ATTACHED)
    return group


def test_none_comes_first_then_arms_as_they_ran(group: GroupSummary) -> None:
    assert [arm.arm for arm in group.arms] == ["none", "none again", "mmap"]


def test_ratios_are_of_pairs_in_the_same_repetition(group: GroupSummary) -> None:
    ratio = group.arms[2].decode.ratio
    assert ratio == Spread(median=0.5, low=0.4, high=0.8)
    # The medians of the speeds alone would say 0.4.
    assert group.arms[0].decode.tokens_per_s.median == 5.0
    assert group.arms[2].decode.tokens_per_s == Spread(median=2.0, low=2.0, high=5.0)


def test_none_has_a_ratio_of_one_to_itself(group: GroupSummary) -> None:
    assert group.arms[0].decode.ratio == Spread(median=1.0, low=1.0, high=1.0)


def test_the_noise_floor_is_how_far_none_is_from_itself(group: GroupSummary) -> None:
    assert group.decode_floor == NoiseFloor(
        median=pytest.approx(0.2), largest=pytest.approx(0.2)
    )
    lucky = [turn_of("none again", i, 1.0) for i in (1, 2)]
    late = [*lucky, turn_of("none again", 3, 1.25)]
    none = [turn_of("none", i, 1.0) for i in (1, 2, 3)]
    (other,) = summarize_runs([*none, *late], ATTACHED)
    assert other.decode_floor == NoiseFloor(median=0.0, largest=pytest.approx(0.2))
    assert other.prompt_floor == other.decode_floor


def test_prompt_and_decode_are_apart(group: GroupSummary) -> None:
    assert group.arms[0].prompt.tokens_per_s.median == 10.0


def test_an_arm_without_a_memory_has_no_rows(group: GroupSummary) -> None:
    for part in (group.arms[0].decode, group.arms[0].prompt):
        assert part.rows_per_s is part.stall is part.amplification is None
        assert part.resident_before_bytes is None
        assert part.n_major_faults == Spread(median=0, low=0, high=0)


def test_work_of_the_memory_is_medians_and_the_longest_stall() -> None:
    stalls = (1.0, 9.0, 2.0)
    measured = [
        Run(
            arm="mmap",
            group="warm",
            repetition=i + 1,
            turn=make_turn(
                decode=make_part(
                    stall=Timing(total_ms=9, p50_ms=ms, p95_ms=10 * ms, max_ms=20 * ms),
                    drive_bytes=5440 * (i + 1),
                    n_major_faults=i,
                )
            ),
        )
        for i, ms in enumerate(stalls)
    ]
    plain = [run for run in runs() if run.arm != "mmap"]
    (group,) = summarize_runs([*plain, *measured], ATTACHED)
    part = group.arms[2].decode
    assert part.stall == Stall(p50_ms=2.0, p95_ms=20.0, max_ms=180.0)
    assert part.amplification == Spread(median=2.0, low=1.0, high=3.0)
    assert part.n_major_faults == Spread(median=1, low=0, high=2)
    assert part.rows_per_s is not None and part.rows_per_s.median == 320.0
    assert part.resident_after_bytes == Spread(median=8192, low=8192, high=8192)


def test_what_the_system_does_not_tell_is_unknown() -> None:
    hidden = make_part(drive_bytes=None, n_major_faults=None)
    unknown = make_turn(decode=hidden, rss_anon_bytes=None)
    plain = [run for run in runs() if run.arm != "mmap"]
    measured = [
        Run(arm="mmap", group="warm", repetition=i, turn=unknown) for i in (1, 2, 3)
    ]
    (group,) = summarize_runs([*plain, *measured], ATTACHED)
    arm = group.arms[2]
    assert arm.decode.drive_bytes is arm.decode.amplification is None
    assert arm.decode.n_major_faults is arm.rss_anon_bytes is None
    assert arm.prompt.drive_bytes is not None
    assert arm.rss_file_bytes == 200 << 20


def test_each_group_has_its_own_none() -> None:
    cold = [turn_of(run.arm, run.repetition, 3.0, "cold") for run in runs()]
    warm, other = summarize_runs([*runs(), *cold], ATTACHED)
    assert (warm.group, other.group) == ("warm", "cold")
    assert warm.arms[2].decode.ratio.median == 0.5
    assert other.arms[2].decode.ratio.median == 1.0


def native_runs() -> list[Run]:
    """Return a model's own table: resident, read lazily, and read ahead."""
    factors = {
        "resident": (1.0, 1.0, 1.0),
        "resident again": (1.0, 1.25, 1.0),
        "llama.cpp lazy cold": (2.0, 2.0, 4.0),
        "mmap cold": (1.25, 1.0, 1.6),
    }
    return [
        turn_of(arm, repetition, factors[arm][repetition - 1], "cold")
        for repetition in (1, 2, 3)
        for arm in factors
    ]


def test_a_gain_is_the_part_of_the_way_from_the_slow_arm_to_the_base() -> None:
    (group,) = summarize_runs(native_runs(), NATIVE)
    (gain,) = group.gains
    assert (gain.arm, gain.slow) == ("mmap cold", "llama.cpp lazy cold")
    assert gain.gap == Spread(median=0.5, low=0.5, high=0.75)
    # Speeds of 0.8, 1 and 0.625 where the slow one has 0.5, 0.5 and 0.25.
    assert gain.closed == Spread(median=pytest.approx(0.6), low=0.5, high=1.0)
    assert gain.decode_ratio == Spread(median=2.0, low=pytest.approx(1.6), high=2.5)


def with_lazy(*factors: float) -> list[Run]:
    """Return the same runs with other turns of the slow arm."""
    slow = "llama.cpp lazy cold"
    others = [run for run in native_runs() if run.arm != slow]
    turns = [turn_of(slow, i, factor, "cold") for i, factor in enumerate(factors, 1)]
    return [*others, *turns]


def test_a_gain_needs_something_that_the_slow_arm_lacks() -> None:
    (group,) = summarize_runs(with_lazy(2.0, 1.0, 0.5), NATIVE)
    (gain,) = group.gains
    assert gain.gap == Spread(median=0.0, low=-1.0, high=0.5)
    # Of the first repetition alone: a speed of 0.8 where the slow one has 0.5.
    assert gain.closed == Spread(
        median=pytest.approx(0.6), low=pytest.approx(0.6), high=pytest.approx(0.6)
    )


def test_where_the_slow_arm_lacks_nothing_the_report_says_so() -> None:
    (group,) = summarize_runs(with_lazy(1.0, 1.0, 0.5), NATIVE)
    (gain,) = group.gains
    assert gain.closed is None
    assert "of which mmap cold gains back nothing" in _gain(gain)


def test_without_a_slow_arm_nothing_is_gained(group: GroupSummary) -> None:
    assert group.gains == ()
