"""The n-gram table: where its rows may lie, and what waiting for them costs.

    reads of a token = rows * blocks of a row, of those that are not in RAM
    decode    t = compute + max(0, gather - overlap)
    prompt    t = max(compute, reads / reads per s) + first where we read ahead,
              t = compute + reads / reads per s     where others run the model

llama.cpp 0.3.36 queues the rows of a batch right before its graph, so nothing is
computed while they are read (src/llama-impl.cpp, llama_prefetch_rows). Of a model's own
table that is left for the first batch of a prompt (`first`), which nothing is ahead of.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from engram_local.figures import Figure, Interval, Source, weakest
from engram_local.hardware import DepthRate, Drive
from engram_local.model_spec import ModelSpec, Part, TableShape, Weights
from engram_local.sizing.request import Tier
from engram_local.sizing.speed import Time, longer, sum_of
from engram_local.units import KIB

BLOCK_BYTES = 4 * KIB
"""What a drive and a page cache read at least."""

_UNIQUE = {1: 0.35, 2: 0.80, 3: 0.945, 4: 0.983}
"""Part of the n-grams of 2,048 tokens of English prose that differ, by length: the
book pages of models/eval/general.txt in the default model's tokens."""

MOST_IN_FLIGHT = 64
"""Reads that a prompt keeps on their way at once."""

_FIRST_PART = 512 / 2048
"""Of the rows of a prompt of 2,048 tokens, those of the first batch."""

