"""Before a model is loaded: put on the GPU what fits, refuse what cannot work.

The same plan as in the report. Only what llama.cpp allocates is refused; weights that
are mapped from a file may be larger than RAM, which is slow but works.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from engram_local.errors import FitError
from engram_local.hardware import Hardware
from engram_local.model_spec import ModelSpec, Part
from engram_local.settings import Settings
from engram_local.sizing.allocations import ngl_of
from engram_local.sizing.plan import GPU_MARGIN_BYTES, Plan, make_plan
from engram_local.sizing.request import CELL, Request, Tier, gpu_layers
from engram_local.sizing.tiers import TierPlan
from engram_local.units import format_bytes, format_count

_BOUNDS = ("compute buffers", "driver")
"""Terms of VRAM that may be less than the plan says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preflight:
    """How a model will be loaded."""

    settings: Settings
    """With the layers that fit on the GPUs and the tier of a model's own table, if
    nothing else was asked."""

    notes: tuple[str, ...]
    """Sentences for the user: what does not fit where, and costs speed."""

    plan: Plan | None = None
    """Where everything goes; None = nobody looked."""


def prepare(spec: ModelSpec, settings: Settings, hardware: Hardware) -> Preflight:
    """Return the settings to load a model with; raise FitError if it cannot work."""
    request = request_of(settings)
    if spec.loads_table:  # whatever the tier, like any of its weights
        request = replace(request, tier=None)
    plan = make_plan(spec, spec.weights[0], request, hardware)
    _check_vram(spec, plan, request, hardware)
    _check_ram(spec, plan, request, hardware)
    settled = settings
    if hardware.gpus and settings.n_gpu_layers is None:
        settled = replace(
            settings,
            n_gpu_layers=ngl_of(spec, plan.placement),
            n_cpu_moe=max(settings.n_cpu_moe, plan.placement.n_cpu_experts),
        )
    notes = _notes(spec, plan, hardware)
    if settings.memory_tier == "auto" and spec.chooses_tier and plan.tier is not None:
        settled = replace(settled, memory_tier=plan.tier.tier.value)
        notes.append(_about_tier(plan, plan.tier))
    return Preflight(settings=settled, notes=tuple(notes), plan=plan)


def _about_tier(plan: Plan, tier: TierPlan) -> str:
    """Return what became of the tier `auto`, and why."""
    table = f"table of {format_bytes(plan.weights.part(Part.TABLE))}"
    free = format_bytes(plan.spare_ram_bytes)
    if tier.tier is Tier.RAM:
        return f"{table} in RAM: {free} are free for it"
    return (
        f"{table} stays in its file (mmap): in RAM it would want "
        f"{format_bytes(plan.table_in_ram_bytes)} with the file's page cache, "
        f"{free} are free"
    )


def request_of(settings: Settings) -> Request:
    """Return the part of the settings that sizes depend on."""
    return Request(
        n_ctx=settings.n_ctx,
        n_ubatch=min(settings.n_ubatch, settings.n_batch),
        cache_type_k=settings.cache_type_k,
        cache_type_v=settings.cache_type_v,
        flash_attention=settings.flash_attention != "off",
        n_gpu_layers=gpu_layers(settings.n_gpu_layers),
        n_cpu_moe=settings.n_cpu_moe,
        tier=None if settings.memory_tier == "auto" else Tier(settings.memory_tier),
    )


def _check_vram(
    spec: ModelSpec, plan: Plan, request: Request, hardware: Hardware
) -> None:
    if not _lacks_vram(plan, hardware):
        return
    free = make_plan(spec, plan.weights, replace(request, n_gpu_layers=None), hardware)
    what = (
        f"{format_bytes(plan.vram_bytes)} of VRAM are needed, "
        f"{format_bytes(plan.usable_vram_bytes)} can be had"
    )
    if plan.crowded_bytes:
        missing = format_bytes(plan.crowded_bytes)
        what += f"; one GPU lacks {missing} for its part of the layers"
    raise FitError(
        what,
        hint=f"-ngl {ngl_of(spec, free.placement)} fits, or leave -ngl out",
    )


