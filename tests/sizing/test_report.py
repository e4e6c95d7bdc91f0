"""All that a report says, of the same plan."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engram_local.errors import UsageError
from engram_local.sizing.choice import choose_plan
from engram_local.sizing.commands import commands_for
from engram_local.sizing.plan import longest_context, make_plan
from engram_local.sizing.report import report_model
from engram_local.sizing.request import Request, Tier
from engram_local.sizing.verdict import judge, with_vram
from engram_local.units import GIB
from tests.sizing.samples import DENSE, DESKTOP, LAPTOP, MOE, SMALL


@pytest.mark.parametrize("spec", [DENSE, MOE, SMALL], ids=lambda spec: spec.name)
def test_everything_is_of_one_plan(spec) -> None:  # type: ignore[no-untyped-def]
    request = Request(n_ctx=4096)
    report = report_model(spec, request, DESKTOP)
    plan = choose_plan(spec, request, DESKTOP)
    assert report.plan == plan
    assert report.verdict == judge(spec, plan, request, DESKTOP)
    assert report.longest_ctx == longest_context(spec, plan, request, DESKTOP)
    assert report.commands == commands_for(spec, plan, request, DESKTOP)
    assert {cell.gpu for cell in report.grid} == {""}


def test_other_computers_are_in_the_grid_only() -> None:
    other = with_vram(DESKTOP, 8 * GIB)
    report = report_model(DENSE, Request(), DESKTOP, what_if=[("other", other)])
    alone = report_model(DENSE, Request(), DESKTOP)
    assert {cell.gpu for cell in report.grid} == {"", "other"}
    assert replace(report, grid=()) == replace(alone, grid=())


def test_the_curve_doubles_up_to_what_was_trained() -> None:
    report = report_model(DENSE, Request(quantization="Q4_K_M"), LAPTOP)
    assert [plan.n_ctx for plan in report.curve] == [256 << n for n in range(10)]
    odd = replace(DENSE, context_length=40_960)
    lengths = [plan.n_ctx for plan in report_model(odd, Request(), LAPTOP).curve]
    assert lengths == [*(256 << n for n in range(8)), 40_960]
    short = replace(DENSE, context_length=100)
    assert [p.n_ctx for p in report_model(short, Request(), LAPTOP).curve] == [256]


def test_the_curve_keeps_weights_and_tier() -> None:
    request = Request(quantization="Q2_0", tier=Tier.RAM, cache_type_k="q8_0")
    report = report_model(MOE, request, DESKTOP)
    for plan in report.curve:
        asked = replace(request, n_ctx=plan.n_ctx)
        assert plan == make_plan(MOE, MOE.weights[0], asked, DESKTOP)
        assert plan.tier is not None and plan.tier.tier is Tier.RAM


def test_unknown_weights_are_refused() -> None:
    with pytest.raises(UsageError, match="no weights of Dense-8B are called 'Q9'"):
        report_model(DENSE, Request(quantization="Q9"), DESKTOP)
