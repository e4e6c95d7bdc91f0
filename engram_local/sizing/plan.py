"""Where a model lies on a computer and how fast it runs: pure arithmetic.

One function for the report and for the check before a model is loaded, so that they
cannot disagree.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from engram_local.figures import Interval, Source, Term
from engram_local.hardware import Hardware
from engram_local.model_spec import ModelSpec, Part, Weights
from engram_local.sizing.allocations import (
    Placement,
    best_placement,
    bytes_of_gpus,
    gpu_terms,
    layers_on_gpu,
    ram_terms,
    total_bytes,
)
from engram_local.sizing.request import CELL, Request, Tier
from engram_local.sizing.speed import decode_time, prompt_time, shares_of
from engram_local.sizing.tiers import Pace, TierPlan, plan_tiers, rate_of
from engram_local.units import GIB, MIB

GPU_MARGIN_BYTES = 256 * MIB
"""Of each GPU, left to the desktop and to what the terms do not know."""

_SYSTEM_BYTES = 2 * GIB
"""Of RAM, left to the system and other programs; a quarter of small ones."""

_NEAR = 512
"""Tokens before the one whose speed is told: a first answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Tokens per second without waiting for rows; None if no speed is known."""

    depth: int
    """Tokens before."""

    decode_per_s: Interval | None
    prompt_per_s: Interval | None
    decode_bound: str
    prompt_bound: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One set of weights of a model on one computer."""

    weights: Weights
    n_ctx: int
    placement: Placement
    vram: tuple[Term, ...]
    usable_vram_bytes: int
    crowded_bytes: int
    """What the fullest of several GPUs lacks; 0 = each has room for its layers."""

    ram: tuple[Term, ...]
    """Without the n-gram table."""

    usable_ram_bytes: int
    missing_disk_bytes: int
    """What the drive lacks for the files; 0 = it fits, is there, or is not known."""

    tiers: tuple[TierPlan, ...]
    tier: TierPlan | None
    """The one to take; None without a table."""

    near: Speed
    """At the start of a conversation, without waiting for rows."""

    far: Speed
    """The same with a full context."""

    @property
    def vram_bytes(self) -> int:
        """All that lies in VRAM."""
        return total_bytes(self.vram)

    @property
    def ram_bytes(self) -> int:
        """All that has to lie in RAM."""
        resident = self.tier.resident_bytes if self.tier else 0
        return total_bytes(self.ram) + resident

    @property
    def missing_vram_bytes(self) -> int:
        """What a layer on a GPU lacks; 0 = it fits."""
        return max(self.crowded_bytes, self.vram_bytes - self.usable_vram_bytes, 0)

    @property
    def missing_ram_bytes(self) -> int:
        """What RAM lacks; 0 = it fits."""
        return max(0, self.ram_bytes - self.usable_ram_bytes)

    @property
    def spare_ram_bytes(self) -> int:
        """RAM that is left for the n-gram table."""
        return max(0, self.usable_ram_bytes - total_bytes(self.ram))

    @property
    def table_in_ram_bytes(self) -> int:
        """What a table in RAM wants beside all else: room for itself, and for what is
        read from the file, in the page cache. Without that every start would read the
        drive; llama.cpp reads weights, too, then, where they would be mapped else.
        """
        read = ("weights", "token embedding")
        weights = sum(term.n_bytes for term in self.ram if term.name in read)
        return 2 * self.weights.part(Part.TABLE) + weights

    @property
    def fits(self) -> bool:
        """Whether VRAM and RAM suffice."""
        return not self.missing_vram_bytes and not self.missing_ram_bytes

    @property
    def decode_per_s(self) -> Interval | None:
        """Tokens per second of an answer, waiting for rows included."""
        return self.tier.decode_per_s if self.tier else self.near.decode_per_s

    @property
    def prompt_per_s(self) -> Interval | None:
        """Prompt tokens per second, waiting for rows included."""
        return self.tier.prompt_per_s if self.tier else self.near.prompt_per_s


def make_plan(
    spec: ModelSpec,
    weights: Weights,
    request: Request,
    hardware: Hardware,
) -> Plan:
    """Return where this model lies on this computer and how fast it is."""
    vram_bytes = usable_vram_bytes(hardware)
    n_gpus = len(hardware.gpus)
    placement = _placement(spec, weights, request, hardware, vram_bytes)
    vram = gpu_terms(spec, weights, request, placement, n_gpus)
    ram = ram_terms(spec, weights, request, placement)
    ram_bytes = usable_ram_bytes(hardware)
    if is_unified(hardware):
        ram_bytes = max(0, ram_bytes - total_bytes(vram))
    near = _pace(spec, weights, request, placement, hardware, _NEAR)
    n_ctx = request.context_of(spec)
    tiers = plan_tiers(
        spec,
        weights,
        near,
        hardware.drive,
        ram_bytes - total_bytes(ram),
        maps_files=all(gpu.maps_files for gpu in hardware.gpus),
    )
    plan = Plan(
        weights=weights,
        n_ctx=n_ctx,
        placement=placement,
        vram=vram,
        usable_vram_bytes=vram_bytes,
        crowded_bytes=_crowded_bytes(spec, weights, request, placement, hardware),
        ram=ram,
        usable_ram_bytes=ram_bytes,
        missing_disk_bytes=_missing_disk_bytes(weights, hardware),
        tiers=tiers,
        tier=None,
        near=_speed(near, _NEAR),
        far=_speed(_pace(spec, weights, request, placement, hardware, n_ctx), n_ctx),
    )
    return replace(plan, tier=_choose_tier(spec, plan, request.tier))


