"""The charts of a model's report: memory, speed by cache hits, drive reads."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from engram_local.figures import Interval, Term
from engram_local.hardware import Drive
from engram_local.model_spec import Part
from engram_local.sizing.plan import Plan
from engram_local.sizing.render.about_memory import ram_terms_of
from engram_local.sizing.render.numbers import in_unit, number, unit_of
from engram_local.sizing.render.svg import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    Label,
    Point,
    Scale,
    area,
    curve,
    decades,
    dot,
    labels,
    line,
    nice_ticks,
    svg,
    tick,
    words,
    x_axis,
    y_axis,
)
from engram_local.sizing.report import ModelReport
from engram_local.sizing.request import Tier
from engram_local.sizing.speed import Time
from engram_local.sizing.tiers import (
    MOST_IN_FLIGHT,
    Pace,
    rate_of,
    rates_at,
    reads_of_token,
)
from engram_local.units import KIB, format_count

_STYLES = {
    "weights": "c0",
    "token embedding": "c1",
    "KV cache": "c2",
    "recurrent state": "c3",
    "saved states": "c3",
    "compute buffers": "c4",
    "driver": "c5",
    "process": "c5",
    Part.TABLE.value: "c6",
}
"""Classes of the style sheet: a term has one colour in all charts."""

_OTHER_STYLE = "c7"
_MOST_HEADROOM = 3
"""A limit so many times above all that is used is told, not drawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A picture, the words above it and the sentences below it."""

    title: str
    svg: str
    caption: str


def memory_charts(model: ModelReport, name: str) -> Iterator[Chart]:
    """Yield what lies in VRAM, if anything does, and in RAM, by length of context."""
    plan = model.plan
    vram = [point.vram for point in model.curve]
    if any(vram):
        yield _memory(model, "VRAM", vram, plan.usable_vram_bytes, f"{name}-vram")
    ram = [ram_terms_of(point) for point in model.curve]
    yield _memory(model, "RAM", ram, plan.usable_ram_bytes, f"{name}-ram")


def _memory(
    model: ModelReport,
    place: str,
    stacks: Sequence[Sequence[Term]],
    usable_bytes: int,
    name: str,
) -> Chart:
    most_bytes = max(sum(term.n_bytes for term in stack) for stack in stacks)
    is_near = usable_bytes <= _MOST_HEADROOM * most_bytes
    highest = 1.08 * (max(most_bytes, usable_bytes) if is_near else most_bytes)
    unit_bytes, unit = unit_of(int(highest))
    contexts = [plan.n_ctx for plan in model.curve]
    x = Scale(contexts[0], max(contexts[-1], 2 * contexts[0]), LEFT, RIGHT, is_log=True)
    y = Scale(0, max(highest, 1) / unit_bytes, BOTTOM, TOP)
    limit = f"usable {usable_bytes / unit_bytes:,.1f}"

    def draw() -> Iterator[str]:
        ends = []
        for term, upper, lower in _layers(stacks, contexts, unit_bytes):
            style = _STYLES.get(term, _OTHER_STYLE)
            tops = [(x(n), y(top)) for n, top in upper]
            bottoms = [(x(n), y(bottom)) for n, bottom in lower]
            yield area(tops, bottoms, f"area {style}")
            if upper[-1][1] > lower[-1][1]:
                middle = (tops[-1][1] + bottoms[-1][1]) / 2
                ends.append(Label(y=middle, text=term, style=style))
        yield from y_axis(y, nice_ticks(y.high), tick, unit)
        yield from x_axis(x, _few(contexts), _short_count, "context, tokens")
        if is_near:
            at = y(usable_bytes / unit_bytes)
            yield line(LEFT, at, RIGHT, at, "limit")
            ends.append(Label(y=at, text=limit, style="limit"))
        else:
            yield words(RIGHT, TOP - 16, f"{limit}: above", "label", "end")
        yield from _mark_context(x, model.plan)
        yield from labels(ends)

    title = f"{place} by length of context"
    last = sum(term.n_bytes for term in stacks[-1])
    text = (
        f"From {in_unit(sum(t.n_bytes for t in stacks[0]), unit_bytes)} {unit} at "
        f"{format_count(contexts[0])} tokens to {in_unit(last, unit_bytes)} {unit} at "
        f"{format_count(contexts[-1])}; {limit} {unit}."
    )
    return Chart(title=title, svg=svg(title, text, name, draw()), caption=text)


def _layers(
    stacks: Sequence[Sequence[Term]], contexts: Sequence[int], unit_bytes: int
) -> Iterator[tuple[str, list[Point], list[Point]]]:
    """Yield each term with its upper and its lower line, bottom first."""
    lower = [(float(n_ctx), 0.0) for n_ctx in contexts]
    for name in dict.fromkeys(term.name for stack in stacks for term in stack):
        sizes = [
            sum(term.n_bytes for term in stack if term.name == name) for stack in stacks
        ]
        upper = [
            (n_ctx, below + n_bytes / unit_bytes)
            for (n_ctx, below), n_bytes in zip(lower, sizes, strict=True)
        ]
        yield name, upper, lower
        lower = upper


def _mark_context(x: Scale, plan: Plan) -> Iterator[str]:
    at = x(plan.n_ctx)
    yield line(at, TOP, at, BOTTOM, "here")
    anchor = "end" if at > (LEFT + RIGHT) / 2 else "start"
    shift = -5 if anchor == "end" else 5
    yield words(at + shift, TOP + 2, "as planned", "note", anchor)


def _few(contexts: Sequence[int]) -> list[int]:
    """Return at most 6 of the contexts, evenly, the last one included."""
    step = -(-len(contexts) // 6)
    return list(reversed(contexts[::-1][::step]))


def _short_count(count: float) -> str:
    return f"{count / KIB:.0f}k" if count >= KIB else f"{count:.0f}"


def speed_charts(model: ModelReport, drive: Drive, name: str) -> Iterator[Chart]:
    """Yield tokens per second of answer and prompt by the part of rows in RAM."""
    plan = model.plan
    known = plan.near.decode_per_s and plan.near.prompt_per_s
    can_read = any(tier.tier is not Tier.RAM for tier in plan.tiers) and drive.reads
    if not can_read or not known:
        return
    hits = [n / 20 for n in range(21)]
    rates = [
        rates_at(model.spec, plan.weights, _pace(plan), drive, 1 - hit) for hit in hits
    ]
    answer = [one.decode_per_s for one in rates]
    prompt = [one.prompt_per_s for one in rates]
    for kind, intervals in (("answer", answer), ("prompt", prompt)):
        yield _speed(model, kind, hits, [one for one in intervals if one], name)


def _pace(plan: Plan) -> Pace:
    """Return the seconds of a token without waiting, from the plan's speeds."""
    near = plan.near
    assert near.decode_per_s and near.prompt_per_s
    return Pace(
        decode=Time(seconds=rate_of(near.decode_per_s), bound=near.decode_bound),
        prompt=Time(seconds=rate_of(near.prompt_per_s), bound=near.prompt_bound),
    )