_GROWTH = 0.7
"""Exponent of a drive's rate over its depth: 19,000 at 1 and 600,000 at 128."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TierPlan:
    """One tier: does it fit, and how fast is it. Rates are None if unknown."""

    tier: Tier
    fits: bool
    resident_bytes: int
    """RAM that it must have."""

    cached_part: float
    """Of the table, what can stay in RAM."""

    decode_reads_per_s: float | None
    """Drive reads it needs at the predicted speed if no row is in RAM."""

    prompt_reads_per_s: float | None
    stall_s: Interval | None
    """Waiting of one generated token; `low`: all its rows are in RAM, `high`: none."""

    decode_per_s: Interval | None
    """Tokens per second; `low` is the slowest."""

    prompt_per_s: Interval | None
    decode_bound: str
    prompt_bound: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """What a model's computation takes per token; None if no speed is known."""

    decode: Time | None
    prompt: Time | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Tokens per second at one part of rows that are not in RAM; None if unknown."""

    decode_per_s: Interval | None
    prompt_per_s: Interval | None


def rates_at(
    spec: ModelSpec, weights: Weights, pace: Pace, drive: Drive, missing_part: float
) -> Rates:
    """Return the speed if this part of all rows, 0 to 1, comes from the drive."""
    waits = _Waits(spec, weights, pace, drive, (missing_part,) * 3)
    return Rates(decode_per_s=waits.decode_per_s(), prompt_per_s=waits.prompt_per_s())


def reads_of_token(spec: ModelSpec, weights: Weights, *, in_prompt: bool) -> float:
    """Return the drive reads for one token's rows if none is in RAM.

    A row of b bytes at any offset touches 1 + (b - 1) / 4096 blocks on average. Within
    a prompt an n-gram that was there before is not read again.
    """
    per_row = 1 + max(weights.table_row_bytes - 1, 0) / BLOCK_BYTES
    rows = (_rows_of(table, in_prompt=in_prompt) for table in spec.tables)
    return sum(rows) * per_row


def _rows_of(table: TableShape, *, in_prompt: bool) -> float:
    if not in_prompt:
        return table.rows_per_token
    unique = [_UNIQUE.get(order, 1.0) for order in table.orders]
    return table.rows_per_token * sum(unique) / max(len(unique), 1)


def plan_tiers(
    spec: ModelSpec,
    weights: Weights,
    pace: Pace,
    drive: Drive,
    spare_bytes: int,
    *,
    maps_files: bool = True,
) -> tuple[TierPlan, ...]:
    """Return a plan for each tier of this model; empty if it has no table.

    spare_bytes: RAM that is left when all else has been allocated. maps_files: whether
    llama.cpp maps a table of the model's own; if not, it reads all of it into RAM.
    """
    table_bytes = weights.part(Part.TABLE)
    if not table_bytes:
        return ()
    tiers = [Tier.RAM]
    if maps_files or spec.attached:
        tiers.append(Tier.MMAP)
    if spec.attached:
        tiers.append(Tier.DIRECT)
    part = min(max(spare_bytes, 0) / table_bytes, 1.0)
    missing = {
        Tier.RAM: (0.0, 0.0, 0.0),
        Tier.MMAP: (0.0, 1.0 - part, 1.0),
        Tier.DIRECT: (1.0, 1.0, 1.0),
    }
    plans = []
    for tier in tiers:
        resident_bytes = table_bytes if tier is Tier.RAM else 0
        waits = _Waits(spec, weights, pace, drive, missing[tier])
        plans.append(
            TierPlan(
                tier=tier,
                fits=resident_bytes <= spare_bytes or tier is not Tier.RAM,
                resident_bytes=resident_bytes,
                cached_part=0.0 if tier is Tier.DIRECT else part,
                decode_reads_per_s=waits.need(pace.decode, in_prompt=False),
                prompt_reads_per_s=waits.need(pace.prompt, in_prompt=True),
                stall_s=waits.stall(),
                decode_per_s=waits.decode_per_s(),
                prompt_per_s=waits.prompt_per_s(),
                decode_bound=waits.decode_bound(),
                prompt_bound=waits.prompt_bound(),
            )
        )
    return tuple(plans)


class _Waits:
    """The waiting of one tier: how many rows are not in RAM, and how fast they come."""

    def __init__(
        self,
        spec: ModelSpec,
        weights: Weights,
        pace: Pace,
        drive: Drive,
        missing: tuple[float, float, float],
    ) -> None:
        self._spec = spec
        self._pace = pace
        self._drive = drive
        self._missing = missing
        self._decode_reads = reads_of_token(spec, weights, in_prompt=False)
        self._prompt_reads = reads_of_token(spec, weights, in_prompt=True)

    def need(self, time: Time | None, *, in_prompt: bool) -> float | None:
        """Return reads per second at the pace of the computation, nothing cached."""
        if time is None:
            return None
        reads = self._prompt_reads if in_prompt else self._decode_reads
        return reads / time.seconds.value

    def stall(self) -> Interval | None:
        """Return how long a generated token waits."""
        stall = self._stall()
        if stall is None:
            return None
        waits = (stall.low, stall.value, stall.high)
        return replace(stall, low=min(waits), high=max(waits))

    def _stall(self) -> Interval | None:
        """Return the waiting beside the shortest, the likely and the longest step.

        The shortest step hides the least of it, so that `low` may be more than `high`.
        """
        gather = self._gather(self._decode_reads, self._decode_reads)
        if gather is None or self._pace.decode is None:
            return None
        time = self._pace.decode.seconds
        overlap = self._overlap_part()
        return Interval(
            max(0.0, gather.low - overlap * time.low),
            max(0.0, gather.value - overlap * time.value),
            max(0.0, gather.high - overlap * time.high),
            weakest(gather.source, time.source),
        )

    def decode_per_s(self) -> Interval | None:
        stall, time = self._stall(), self._pace.decode
        if stall is None or time is None:
            return None
        return rate_of(sum_of(time.seconds, stall))

    def prompt_per_s(self) -> Interval | None:
        reading, time = self._prompt_reading(), self._pace.prompt
        if reading is None or time is None:
            return None
        if not self._spec.attached and not self._spec.runs_here:
            return rate_of(sum_of(time.seconds, reading))
        seconds = longer(time.seconds, reading)
        first = self._first_reading()
        return rate_of(seconds if first is None else sum_of(seconds, first))

    def decode_bound(self) -> str:
        stall, time = self.stall(), self._pace.decode
        if stall is None or time is None:
            return "unknown"
        return "drive reads" if stall.value > time.seconds.value else time.bound

    def prompt_bound(self) -> str:
        reading, time = self._prompt_reading(), self._pace.prompt
        if reading is None or time is None:
            return "unknown"
        return "drive reads" if reading.value > time.seconds.value else time.bound

    def _prompt_reading(self) -> Interval | None:
        return self._gather(self._prompt_reads, MOST_IN_FLIGHT)

    def _first_reading(self) -> Interval | None:
        """Return the part of a prompt's reading that nothing is computed beside."""
        if self._spec.attached:
            return None
        return self._gather(_FIRST_PART * self._prompt_reads, MOST_IN_FLIGHT)

    def _gather(self, reads: float, in_flight: float) -> Interval | None:
        """Return the seconds for `reads`, of which so many are on their way at once."""
        if not any(self._missing):
            return Interval(0.0, 0.0, 0.0, Source.EXACT)
        rate = reads_per_s(self._drive, in_flight)
        if rate is None:
            return None
        low, value, high = (part * reads / rate.value for part in self._missing)
        return Interval(low, value, high, weakest(rate.source, Source.ESTIMATED))

    def _overlap_part(self) -> float:
        """Return the part of a step that is computed before the first rows are due."""
        if not self._spec.attached:
            return 0.0
        return min(t.layer_id for t in self._spec.tables) / self._spec.n_layers


def reads_per_s(drive: Drive, in_flight: float) -> Figure | None:
    """Return the random reads per second with so many in flight; None = unknown.

    Between two known depths it grows as a power of the depth, as drives do until they
    are busy; beyond the greatest not at all.
    """
    if not drive.reads:
        return None
    depth = max(in_flight, 1.0)
    below = [rate for rate in drive.reads if rate.depth <= depth]
    above = [rate for rate in drive.reads if rate.depth >= depth]
    if not above or (below and below[-1].depth == depth):
        return below[-1].reads_per_s
    least = above[0]
    if not below:
        part = (depth / least.depth) ** _GROWTH
        return Figure(least.reads_per_s.value * part, Source.ESTIMATED)
    return _between(below[-1], least, depth)


def _between(low: DepthRate, high: DepthRate, depth: float) -> Figure:
    ratio = high.reads_per_s.value / low.reads_per_s.value
    part = math.log(depth / low.depth) / math.log(high.depth / low.depth)
    source = weakest(low.reads_per_s.source, high.reads_per_s.source)
    return Figure(low.reads_per_s.value * ratio**part, source)


def rate_of(seconds: Interval) -> Interval:
    """Return tokens per second for the seconds of one."""
    return Interval(
        1 / seconds.high, 1 / seconds.value, 1 / seconds.low, seconds.source
    )
