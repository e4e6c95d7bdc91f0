"""Everything that a sizing report says, as data. Rendering is next door."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from engram_local.hardware import Hardware
from engram_local.model_spec import ModelSpec
from engram_local.sizing.choice import choose_plan
from engram_local.sizing.commands import Command, commands_for
from engram_local.sizing.grid import Cell, make_grid
from engram_local.sizing.plan import Plan, longest_context, make_plan
from engram_local.sizing.request import Request
from engram_local.sizing.verdict import Verdict, judge

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReport:
    """One model on the computer."""

    spec: ModelSpec
    verdict: Verdict
    plan: Plan
    longest_ctx: int
    commands: tuple[Command, ...]
    grid: tuple[Cell, ...]
    curve: tuple[Plan, ...]
    """The same weights at contexts from 256 tokens to as trained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Models side by side on one computer."""

    hardware: Hardware
    request: Request
    models: tuple[ModelReport, ...]
    date: str
    command: str
    """As it was typed."""

    version: str


def report_model(
    spec: ModelSpec,
    request: Request,
    hardware: Hardware,
    *,
    what_if: Sequence[tuple[str, Hardware]] = (),
) -> ModelReport:
    """Return what is to be said about one model.

    what_if: other computers for the grid, by name.
    """
    plan = choose_plan(spec, request, hardware)
    return ModelReport(
        spec=spec,
        verdict=judge(spec, plan, request, hardware),
        plan=plan,
        longest_ctx=longest_context(spec, plan, request, hardware),
        commands=commands_for(spec, plan, request, hardware),
        grid=make_grid(spec, request, [("", hardware), *what_if]),
        curve=_curve(spec, plan, request, hardware),
    )


def _curve(
    spec: ModelSpec, plan: Plan, request: Request, hardware: Hardware
) -> tuple[Plan, ...]:
    """Return plans at doubling contexts; the last one is as trained."""
    lengths = [256 << n for n in range(16) if 256 << n < spec.context_length]
    return tuple(
        make_plan(spec, plan.weights, replace(request, n_ctx=n_ctx), hardware)
        for n_ctx in [*lengths, spec.context_length]
    )