def _speed(
    model: ModelReport,
    kind: str,
    hits: Sequence[float],
    rates: Sequence[Interval],
    name: str,
) -> Chart:
    x = Scale(0, 100, LEFT, RIGHT)
    y = Scale(0, 1.1 * max(rate.high for rate in rates), BOTTOM, TOP)
    xs = [x(100 * hit) for hit in hits]
    values = list(zip(xs, (y(rate.value) for rate in rates), strict=True))
    highs = list(zip(xs, (y(rate.high) for rate in rates), strict=True))
    lows = list(zip(xs, (y(rate.low) for rate in rates), strict=True))
    tiers = {plan.tier: plan for plan in model.plan.tiers}
    cached_part = tiers[Tier.MMAP].cached_part
    nearest = min(range(len(hits)), key=lambda n: abs(hits[n] - cached_part))

    def draw() -> Iterator[str]:
        yield area(highs, lows, "band c2")
        yield from y_axis(y, nice_ticks(y.high), tick, "tok/s")
        yield from x_axis(
            x, (0, 25, 50, 75, 100), lambda n: f"{n:.0f} %", "rows found in RAM"
        )
        ends = [_level(y, rates[-1].value, "ram", "c6")]
        yield line(LEFT, ends[0].y, RIGHT, ends[0].y, "level c6")
        if Tier.DIRECT in tiers:
            ends.append(_level(y, rates[0].value, "direct", "c4"))
            yield line(LEFT, ends[1].y, RIGHT, ends[1].y, "level c4")
        yield curve(values, "series c2")
        yield dot(*values[nearest], "c2")
        ends.append(_level(y, rates[-1].value, "mmap", "c2"))
        yield from labels(ends)

    title = f"Speed of {kind} by part of rows found in RAM"
    text = (
        f"mmap: {number(rates[0].value)} tok/s if no row is in RAM, "
        f"{number(rates[-1].value)} if all are, as in tier ram. "
        f"Dot: what fits into RAM, {cached_part:.0%}. Band: the range."
    )
    drawn = svg(title, text, f"{name}-{kind}", draw())
    return Chart(title=title, svg=drawn, caption=text)


