"""What a report says about memory: what lies where, term by term."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from engram_local.figures import Source, Term, weakest
from engram_local.hardware import Hardware
from engram_local.model_spec import Part
from engram_local.sizing.plan import Plan
from engram_local.sizing.render.document import (
    Column,
    Section,
    Sentence,
    Table,
    Topic,
    Value,
)
from engram_local.sizing.render.numbers import UNKNOWN, in_unit, unit_of
from engram_local.sizing.report import ModelReport
from engram_local.sizing.request import Tier
from engram_local.units import format_count

TABLE = Part.TABLE.value
_NOTHING = Value("")


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """One memory: what lies in it, and how much it has."""

    name: str
    terms: Mapping[str, Term]
    usable_bytes: int | None
    usable_source: Source

    @property
    def n_bytes(self) -> int:
        """All that lies in it."""
        return sum(term.n_bytes for term in self.terms.values())

    @property
    def source(self) -> Source:
        """Of the sum."""
        return weakest(*(term.source for term in self.terms.values()), Source.EXACT)


def memory_section(model: ModelReport, hardware: Hardware) -> Section:
    """Return what lies in VRAM, in RAM and on the drive, and what would still fit."""
    locations = locations_of(model.plan, hardware)
    where = [Sentence(f"Weights: {model.verdict.where}.")] if model.plan.fits else []
    return Section(
        topic=Topic.MEMORY,
        blocks=(_table(locations, model.plan), *where, Sentence(_longest(model))),
    )


def locations_of(plan: Plan, hardware: Hardware) -> tuple[Location, ...]:
    """Return VRAM, if there is a GPU, RAM and the drive."""
    gpu_sources = [gpu.source for gpu in hardware.gpus]
    locations = [_ram(plan, hardware), _drive(plan, hardware)]
    if gpu_sources:
        vram = Location(
            name="VRAM",
            terms=_by_name(plan.vram),
            usable_bytes=plan.usable_vram_bytes,
            usable_source=weakest(*gpu_sources),
        )
        locations.insert(0, vram)
    return tuple(locations)


def ram_terms_of(plan: Plan) -> tuple[Term, ...]:
    """Return what has to lie in RAM, the n-gram table included where it does."""
    if plan.tier is None or not plan.tier.resident_bytes:
        return plan.ram
    table = Term(TABLE, plan.tier.resident_bytes, plan.weights.source)
    return (*plan.ram, table)


def _ram(plan: Plan, hardware: Hardware) -> Location:
    return Location(
        name="RAM",
        terms=_by_name(ram_terms_of(plan)),
        usable_bytes=plan.usable_ram_bytes,
        usable_source=hardware.ram.source,
    )


def _drive(plan: Plan, hardware: Hardware) -> Location:
    files = Term("files", plan.weights.file_bytes, plan.weights.source)
    free_bytes = hardware.drive.free_bytes
    return Location(
        name="drive",
        terms={files.name: files},
        usable_bytes=free_bytes,
        usable_source=Source.UNKNOWN if free_bytes is None else Source.MEASURED,
    )


def _by_name(terms: tuple[Term, ...]) -> dict[str, Term]:
    return {term.name: term for term in terms}


def _table(locations: tuple[Location, ...], plan: Plan) -> Table:
    names = dict.fromkeys(name for location in locations for name in location.terms)
    files = names.keys() & {"files"}
    order = [name for name in names if name not in files | {TABLE}]
    order += [TABLE] if plan.weights.part(Part.TABLE) else []
    order += sorted(files)
    unit_bytes, unit = unit_of(max(location.n_bytes for location in locations))
    rows = [
        (
            Value(name),
            *(_cell(location, name, plan, unit_bytes) for location in locations),
        )
        for name in order
    ]
    return Table(
        columns=(
            Column("what", is_number=False),
            *(Column(f"{location.name}, {unit}") for location in locations),
        ),
        rows=(*rows, *_sums(locations, plan, unit_bytes)),
        n_last=3,
    )


def _cell(location: Location, name: str, plan: Plan, unit_bytes: int) -> Value:
    term = location.terms.get(name)
    if term is not None:
        return Value(in_unit(term.n_bytes, unit_bytes), term.source)
    on_drive = plan.tier is not None and plan.tier.tier is not Tier.RAM
    if name == TABLE and location.name == "drive" and on_drive:
        return Value("read here")
    return _NOTHING


def _sums(
    locations: tuple[Location, ...], plan: Plan, unit_bytes: int
) -> list[tuple[Value, ...]]:
    needed = [
        Value(in_unit(location.n_bytes, unit_bytes), location.source)
        for location in locations
    ]
    usable = [_usable(location, unit_bytes) for location in locations]
    left = [_left(location, plan, unit_bytes) for location in locations]
    return [
        (Value("needed"), *needed),
        (Value("usable"), *usable),
        (Value("left"), *left),
    ]


def _usable(location: Location, unit_bytes: int) -> Value:
    if location.usable_bytes is None:
        return Value(UNKNOWN, Source.UNKNOWN)
    return Value(in_unit(location.usable_bytes, unit_bytes), location.usable_source)


def _left(location: Location, plan: Plan, unit_bytes: int) -> Value:
    if location.name == "drive" and plan.weights.source is Source.EXACT:
        return Value("is there")
    if location.usable_bytes is None:
        return Value(UNKNOWN, Source.UNKNOWN)
    source = weakest(location.source, location.usable_source)
    return Value(in_unit(location.usable_bytes - location.n_bytes, unit_bytes), source)


def _longest(model: ModelReport) -> str:
    if not model.longest_ctx:
        return "Longest context that fits: none."
    as_now = " with as much in VRAM as now" if model.plan.vram else ""
    return (
        f"Longest context that fits{as_now}: "
        f"{format_count(model.longest_ctx)} tokens (estimated), "
        f"of {format_count(model.spec.context_length)} trained."
    )