def _lacks_vram(plan: Plan, hardware: Hardware) -> bool:
    """Return whether weights and caches alone are more than the GPUs have.

    What else is needed is a bound, and a margin is left: layers that were asked for may
    fit all the same, and llama.cpp says so if they do not.
    """
    bounds = sum(term.n_bytes for term in plan.vram if term.name in _BOUNDS)
    if plan.vram_bytes - bounds > sum(gpu.free_bytes for gpu in hardware.gpus):
        return True
    return plan.crowded_bytes > bounds + GPU_MARGIN_BYTES


def _check_ram(
    spec: ModelSpec, plan: Plan, request: Request, hardware: Hardware
) -> None:
    """Refuse what has to be allocated in RAM and is not there."""
    available_bytes = hardware.ram.available_bytes
    needed_bytes = allocated_bytes(spec, plan)
    if needed_bytes <= available_bytes:
        return
    if plan.tier is not None and plan.tier.resident_bytes:
        _check_table(spec, plan, request, hardware)
    n_ctx = _shorter_context(spec, plan, request, hardware)
    raise FitError(
        f"{format_bytes(needed_bytes)} of RAM are needed besides the weights, "
        f"{format_bytes(available_bytes)} are free",
        hint=f"-c {n_ctx} fits" if n_ctx else "use a smaller model",
    )


def _check_table(
    spec: ModelSpec, plan: Plan, request: Request, hardware: Hardware
) -> None:
    """Refuse a table in RAM if that is what does not fit."""
    available_bytes = hardware.ram.available_bytes
    table_bytes = plan.weights.part(Part.TABLE)
    rest_bytes = allocated_bytes(spec, plan) - table_bytes
    mapped = make_plan(spec, plan.weights, replace(request, tier=Tier.MMAP), hardware)
    if allocated_bytes(spec, mapped) <= available_bytes:
        hint = "--memory-tier mmap reads its rows from the drive"
    elif rest_bytes <= available_bytes:
        hint = "llama.cpp maps no files beside an integrated GPU; try a smaller one"
    else:
        return
    raise FitError(
        f"the table in RAM takes {format_bytes(table_bytes)}, what else has to be "
        f"there {format_bytes(rest_bytes)}, {format_bytes(available_bytes)} are free",
        hint=hint,
    )


def _shorter_context(
    spec: ModelSpec, plan: Plan, request: Request, hardware: Hardware
) -> int:
    """Return the longest of a half, a quarter ... that can be allocated; 0 = none.

    Not `longest_context`: that one wants the weights in RAM, too.
    """
    n_ctx = plan.n_ctx // 2
    while n_ctx >= CELL:
        shorter = replace(request, n_ctx=n_ctx)
        other = make_plan(spec, plan.weights, shorter, hardware)
        if allocated_bytes(spec, other) <= hardware.ram.available_bytes:
            return n_ctx
        n_ctx //= 2
    return 0


def allocated_bytes(spec: ModelSpec, plan: Plan) -> int:
    """Return what is allocated in RAM; weights and a mapped table are files.

    But llama.cpp maps nothing of a model whose own table is to be in RAM.
    """
    mapped = () if _reads_all(spec, plan) else ("weights", "token embedding")
    terms = sum(term.n_bytes for term in plan.ram if term.name not in mapped)
    return terms + (plan.tier.resident_bytes if plan.tier else 0)


def _reads_all(spec: ModelSpec, plan: Plan) -> bool:
    return spec.chooses_tier and plan.tier is not None and plan.tier.tier is Tier.RAM


def _notes(spec: ModelSpec, plan: Plan, hardware: Hardware) -> list[str]:
    notes = []
    if plan.missing_vram_bytes:
        notes.append(
            f"{format_bytes(plan.vram_bytes)} of VRAM may be needed, "
            f"{format_bytes(plan.usable_vram_bytes)} can be had: it may not load"
        )
    n_on_gpu = plan.placement.n_gpu_layers
    if hardware.gpus and n_on_gpu <= spec.n_layers:
        notes.append(
            f"{max(n_on_gpu - 1, 0)} of {format_count(spec.n_layers)} layers are on "
            "the GPU, the others are computed by the processor"
        )
    if plan.placement.n_cpu_experts:
        notes.append(
            f"the experts of {plan.placement.n_cpu_experts} of {spec.n_layers} layers "
            "stay in RAM"
        )
    if plan.missing_ram_bytes:
        notes.append(
            f"the model wants {format_bytes(plan.ram_bytes)} of RAM, "
            f"{format_bytes(plan.usable_ram_bytes)} can be had: parts of it will be "
            "read from the drive again and again"
        )
    return notes
