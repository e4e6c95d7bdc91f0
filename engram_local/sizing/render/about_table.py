"""What a report says about n-gram tables: shape, sizes, where rows may lie, waiting."""

from __future__ import annotations

from engram_local.figures import Figure, Interval, Source
from engram_local.hardware import Hardware
from engram_local.model_spec import ModelSpec, Part, Weights
from engram_local.sizing.render.document import (
    Column,
    Section,
    Table,
    Topic,
    Value,
)
from engram_local.sizing.render.numbers import (
    UNKNOWN,
    between,
    in_unit,
    number,
    unit_of,
)
from engram_local.sizing.report import ModelReport
from engram_local.sizing.tiers import (
    MOST_IN_FLIGHT,
    TierPlan,
    reads_of_token,
    reads_per_s,
)
from engram_local.units import format_count

_UNKNOWN = Value(UNKNOWN, Source.UNKNOWN)

Row = tuple[Value, ...]


def table_section(model: ModelReport, hardware: Hardware) -> Section | None:
    """Return all about a model's n-gram tables; None if it has none."""
    if not model.plan.tiers:
        return None
    shapes = [_shapes(model.spec)] if model.spec.tables else []
    return Section(
        topic=Topic.TABLE,
        blocks=(*shapes, _sizes(model.spec), _reads(model, hardware), _tiers(model)),
    )


def _shapes(spec: ModelSpec) -> Table:
    heads = ("layer", "rows", "width", "n-grams", "heads", "rows per token")
    rows = tuple(
        (
            Value(str(table.layer_id)),
            Value(format_count(table.n_rows), spec.source),
            Value(format_count(table.width), spec.source),
            Value(" ".join(map(str, table.orders)), spec.source),
            Value(format_count(table.n_heads), spec.source),
            Value(format_count(table.rows_per_token), spec.source),
        )
        for table in spec.tables
    )
    return Table(title="Tables", columns=_columns(heads), rows=rows)


def _columns(titles: tuple[str, ...]) -> tuple[Column, ...]:
    first, *others = titles
    return (Column(first, is_number=False), *map(Column, others))


def _sizes(spec: ModelSpec) -> Table:
    largest = max(weights.part(Part.TABLE) for weights in spec.weights)
    unit_bytes, unit = unit_of(largest)
    heads = ("weights", "row, bytes", f"table, {unit}", f"other, {unit}")
    return Table(
        title="Size in each of the known weights",
        columns=_columns(heads),
        rows=tuple(_size_row(spec, weights, unit_bytes) for weights in spec.weights),
    )


def _size_row(spec: ModelSpec, weights: Weights, unit_bytes: int) -> Row:
    n_bytes, row_bytes = weights.part(Part.TABLE), weights.table_row_bytes
    # Rows times the bytes of a row, whatever is known of the other parts.
    source = spec.source if row_bytes else weights.source
    row = Value(format_count(row_bytes), source) if row_bytes else _UNKNOWN
    other = sum(weights.parts.values()) - n_bytes
    return (
        Value(weights.name),
        row,
        Value(in_unit(n_bytes, unit_bytes), source),
        Value(in_unit(other, unit_bytes), weights.source),
    )


def _reads(model: ModelReport, hardware: Hardware) -> Table:
    """Return what the drive has to do if no row is in RAM, and what it can do."""
    spec, weights = model.spec, model.plan.weights
    decode = reads_of_token(spec, weights, in_prompt=False)
    prompt = reads_of_token(spec, weights, in_prompt=True)
    tier = model.plan.tiers[0]
    drive = hardware.drive
    return Table(
        title="Drive reads of 4 KiB if no row is in RAM",
        columns=_columns(("", "answer", "prompt")),
        rows=(
            (
                Value("reads per token"),
                Value(number(decode), Source.ESTIMATED),
                Value(number(prompt), Source.ESTIMATED),
            ),
            (
                Value("reads/s needed at the predicted speed"),
                _rate(tier.decode_reads_per_s),
                _rate(tier.prompt_reads_per_s),
            ),
            (
                Value("reads that are on their way at once"),
                Value(number(decode), Source.ESTIMATED),
                Value(number(MOST_IN_FLIGHT), Source.ESTIMATED),
            ),
            (
                Value("reads/s the drive gives then"),
                _figure(reads_per_s(drive, decode)),
                _figure(reads_per_s(drive, MOST_IN_FLIGHT)),
            ),
        ),
    )


def _rate(rate: float | None) -> Value:
    return _UNKNOWN if rate is None else Value(number(rate), Source.ESTIMATED)


def _figure(figure: Figure | None) -> Value:
    return _UNKNOWN if figure is None else Value(number(figure.value), figure.source)


def _tiers(model: ModelReport) -> Table:
    tiers = model.plan.tiers
    chosen = model.plan.tier.tier if model.plan.tier else None
    unit_bytes, unit = unit_of(model.plan.weights.part(Part.TABLE))
    source = model.plan.weights.source
    names = (f"{plan.tier}{' (taken)' * (plan.tier is chosen)}" for plan in tiers)
    lines = {
        "fits": [Value("yes" if plan.fits else "no") for plan in tiers],
        f"RAM it must have, {unit}": [
            Value(in_unit(plan.resident_bytes, unit_bytes), source) for plan in tiers
        ],
        "part that RAM can keep": [
            Value(f"{plan.cached_part:.0%}", Source.ESTIMATED) for plan in tiers
        ],
        "waiting per token, ms": [_wait(plan) for plan in tiers],
        "answer, tok/s": [interval_value(plan.decode_per_s) for plan in tiers],
        "prompt, tok/s": [interval_value(plan.prompt_per_s) for plan in tiers],
        "answer limited by": [bound_value(plan.decode_bound) for plan in tiers],
        "prompt limited by": [bound_value(plan.prompt_bound) for plan in tiers],
    }
    return Table(
        title="Where its rows may lie",
        columns=_columns(("", *names)),
        rows=tuple((Value(name), *values) for name, values in lines.items()),
    )


def _wait(plan: TierPlan) -> Value:
    stall = plan.stall_s
    if stall is None:
        return _UNKNOWN
    low, value, high = (1e3 * s for s in (stall.low, stall.value, stall.high))
    return interval_value(Interval(low, value, high, stall.source))


def interval_value(interval: Interval | None) -> Value:
    """Return `36 (15 to 51)`, or unknown."""
    return _UNKNOWN if interval is None else Value(between(interval), interval.source)


def bound_value(bound: str) -> Value:
    """Return what limits a speed, or unknown."""
    return Value(bound, Source.UNKNOWN if bound == UNKNOWN else None)
