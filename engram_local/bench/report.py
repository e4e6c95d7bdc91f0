"""A finished bench: one structure, shown as text, as Markdown or as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from engram_local.bench.machine import Machine
from engram_local.bench.runner import Run
from engram_local.bench.summary import (
    ArmSummary,
    Gain,
    GroupSummary,
    PartSummary,
    Spread,
    Stall,
)
from engram_local.bench.tokens import Plan
from engram_local.units import MIB, escape_control, format_bytes

_UNKNOWN = "-"
_GAP = "  "


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was measured, on what, by which command."""

    machine: Machine
    command: str
    date: str
    model: str
    """Names of files, without folders."""

    memory: str
    table_bytes: int
    n_threads: int
    plan: Plan
    groups: tuple[GroupSummary, ...]
    notes: tuple[str, ...]
    """A sentence for each thing that was not measured."""

    runs: tuple[Run, ...]


def as_json(report: Report) -> dict[str, Any]:
    """Return everything, every turn included: raw numbers, None where unknown."""
    return asdict(report)


def as_text(report: Report) -> str:
    """Return tables for people, at most 100 columns wide where numbers are sane."""
    lines = [report.machine.line(), f"{report.command} ({report.date})", _work(report)]
    for group in report.groups:
        for title, rows in _tables(group):
            lines += ["", title, *_align(rows)]
        lines += ["", _floor(group), *map(_gain, group.gains)]
    lines += ["", *report.notes] if report.notes else []
    return "\n".join(map(escape_control, lines))


def as_markdown(report: Report) -> str:
    """Return the same for a document."""
    lines = [
        f"`{report.command}`, {report.date}: {report.machine.line()}; {_work(report)}."
    ]
    for group in report.groups:
        for title, rows in _tables(group):
            lines += ["", f"**{title}**", "", *_pipes(rows)]
        for sentence in (_floor(group), *map(_gain, group.gains)):
            lines += ["", f"{sentence}."]
    for note in report.notes:
        lines += ["", f"Note: {note}."]
    return "\n".join(map(escape_control, lines))


def _work(report: Report) -> str:
    plan = report.plan
    return (
        f"{report.model}, {report.memory} ({format_bytes(report.table_bytes)} of "
        f"rows), {plan.n_prompt} + {plan.n_decode} tokens, "
        f"{plan.n_repetitions} repetitions, {report.n_threads} threads"
    )


Rows = list[list[str]]
"""The first one is the head, the first cell of each is its name."""


def _tables(group: GroupSummary) -> Iterator[tuple[str, Rows]]:
    arms = group.arms
    yield f"{group.group}: median (smallest-largest)", _speeds(arms)
    with_memory = [arm for arm in arms if arm.decode.rows_per_s is not None]
    if with_memory:
        yield (
            f"{group.group}, decode: what the memory did",
            _memory([(arm.arm, arm.decode) for arm in with_memory]),
        )
        yield (
            f"{group.group}, prompt: what the memory did",
            _memory([(arm.arm, arm.prompt) for arm in with_memory]),
        )
    yield f"{group.group}: RAM of the process, at most", _process(arms)


def _speeds(arms: Sequence[ArmSummary]) -> Rows:
    head = ["arm", "decode tok/s", "ratio", "prompt tok/s", "ratio"]
    return [head] + [
        [
            arm.arm,
            _speed(arm.decode.tokens_per_s),
            _ratio(arm.decode.ratio),
            _speed(arm.prompt.tokens_per_s),
            _ratio(arm.prompt.ratio),
        ]
        for arm in arms
    ]


def _memory(parts: Sequence[tuple[str, PartSummary]]) -> Rows:
    stall = "stall p50/p95/max ms"
    head = ["arm", "rows/s", stall, "resident MiB", "from drive", "ampl.", "faults"]
    return [head] + [
        [
            name,
            _count(part.rows_per_s),
            _stall(part.stall),
            _resident(part),
            _bytes(part.drive_bytes),
            _UNKNOWN
            if part.amplification is None
            else _number(part.amplification.median, 3),
            _count(part.n_major_faults),
        ]
        for name, part in parts
    ]


def _process(arms: Sequence[ArmSummary]) -> Rows:
    head = ["arm", "anonymous", "of files", "peak of both"]
    return [head] + [
        [
            arm.arm,
            *(
                _UNKNOWN if count is None else format_bytes(count)
                for count in (
                    arm.rss_anon_bytes,
                    arm.rss_file_bytes,
                    arm.peak_rss_bytes,
                )
            ),
        ]
        for arm in arms
    ]


def _floor(group: GroupSummary) -> str:
    decode, prompt = group.decode_floor, group.prompt_floor
    base, again = group.arms[:2]
    return (
        f"noise floor, {again.arm} against {base.arm}: decode {decode.median:.3f}, at "
        f"most {decode.largest:.3f}; prompt {prompt.median:.3f}, at most "
        f"{prompt.largest:.3f}"
    )


def _gain(gain: Gain) -> str:
    closed = "nothing" if gain.closed is None else _percent(gain.closed)
    return (
        f"{gain.slow} lacks {_percent(gain.gap)} of the prompt speed, of which "
        f"{gain.arm} gains back {closed}; it decodes at "
        f"{_ratio(gain.decode_ratio)} of {gain.slow}"
    )


def _percent(spread: Spread) -> str:
    return f"{spread.median:.0%} ({spread.low:.0%} to {spread.high:.0%})"


def _speed(spread: Spread) -> str:
    low, high = _number(spread.low, 3), _number(spread.high, 3)
    return f"{_number(spread.median, 4)} ({low}-{high})"


def _ratio(spread: Spread) -> str:
    return f"{spread.median:.3f} ({spread.low:.2f}-{spread.high:.2f})"


def _stall(stall: Stall | None) -> str:
    if stall is None:
        return _UNKNOWN
    return "/".join(f"{ms:.2f}" for ms in (stall.p50_ms, stall.p95_ms, stall.max_ms))


def _resident(part: PartSummary) -> str:
    before, after = part.resident_before_bytes, part.resident_after_bytes
    if before is None or after is None:
        return _UNKNOWN
    return f"{before.median / MIB:.1f} to {after.median / MIB:.1f}"


def _bytes(spread: Spread | None) -> str:
    return _UNKNOWN if spread is None else format_bytes(int(spread.median))


def _count(spread: Spread | None) -> str:
    return _UNKNOWN if spread is None else f"{spread.median:,.0f}"


def _number(value: float, n_digits: int) -> str:
    """Return a positive number with so many digits, or all those before the point."""
    n_before = math.floor(math.log10(value)) + 1 if value > 0 else 1
    return f"{value:,.{max(0, n_digits - max(n_before, 1))}f}"


def _align(rows: Rows) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        _GAP.join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _pipes(rows: Rows) -> list[str]:
    head, *body = rows
    rule = ["---", *("---:" for _ in head[1:])]
    return [f"| {' | '.join(row)} |" for row in (head, rule, *body)]