def usable_vram_bytes(hardware: Hardware) -> int:
    """Return what may be taken of all GPUs together."""
    free = sum(_free_bytes(hardware))
    return min(free, usable_ram_bytes(hardware)) if is_unified(hardware) else free


def _free_bytes(hardware: Hardware) -> list[int]:
    return [max(0, gpu.free_bytes - GPU_MARGIN_BYTES) for gpu in hardware.gpus]


def is_unified(hardware: Hardware) -> bool:
    """Return whether what lies on the GPUs takes RAM."""
    return any(gpu.unified for gpu in hardware.gpus)


def usable_ram_bytes(hardware: Hardware) -> int:
    """Return what may be taken of RAM."""
    ram = hardware.ram
    rest = ram.total_bytes - min(_SYSTEM_BYTES, ram.total_bytes // 4)
    return min(ram.available_bytes, rest)


def _missing_disk_bytes(weights: Weights, hardware: Hardware) -> int:
    free_bytes = hardware.drive.free_bytes
    if free_bytes is None or weights.source is Source.EXACT:  # read from the file
        return 0
    return max(0, weights.file_bytes - free_bytes)


def _placement(
    spec: ModelSpec,
    weights: Weights,
    request: Request,
    hardware: Hardware,
    vram_bytes: int,
) -> Placement:
    n_gpus = len(hardware.gpus)
    if not n_gpus:
        return Placement()
    if request.n_gpu_layers is not None:
        return _asked_placement(spec, request.n_gpu_layers, request.n_cpu_moe)

    def fits(placement: Placement) -> bool:
        terms = gpu_terms(spec, weights, request, placement, n_gpus)
        return total_bytes(terms) <= vram_bytes and not _crowded_bytes(
            spec, weights, request, placement, hardware
        )

    return best_placement(spec, weights, fits)


def _crowded_bytes(
    spec: ModelSpec,
    weights: Weights,
    request: Request,
    placement: Placement,
    hardware: Hardware,
) -> int:
    free_bytes = _free_bytes(hardware)
    if len(free_bytes) < 2 or not placement.n_gpu_layers:
        return 0
    used = bytes_of_gpus(spec, weights, request, placement, free_bytes)
    return max(0, *(own - free for own, free in zip(used, free_bytes, strict=True)))


def _asked_placement(spec: ModelSpec, n_gpu_layers: int, n_cpu_moe: int) -> Placement:
    n_own = max(n_gpu_layers - spec.n_drafts, min(n_gpu_layers, 1))
    placement = Placement(n_gpu_layers=min(n_own, spec.n_layers + 1))
    n_before = spec.n_layers - layers_on_gpu(spec, placement)
    n_layers = min(n_cpu_moe, spec.n_layers) if spec.n_experts else 0
    return replace(placement, n_cpu_experts=max(n_layers - n_before, 0))


def _choose_tier(spec: ModelSpec, plan: Plan, asked: Tier | None) -> TierPlan | None:
    """Return the tier that was asked for; else RAM where a model's own table has room.

    An attached memory's rows take no longer from the page cache than from memory of
    its own, llama.cpp's do: it queues them in the drive's way first.
    """
    by_name = {tier.tier: tier for tier in plan.tiers}
    has_room = plan.table_in_ram_bytes <= plan.spare_ram_bytes
    best = Tier.RAM if spec.chooses_tier and has_room else Tier.MMAP
    order = (asked or best, Tier.MMAP, Tier.RAM)
    return next((by_name[tier] for tier in order if tier in by_name), None)


def _pace(
    spec: ModelSpec,
    weights: Weights,
    request: Request,
    placement: Placement,
    hardware: Hardware,
    depth: int,
) -> Pace:
    shares = shares_of(spec, weights, request, placement, hardware, depth=depth)
    if shares is None:
        return Pace(decode=None, prompt=None)
    copies = [gpu.host_bytes_per_s for gpu in hardware.gpus]
    return Pace(
        decode=decode_time(shares),
        prompt=prompt_time(shares, copies[0] if copies else None),
    )


def _speed(pace: Pace, depth: int) -> Speed:
    decode, prompt = pace.decode, pace.prompt
    return Speed(
        depth=depth,
        decode_per_s=rate_of(decode.seconds) if decode else None,
        prompt_per_s=rate_of(prompt.seconds) if prompt else None,
        decode_bound=decode.bound if decode else "unknown",
        prompt_bound=prompt.bound if prompt else "unknown",
    )


def longest_context(
    spec: ModelSpec, plan: Plan, request: Request, hardware: Hardware
) -> int:
    """Return the longest context that fits with as much on the GPUs as in `plan`.

    A multiple of 256, at most what was trained; 0 = not even 256 fit.
    """

    def fits(n_ctx: int) -> bool:
        longer = replace(request, n_ctx=n_ctx)
        other = make_plan(spec, plan.weights, longer, hardware)
        return other.fits and (not plan.fits or _as_fast(other, plan))

    low, high = 0, replace(request, n_ctx=0).context_of(spec) // CELL
    while low < high:
        middle = (low + high + 1) // 2
        if fits(middle * CELL):
            low = middle
        else:
            high = middle - 1
    return low * CELL


def _as_fast(plan: Plan, reference: Plan) -> bool:
    mine, other = plan.placement, reference.placement
    return (
        mine.n_gpu_layers >= other.n_gpu_layers
        and mine.n_cpu_experts <= other.n_cpu_experts
    )
