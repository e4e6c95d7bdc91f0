"""The first line of a report: does it fit, what binds, and what would change that."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, NamedTuple

from engram_local.hardware import Gpu, Hardware
from engram_local.model_spec import ModelSpec, Part
from engram_local.sizing.allocations import ngl_of
from engram_local.sizing.choice import Place, choose_plan, place_of
from engram_local.sizing.plan import Plan, is_unified, longest_context, make_plan
from engram_local.sizing.request import Request, Tier
from engram_local.units import GIB, format_bytes, format_count

_SLOW_PER_S = 10.0
"""Tokens; slower than people read."""

_LEAST_CONTEXT = 2048
"""Tokens; a shorter context is nothing to propose."""

_RAM_SIZES_GIB = (8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
_VRAM_SIZES_GIB = (6, 8, 10, 12, 16, 20, 24, 32, 48, 80, 96)


class Outcome(StrEnum):
    """The three answers."""

    FITS = "fits"
    FITS_ON_DRIVE = "fits with the table on the drive"
    DOES_NOT_FIT = "does not fit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The answer, what limits it, and the cheapest change that would lift the limit."""

    outcome: Outcome
    where: str
    """Where the weights lie: "all of it in VRAM"."""

    binding: str
    """What is missing if it does not fit, else what limits the speed."""

    change: str | None
    """None = there is nothing to gain, or no change that was tried helps."""


def judge(spec: ModelSpec, plan: Plan, request: Request, hardware: Hardware) -> Verdict:
    """Return the verdict over a plan."""
    return Verdict(
        outcome=_outcome(plan),
        where=_where(spec, plan, hardware),
        binding=_binding(plan),
        change=_change(spec, plan, request, hardware),
    )


def _outcome(plan: Plan) -> Outcome:
    if not plan.fits or plan.missing_disk_bytes:
        return Outcome.DOES_NOT_FIT
    if plan.tier is None or holds_table(plan):
        return Outcome.FITS
    return Outcome.FITS_ON_DRIVE


def holds_table(plan: Plan) -> bool:
    """Return whether all rows can stay in RAM once they were read."""
    tier = plan.tier
    if tier is None or tier.tier is Tier.DIRECT:
        return False
    return tier.tier is Tier.RAM or tier.cached_part == 1.0


def _where(spec: ModelSpec, plan: Plan, hardware: Hardware) -> str:
    place = place_of(spec, plan, hardware)
    n_on_gpu = max(plan.placement.n_gpu_layers - 1, 0)
    if place is Place.NOWHERE:
        return "nowhere"
    if not hardware.gpus or plan.placement.n_gpu_layers == 0:
        return "all of it in RAM, computed by the processor"
    if place is Place.ALL:
        return "all layers in VRAM"
    if place is Place.EXPERTS_IN_RAM:
        n_experts = plan.placement.n_cpu_experts
        return (
            f"in VRAM, but the experts of {n_experts} of {spec.n_layers} layers in RAM"
        )
    return f"{n_on_gpu} of {spec.n_layers} layers in VRAM, the others in RAM"


def _binding(plan: Plan) -> str:
    if plan.missing_ram_bytes:
        return f"{format_bytes(plan.missing_ram_bytes)} more RAM"
    if plan.missing_disk_bytes:
        return f"{format_bytes(plan.missing_disk_bytes)} more space on the drive"
    if plan.missing_vram_bytes:
        return f"{format_bytes(plan.missing_vram_bytes)} more VRAM"
    return plan.tier.decode_bound if plan.tier else plan.near.decode_bound


class _Change(NamedTuple):
    """Something that helps."""

    text: str
    plan: Plan
    """With it."""


def _change(
    spec: ModelSpec, plan: Plan, request: Request, hardware: Hardware
) -> str | None:
    """Return the first change that helps; what costs nothing comes first."""
    if plan.fits and plan.missing_disk_bytes:
        return _more_space(plan)
    change = next(_changes(spec, plan, request, hardware), None)
    if change is None or not change.plan.missing_disk_bytes:
        return change and change.text
    return f"{change.text}, with {_more_space(change.plan)}"


def _more_space(plan: Plan) -> str:
    return f"{format_bytes(plan.missing_disk_bytes)} more space on the drive"


def _changes(
    spec: ModelSpec, plan: Plan, request: Request, hardware: Hardware
) -> Iterator[_Change]:
    place = place_of(spec, plan, hardware)
    if place is Place.NOWHERE:
        yield from _free_changes(spec, plan, request, hardware)
        yield from _bought_changes(spec, request, hardware, Place.LAYERS_IN_RAM)
    elif _outcome(plan) is Outcome.FITS_ON_DRIVE:
        yield from _ram_for_table(spec, plan, request, hardware)
    elif place > Place.ALL:
        yield from _other_layers(spec, request, hardware, Place(place - 1))
        same = replace(request, quantization=plan.weights.name)  # faster, not worse
        yield from _bought_changes(spec, same, hardware, Place.ALL)
    elif not hardware.gpus and _is_slow(plan):
        yield from _bigger_gpus(spec, request, hardware, Place.ALL)


