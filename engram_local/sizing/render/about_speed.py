"""What a report says about speed, now and with other weights, contexts and GPUs."""

from __future__ import annotations

from itertools import groupby

from engram_local.figures import Interval, Source
from engram_local.hardware import Hardware
from engram_local.sizing.choice import Place
from engram_local.sizing.grid import Cell
from engram_local.sizing.plan import Plan
from engram_local.sizing.render.about_table import bound_value, interval_value
from engram_local.sizing.render.document import (
    Block,
    Column,
    Section,
    Sentence,
    Table,
    Topic,
    Value,
)
from engram_local.sizing.render.numbers import UNKNOWN, in_unit, span, unit_of
from engram_local.sizing.report import ModelReport
from engram_local.units import format_count

PLACES = {
    Place.EXPERTS_IN_RAM: "experts out",
    Place.LAYERS_IN_RAM: "layers out",
    Place.NOWHERE: "no fit",
}
"""Of the weights; short, for a column."""

_CUT = (Place.EXPERTS_IN_RAM, Place.LAYERS_IN_RAM)
_CUT_NOTE = "Experts out, layers out: some of them do not fit into VRAM and lie in RAM."

Row = tuple[Value, ...]


def speed_section(model: ModelReport) -> Section:
    """Return the speeds near the start of a conversation and with a full context."""
    plan = model.plan
    near, far = plan.near, plan.far
    columns = (
        Column("", is_number=False),
        *(Column(f"after {format_count(speed.depth)} tokens") for speed in (near, far)),
    )
    rows = (
        _line("answer, tok/s", *(interval_value(s.decode_per_s) for s in (near, far))),
        _line("prompt, tok/s", *(interval_value(s.prompt_per_s) for s in (near, far))),
        _line("answer limited by", *(bound_value(s.decode_bound) for s in (near, far))),
        _line("prompt limited by", *(bound_value(s.prompt_bound) for s in (near, far))),
    )
    blocks: list[Block] = [Table(columns=columns, rows=rows)]
    if plan.tier is not None:
        blocks.append(Sentence("Without waiting for rows of the n-gram table."))
    if not plan.fits:
        blocks.append(
            Sentence("It does not fit: this is how fast it would be if it did.")
        )
    return Section(topic=Topic.SPEED, blocks=tuple(blocks))


def _line(name: str, *values: Value) -> Row:
    return (Value(name), *values)


def what_if_section(model: ModelReport) -> Section | None:
    """Return the grid, a table for each computer and set of weights.

    Of the tiers of an n-gram table only the one that the plan takes: how they differ
    stands in the section on the table, and all of them in CSV and JSON.
    """
    taken = model.plan.tier.tier if model.plan.tier else None
    cells_taken = (cell for cell in model.grid if cell.tier in (taken, None))
    groups = groupby(cells_taken, key=lambda cell: (cell.gpu, cell.weights))
    blocks = [
        _grid(f"{weights}, {gpu or 'this computer'}", list(cells))
        for (gpu, weights), cells in groups
    ]
    if not blocks:
        return None
    is_cut = any(cell.place in _CUT for cell in model.grid)
    notes = [Sentence(_CUT_NOTE)] if is_cut else []
    return Section(topic=Topic.WHAT_IF, blocks=(*blocks, *notes))


def _grid(name: str, cells: list[Cell]) -> Block:
    unit_bytes, unit = unit_of(max(max(c.vram_bytes, c.ram_bytes) for c in cells))
    if not any(cell.fits for cell in cells):
        least = min(cells, key=lambda cell: (cell.n_ctx, cell.ram_bytes))
        return Sentence(_lack(name, least, unit_bytes, unit))
    has_tiers = any(cell.tier is not None for cell in cells)
    texts = ["context", *(["table"] if has_tiers else []), "where"]
    rows = (_grid_row(cell, unit_bytes) for cell in cells)
    longest = format_count(max(cell.longest_ctx for cell in cells))
    return Table(
        title=f"{name}: placed like this up to {longest} tokens ({unit}, tok/s)",
        columns=(
            *(Column(title, is_number=False) for title in texts),
            *map(Column, ("VRAM", "RAM", "answer/s", "prompt/s")),
        ),
        rows=tuple(rows),
    )


def _lack(name: str, cell: Cell, unit_bytes: int, unit: str) -> str:
    """Return what the shortest context would need at least, where nothing fits."""
    vram, ram = (in_unit(n, unit_bytes) for n in (cell.vram_bytes, cell.ram_bytes))
    vram_too = f"{vram} {unit} of VRAM and " if cell.vram_bytes else ""
    return (
        f"{name}: does not fit; {format_count(cell.n_ctx)} tokens need "
        f"{vram_too}{ram} {unit} of RAM (estimated)."
    )


def _grid_row(cell: Cell, unit_bytes: int) -> Row:
    tier = [Value(cell.tier)] if cell.tier is not None else []
    return (
        Value(format_count(cell.n_ctx)),
        *tier,
        Value(_where(cell)),
        Value(in_unit(cell.vram_bytes, unit_bytes), Source.ESTIMATED),
        Value(in_unit(cell.ram_bytes, unit_bytes), Source.ESTIMATED),
        _span(cell.decode_per_s, cell),
        _span(cell.prompt_per_s, cell),
    )


def _span(interval: Interval | None, place: Cell | Plan) -> Value:
    if not place.fits:
        return Value("-")
    if interval is None:
        return Value(UNKNOWN, Source.UNKNOWN)
    return Value(span(interval), interval.source)


def _where(cell: Cell) -> str:
    return PLACES.get(cell.place, "in VRAM" if cell.vram_bytes else "in RAM")


def key_values(
    model: ModelReport, hardware: Hardware, unit_bytes: int, unit: str
) -> tuple[tuple[str, Value], ...]:
    """Return the numbers that most people came for, by name."""
    plan = model.plan
    vram, ram = (in_unit(n, unit_bytes) for n in (plan.vram_bytes, plan.ram_bytes))
    on_gpu = [(f"VRAM, {unit}", Value(vram, Source.ESTIMATED))]
    return (
        ("answer, tok/s", _span(plan.decode_per_s, plan)),
        ("prompt, tok/s", _span(plan.prompt_per_s, plan)),
        *(on_gpu if hardware.gpus else []),
        (f"RAM, {unit}", Value(ram, Source.ESTIMATED)),
        (
            "longest, placed so",
            Value(format_count(model.longest_ctx), Source.ESTIMATED),
        ),
    )
