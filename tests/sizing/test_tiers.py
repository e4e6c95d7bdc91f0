"""What waiting for rows costs, by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engram_local.figures import Figure, Interval, Source
from engram_local.hardware import DepthRate, Drive
from engram_local.model_spec import ModelSpec
from engram_local.sizing.request import Tier
from engram_local.sizing.speed import Time
from engram_local.sizing.tiers import (
    Pace,
    TierPlan,
    plan_tiers,
    reads_of_token,
    reads_per_s,
)
from tests.sizing.samples import DENSE, MOE, NVME, SMALL, UNKNOWN_DRIVE

TABLE = 320_001_536 * 90
PACE = Pace(
    decode=Time(seconds=Interval(0.02, 0.025, 0.05, Source.MEASURED), bound="RAM"),
    prompt=Time(seconds=Interval(8e-4, 1e-3, 2e-3, Source.MEASURED), bound="GPU"),
)
PACE_PROMPT_S = 1e-3


def drive(**rates: float) -> Drive:
    reads = tuple(
        DepthRate(depth=int(depth[1:]), reads_per_s=Figure(rate, Source.MEASURED))
        for depth, rate in rates.items()
    )
    return replace(NVME, reads=reads)


def tiers(
    spec: ModelSpec, pace: Pace, where: Drive, spare: int
) -> dict[Tier, TierPlan]:
    plans = plan_tiers(spec, spec.weights[0], pace, where, spare)
    return {plan.tier: plan for plan in plans}


def test_a_model_without_table_has_no_tiers() -> None:
    assert plan_tiers(DENSE, DENSE.weights[0], PACE, NVME, 10**12) == ()


def test_reads_of_a_token() -> None:
    weights = MOE.weights[0]  # 16 rows of 90 bytes, of which few cross a block
    crossing = 1 + 89 / 4096
    assert reads_of_token(MOE, weights, in_prompt=False) == pytest.approx(16 * crossing)
    assert reads_of_token(MOE, weights, in_prompt=True) == pytest.approx(
        16 * crossing * (0.80 + 0.945) / 2
    )
    wide = replace(weights, table_row_bytes=7392)  # Gemma's
    assert reads_of_token(MOE, wide, in_prompt=False) == pytest.approx(
        16 * (1 + 7391 / 4096)
    )


def test_a_table_in_ram_never_waits() -> None:
    plan = tiers(MOE, PACE, drive(d64=100e3), TABLE)[Tier.RAM]
    assert plan.fits and plan.resident_bytes == TABLE
    assert plan.stall_s is not None and plan.stall_s.high == 0
    assert plan.decode_per_s is not None and plan.decode_per_s.value == 40
    assert plan.prompt_per_s is not None and plan.prompt_per_s.value == 1000


def test_a_table_that_ram_does_not_hold() -> None:
    plans = tiers(MOE, PACE, drive(d64=100e3), TABLE - 1)
    assert not plans[Tier.RAM].fits
    assert plans[Tier.MMAP].fits and plans[Tier.MMAP].resident_bytes == 0


def test_a_mapped_table_waits_for_what_is_not_in_ram() -> None:
    plan = tiers(MOE, PACE, drive(d16=16e3, d64=64e3), TABLE // 4)[Tier.MMAP]
    assert plan.cached_part == pytest.approx(0.25)
    reads = 16 * (1 + 89 / 4096)
    assert plan.stall_s is not None
    rate = 16e3  # 16.3 in flight: hardly above depth 16
    assert plan.stall_s.high == pytest.approx(reads / rate, rel=0.05)
    assert plan.stall_s.value == pytest.approx(0.75 * plan.stall_s.high)
    assert plan.stall_s.low == 0
    assert plan.decode_per_s is not None
    assert plan.decode_per_s.value == pytest.approx(1 / (0.025 + plan.stall_s.value))
    assert plan.decode_reads_per_s == pytest.approx(reads / 0.025)


def test_rows_of_a_prompt_are_read_before_or_while_it_is_computed() -> None:
    reading = reads_of_token(MOE, MOE.weights[0], in_prompt=True) / 10e3

    def seconds(spec: ModelSpec) -> float:
        plan = tiers(spec, PACE, drive(d64=10e3), 0)[Tier.MMAP]
        assert plan.prompt_bound == "drive reads"
        assert plan.prompt_per_s is not None
        return 1 / plan.prompt_per_s.value

    assert reading > PACE_PROMPT_S
    assert seconds(replace(MOE, runs_here=False)) == pytest.approx(
        PACE_PROMPT_S + reading
    )
    assert seconds(MOE) == pytest.approx(reading + reading / 4)  # the first batch
    assert seconds(replace(MOE, attached=True)) == pytest.approx(reading)


def test_a_later_layer_leaves_time_to_read() -> None:
    where = drive(d1=5e3)
    plan = tiers(SMALL, PACE, where, 0)[Tier.DIRECT]
    reads = reads_of_token(SMALL, SMALL.weights[0], in_prompt=False)
    assert plan.stall_s is not None
    # The first table is at layer 2 of 30: one fifteenth of a step is computed before.
    assert plan.stall_s.value == pytest.approx(reads / 5e3 - 0.025 * 2 / 30)
    late = replace(SMALL, tables=tuple(replace(t, layer_id=29) for t in SMALL.tables))
    assert tiers(late, PACE, where, 0)[Tier.DIRECT].stall_s.value == 0  # type: ignore[union-attr]


def test_only_attached_tables_are_read_past_the_page_cache() -> None:
    assert Tier.DIRECT not in tiers(MOE, PACE, NVME, 0)
    assert Tier.DIRECT in tiers(SMALL, PACE, NVME, 0)


def test_what_is_not_known_is_not_guessed() -> None:
    slow = tiers(MOE, PACE, UNKNOWN_DRIVE, 0)
    assert slow[Tier.MMAP].stall_s is None
    assert slow[Tier.MMAP].decode_per_s is None
    assert slow[Tier.MMAP].prompt_bound == "unknown"
    assert slow[Tier.RAM].decode_per_s is not None
    nothing = tiers(MOE, Pace(decode=None, prompt=None), NVME, TABLE)
    assert nothing[Tier.RAM].decode_per_s is None
    assert nothing[Tier.RAM].decode_reads_per_s is None


@pytest.mark.parametrize(
    ("in_flight", "expected"),
    [(1, 10e3), (4, 20e3), (16, 40e3), (64, 40e3), (1000, 40e3)],
)
def test_a_drive_between_and_beyond_its_depths(
    in_flight: float, expected: float
) -> None:
    rate = reads_per_s(drive(d1=10e3, d16=40e3), in_flight)
    assert rate is not None
    assert rate.value == pytest.approx(expected)


def test_a_drive_below_its_least_depth_is_slower() -> None:
    rate = reads_per_s(drive(d32=100e3), 16)
    assert rate is not None
    assert 50e3 < rate.value < 100e3
    assert rate.source is Source.ESTIMATED


def test_the_interval_of_waiting_is_in_order() -> None:
    """A fast step hides less: the longest waiting is beside the shortest step."""
    table = replace(MOE.tables[0], layer_id=14)
    spec = replace(MOE, attached=True, tables=(table,))
    plan = tiers(spec, PACE, drive(d1=1000, d64=1000), 0)[Tier.DIRECT]
    stall, rate = plan.stall_s, plan.decode_per_s
    assert stall is not None and rate is not None
    gather = reads_of_token(spec, spec.weights[0], in_prompt=False) / 1000
    assert stall.low == pytest.approx(max(0, gather - 0.05 * 14 / 48))
    assert stall.high == pytest.approx(gather - 0.02 * 14 / 48)
    assert stall.low < stall.value < stall.high
    assert 1 / rate.high == pytest.approx(0.02 + stall.high)
    assert 1 / rate.low == pytest.approx(0.05 + stall.low)