def _is_slow(plan: Plan) -> bool:
    return plan.decode_per_s is not None and plan.decode_per_s.value < _SLOW_PER_S


def _free_changes(
    spec: ModelSpec, plan: Plan, request: Request, hardware: Hardware
) -> Iterator[_Change]:
    def changed(**changes: Any) -> Plan:
        return make_plan(spec, plan.weights, replace(request, **changes), hardware)

    if request.tier is Tier.RAM and (other := changed(tier=Tier.MMAP)).fits:
        yield _Change("--memory-tier mmap: the table may stay on the drive", other)
    n_ctx = longest_context(spec, plan, request, hardware)
    if n_ctx >= _LEAST_CONTEXT:
        text = f"-c {n_ctx}: a context of {format_count(n_ctx)} tokens fits"
        yield _Change(text, changed(n_ctx=n_ctx))
    if (other := changed(cache_type_k="q8_0", cache_type_v="q8_0")).fits:
        yield _Change("-ctk q8_0 -ctv q8_0: a KV cache of 8 bits fits", other)
    yield from _other_layers(spec, request, hardware, Place.LAYERS_IN_RAM)


def _other_layers(
    spec: ModelSpec, request: Request, hardware: Hardware, place: Place
) -> Iterator[_Change]:
    """Yield the best choice where weights or layers were asked for."""
    free = replace(request, quantization=None, n_gpu_layers=None)
    other = choose_plan(spec, free, hardware)
    if free != request and place_of(spec, other, hardware) <= place:
        n_layers = ngl_of(spec, other.placement)
        yield _Change(f"{other.weights.name} with -ngl {n_layers} fits", other)


def _bought_changes(
    spec: ModelSpec, request: Request, hardware: Hardware, place: Place
) -> Iterator[_Change]:
    for n_gib, bigger in _more_ram(hardware):
        plan = choose_plan(spec, request, bigger)
        if place_of(spec, plan, bigger) <= place:
            yield _Change(f"{n_gib} GiB of RAM: {plan.weights.name} fits", plan)
            break
    if not is_unified(hardware):
        yield from _bigger_gpus(spec, request, hardware, place)


def _more_ram(hardware: Hardware) -> Iterator[tuple[int, Hardware]]:
    for n_gib in _RAM_SIZES_GIB:
        if n_gib * GIB > hardware.ram.total_bytes:
            yield n_gib, with_ram(hardware, n_gib * GIB)


def _bigger_gpus(
    spec: ModelSpec, request: Request, hardware: Hardware, place: Place
) -> Iterator[_Change]:
    most = sum(gpu.vram_bytes for gpu in hardware.gpus)
    for n_gib in _VRAM_SIZES_GIB:
        if n_gib * GIB <= most:
            continue
        bigger = with_vram(hardware, n_gib * GIB)
        plan = choose_plan(spec, request, bigger)
        if place_of(spec, plan, bigger) <= place:
            text = f"a GPU with {n_gib} GiB of VRAM: {plan.weights.name} fits"
            yield _Change(text, plan)
            return


def _ram_for_table(
    spec: ModelSpec, plan: Plan, request: Request, hardware: Hardware
) -> Iterator[_Change]:
    size = format_bytes(plan.weights.part(Part.TABLE))
    for n_gib, bigger in _more_ram(hardware):
        other = make_plan(spec, plan.weights, request, bigger)
        if holds_table(other):
            yield _Change(f"{n_gib} GiB of RAM hold the table of {size} too", other)
            return


def with_ram(hardware: Hardware, n_bytes: int) -> Hardware:
    """Return the same computer with so much RAM, all of it available.

    GPUs that share it have the same part of it as before.
    """
    total_bytes = hardware.ram.total_bytes
    ram = replace(hardware.ram, total_bytes=n_bytes, available_bytes=n_bytes)
    gpus = tuple(
        _scaled(gpu, n_bytes / total_bytes) if gpu.unified else gpu
        for gpu in hardware.gpus
    )
    return replace(hardware, ram=ram, gpus=gpus)


def _scaled(gpu: Gpu, factor: float) -> Gpu:
    return replace(
        gpu,
        vram_bytes=int(gpu.vram_bytes * factor),
        free_bytes=int(gpu.free_bytes * factor),
    )


def with_vram(hardware: Hardware, n_bytes: int) -> Hardware:
    """Return the same computer with one GPU of so much VRAM and unknown speed."""
    gpu = Gpu(name="a GPU", vram_bytes=n_bytes, free_bytes=n_bytes)
    return replace(hardware, gpus=(gpu,))
