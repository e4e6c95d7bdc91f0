"""What if: the same model with other weights, contexts, tiers and GPUs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from engram_local.figures import Interval
from engram_local.hardware import Hardware
from engram_local.model_spec import ModelSpec
from engram_local.sizing.choice import Place, place_of
from engram_local.sizing.plan import Plan, longest_context, make_plan
from engram_local.sizing.request import Request, Tier

CONTEXTS = (4096, 8192, 32768, 131072)
"""Tokens; those that a model was not trained for are left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One combination."""

    gpu: str
    """Empty: this computer's own, or none."""

    weights: str
    n_ctx: int
    tier: Tier | None
    fits: bool
    place: Place
    vram_bytes: int
    ram_bytes: int
    longest_ctx: int
    decode_per_s: Interval | None
    prompt_per_s: Interval | None


def make_grid(
    spec: ModelSpec,
    request: Request,
    machines: Sequence[tuple[str, Hardware]],
    contexts: Sequence[int] = CONTEXTS,
) -> tuple[Cell, ...]:
    """Return a cell for each combination: machines by name, weights, context, tier."""
    cells: list[Cell] = []
    for name, hardware in machines:
        cells += _cells(spec, request, name, hardware, contexts)
    return tuple(cells)


def _cells(
    spec: ModelSpec,
    request: Request,
    name: str,
    hardware: Hardware,
    contexts: Sequence[int],
) -> Iterator[Cell]:
    known = [n for n in contexts if n <= spec.context_length] or [spec.context_length]
    for weights in spec.weights:
        longest: int | None = None
        for n_ctx in known:
            asked = replace(request, n_ctx=n_ctx)
            first = make_plan(spec, weights, asked, hardware)
            if longest is None:
                longest = longest_context(spec, first, asked, hardware)
            tiers: list[Tier | None] = [plan.tier for plan in first.tiers]
            for tier in tiers or [None]:
                plan = make_plan(spec, weights, replace(asked, tier=tier), hardware)
                yield _cell(spec, plan, name, hardware, longest)


def _cell(
    spec: ModelSpec, plan: Plan, name: str, hardware: Hardware, longest_ctx: int
) -> Cell:
    return Cell(
        gpu=name,
        weights=plan.weights.name,
        n_ctx=plan.n_ctx,
        tier=plan.tier.tier if plan.tier else None,
        fits=plan.fits,
        place=place_of(spec, plan, hardware),
        vram_bytes=plan.vram_bytes,
        ram_bytes=plan.ram_bytes,
        longest_ctx=longest_ctx,
        decode_per_s=plan.decode_per_s,
        prompt_per_s=plan.prompt_per_s,
    )