def _level(y: Scale, rate: float, tier: str, style: str) -> Label:
    return Label(y=y(rate), text=f"{tier} {number(rate)}", style=style)


def drive_chart(model: ModelReport, drive: Drive, name: str) -> Iterator[Chart]:
    """Yield reads per second by reads at once, with what the model needs."""
    plan = model.plan
    if not plan.tiers or not drive.reads:
        return
    needs = _needs(model)
    rates = [rate.reads_per_s.value for rate in drive.reads]
    rates += [need for _, need, _ in needs]
    if not any(rates):
        return
    deepest = max(MOST_IN_FLIGHT, *(rate.depth for rate in drive.reads))
    x = Scale(1, deepest, LEFT, RIGHT, is_log=True)
    low, high = _decades_around([rate for rate in rates if rate > 0])
    y = Scale(low, high, BOTTOM, TOP, is_log=True)

    def draw() -> Iterator[str]:
        yield from y_axis(y, decades(low, high), tick, "reads/s")
        ticks = [4**n for n in range(8) if 4**n <= deepest]
        yield from x_axis(x, ticks, tick, "reads on their way at once")
        points = [(x(one.depth), y(one.reads_per_s.value)) for one in drive.reads]
        yield curve(points, "series c0")
        yield from (dot(*point, "c0") for point in points)
        best = max(one.reads_per_s.value for one in drive.reads)
        ends = [Label(y=points[-1][1], text=f"drive {number(best)}", style="c0")]
        for kind, need, depth in needs:
            style = "c2" if kind == "answer" else "c4"
            yield line(LEFT, y(need), RIGHT, y(need), f"level {style}")
            yield dot(x(depth), y(need), f"{style} hollow")
            ends.append(Label(y=y(need), text=f"{kind} {number(need)}", style=style))
        yield from labels(ends)

    title = "Random 4 KiB reads of the drive, and what is needed"
    text = _drive_text(drive, needs)
    drawn = svg(title, text, f"{name}-drive", draw())
    yield Chart(title=title, svg=drawn, caption=text)


def _needs(model: ModelReport) -> list[tuple[str, float, float]]:
    """Return what for, reads per second, and how many of them are on their way."""
    tier, spec, weights = model.plan.tiers[0], model.spec, model.plan.weights
    reads = reads_of_token(spec, weights, in_prompt=False)
    found = (
        ("answer", tier.decode_reads_per_s, reads),
        ("prompt", tier.prompt_reads_per_s, MOST_IN_FLIGHT),
    )
    return [(kind, need, depth) for kind, need, depth in found if need is not None]


def _decades_around(rates: Sequence[float]) -> tuple[float, float]:
    return (
        10.0 ** math.floor(math.log10(min(rates))),
        10.0 ** math.ceil(math.log10(max(rates)) + 0.05),
    )


def _drive_text(drive: Drive, needs: Sequence[tuple[str, float, float]]) -> str:
    measured = (
        f"{number(one.reads_per_s.value)}/s with {one.depth} at once"
        for one in (drive.reads[0], drive.reads[-1])
    )
    needed = (f"{kind} needs {number(need)}/s" for kind, need, _ in needs)
    text = f"The drive gives {' and '.join(measured)}. If no row is in RAM: "
    return f"{text}{', '.join(needed) or 'what is needed is unknown'}."
