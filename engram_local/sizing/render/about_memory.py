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
class Place:
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
    places = places_of(model.plan, hardware)
    where = [Sentence(f"Weights: {model.verdict.where}.")] if model.plan.fits else []
    return Section(
        topic=Topic.MEMORY,
        blocks=(_table(places, model.plan), *where, Sentence(_longest(model))),
    )


def places_of(plan: Plan, hardware: Hardware) -> tuple[Place, ...]:
    """Return VRAM, if there is a GPU, RAM and the drive."""
    gpu_sources = [gpu.source for gpu in hardware.gpus]
    places = [_ram(plan, hardware), _drive(plan, hardware)]
    if gpu_sources:
        vram = Place(
            name="VRAM",
            terms=_by_name(plan.vram),
            usable_bytes=plan.usable_vram_bytes,
            usable_source=weakest(*gpu_sources),
        )
        places.insert(0, vram)
    return tuple(places)


def ram_terms_of(plan: Plan) -> tuple[Term, ...]:
    """Return what has to lie in RAM, the n-gram table included where it does."""
    if plan.tier is None or not plan.tier.resident_bytes:
        return plan.ram
    table = Term(TABLE, plan.tier.resident_bytes, plan.weights.source)
    return (*plan.ram, table)


def _ram(plan: Plan, hardware: Hardware) -> Place:
    return Place(
        name="RAM",
        terms=_by_name(ram_terms_of(plan)),
        usable_bytes=plan.usable_ram_bytes,
        usable_source=hardware.ram.source,
    )


def _drive(plan: Plan, hardware: Hardware) -> Place:
    files = Term("files", plan.weights.file_bytes, plan.weights.source)
    free_bytes = hardware.drive.free_bytes
    return Place(
        name="drive",
        terms={files.name: files},
        usable_bytes=free_bytes,
        usable_source=Source.UNKNOWN if free_bytes is None else Source.MEASURED,
    )


def _by_name(terms: tuple[Term, ...]) -> dict[str, Term]:
    return {term.name: term for term in terms}


def _table(places: tuple[Place, ...], plan: Plan) -> Table:
    names = dict.fromkeys(name for place in places for name in place.terms)
    files = names.keys() & {"files"}
    order = [name for name in names if name not in files | {TABLE}]
    order += [TABLE] if plan.weights.part(Part.TABLE) else []
    order += sorted(files)
    unit_bytes, unit = unit_of(max(place.n_bytes for place in places))
    rows = [
        (Value(name), *(_cell(place, name, plan, unit_bytes) for place in places))
        for name in order
    ]
    return Table(
        columns=(
            Column("what", is_number=False),
            *(Column(f"{place.name}, {unit}") for place in places),
        ),
        rows=(*rows, *_sums(places, plan, unit_bytes)),
        n_last=3,
    )


def _cell(place: Place, name: str, plan: Plan, unit_bytes: int) -> Value:
    term = place.terms.get(name)
    if term is not None:
        return Value(in_unit(term.n_bytes, unit_bytes), term.source)
    on_drive = plan.tier is not None and plan.tier.tier is not Tier.RAM
    if name == TABLE and place.name == "drive" and on_drive:
        return Value("read here")
    return _NOTHING


def _sums(
    places: tuple[Place, ...], plan: Plan, unit_bytes: int
) -> list[tuple[Value, ...]]:
    needed = [
        Value(in_unit(place.n_bytes, unit_bytes), place.source) for place in places
    ]
    usable = [_usable(place, unit_bytes) for place in places]
    left = [_left(place, plan, unit_bytes) for place in places]
    return [
        (Value("needed"), *needed),
        (Value("usable"), *usable),
        (Value("left"), *left),
    ]


def _usable(place: Place, unit_bytes: int) -> Value:
    if place.usable_bytes is None:
        return Value(UNKNOWN, Source.UNKNOWN)
    return Value(in_unit(place.usable_bytes, unit_bytes), place.usable_source)


def _left(place: Place, plan: Plan, unit_bytes: int) -> Value:
    if place.name == "drive" and plan.weights.source is Source.EXACT:
        return Value("is there")
    if place.usable_bytes is None:
        return Value(UNKNOWN, Source.UNKNOWN)
    source = weakest(place.source, place.usable_source)
    return Value(in_unit(place.usable_bytes - place.n_bytes, unit_bytes), source)


def _longest(model: ModelReport) -> str:
    if not model.longest_ctx:
        return "Longest context that fits: none."
    as_now = " with as much in VRAM as now" if model.plan.vram else ""
    return (
        f"Longest context that fits{as_now}: "
        f"{format_count(model.longest_ctx)} tokens (estimated), "
        f"of {format_count(model.spec.context_length)} trained."
    )
