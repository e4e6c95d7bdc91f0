"""The JSON report: complete, typed, documented."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engram_local.figures import Figure, Interval, Source
from engram_local.sizing.render.json_report import as_json, render_json
from engram_local.sizing.report import SCHEMA_VERSION
from engram_local.sizing.request import Request, Tier
from tests.probe.fakes import COMPUTE
from tests.sizing.samples import (
    DENSE,
    DESKTOP,
    HUGE,
    LAPTOP,
    MOE,
    NVME,
    SMALL,
    report_of,
)

DOCUMENT = Path(__file__).parents[3] / "docs" / "report-json.md"

FREE_KEYS = {"parts", "urls"}
"""Objects whose keys are data."""


def walk(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield all keys with their values."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield name, inner
            yield from walk(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from walk(inner, key)


def test_it_reads_back_as_it_was() -> None:
    report = report_of(MOE, DENSE)
    assert json.loads(render_json(report)) == as_json(report)


def test_head_says_what_it_is() -> None:
    data = as_json(report_of(MOE))
    assert data["schema_version"] == SCHEMA_VERSION
    assert data["program"] == "engram-local"
    assert data["command"] == "engram-local size Sparse-176B"


def test_bytes_are_integers_or_not_known() -> None:
    found = [
        (key, value)
        for report in (report_of(MOE, DENSE, HUGE), report_of(SMALL, hardware=LAPTOP))
        for key, value in walk(as_json(report))
        if key.endswith("_bytes") or key in ("n_ctx", "longest_ctx")
    ]
    assert len(found) > 100
    assert [pair for pair in found if type(pair[1]) not in (int, type(None))] == []


def test_rates_are_floats_with_a_source() -> None:
    sources = {source.value for source in Source}
    found = [
        value
        for key, value in walk(as_json(report_of(MOE)))
        if key.endswith("_per_s") and value is not None
    ]
    assert len(found) > 50
    for value in found:
        assert value["source"] in sources
        numbers = {value[key] for key in ("low", "value", "high") if key in value}
        assert numbers and all(type(one) is float for one in numbers)


def test_each_term_of_the_plan_is_there() -> None:
    report = report_of(MOE)
    plan = report.models[0].plan
    data = as_json(report)["models"][0]["plan"]
    for place, terms in (("vram", plan.vram), ("ram", plan.ram)):
        assert data[place]["terms"] == [
            {"name": t.name, "n_bytes": t.n_bytes, "source": t.source.value}
            for t in terms
        ]
    assert data["vram"]["n_bytes"] == plan.vram_bytes
    assert data["ram"]["n_bytes"] == plan.ram_bytes
    assert data["decode_per_s"]["value"] == plan.decode_per_s.value  # type: ignore[union-attr]


def test_rates_are_told_by_type_of_weights() -> None:
    cpu = replace(DESKTOP.cpu, compute=COMPUTE)
    report = report_of(DENSE, hardware=replace(DESKTOP, cpu=cpu))
    compute = as_json(report)["hardware"]["cpu"]["compute"]
    rates = {one["name"]: one["flops_per_s"]["value"] for one in compute["types"]}
    assert rates == {"Q4_0": 450e9, "Q4_1": 90e9}
    assert compute["attention_flops_per_s"]["value"] == 28e9


def test_a_table_in_ram_is_one_of_the_terms() -> None:
    report = report_of(SMALL, request=Request(tier=Tier.RAM))
    ram = as_json(report)["models"][0]["plan"]["ram"]
    assert ram["terms"][-1]["name"] == "n-gram table"
    assert ram["n_bytes"] == report.models[0].plan.ram_bytes


def test_unknown_is_null() -> None:
    data = as_json(report_of(SMALL, hardware=LAPTOP))
    assert data["hardware"]["ram"]["bytes_per_s"] is None
    assert data["hardware"]["drive"]["free_bytes"] is None
    tiers = {one["tier"]: one for one in data["models"][0]["plan"]["tiers"]}
    assert tiers["mmap"]["decode_per_s"] is None
    assert tiers["ram"]["decode_per_s"] is not None


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_what_json_cannot_say_is_null(value: float) -> None:
    drive = replace(NVME, bytes_per_s=Figure(value, Source.MEASURED))
    report = report_of(DENSE, hardware=replace(DESKTOP, drive=drive))
    (model,) = report.models
    endless = Interval(1.0, 2.0, value, Source.ESTIMATED)
    far = replace(model.plan.far, decode_per_s=endless)
    model = replace(model, plan=replace(model.plan, far=far))
    data = json.loads(render_json(replace(report, models=(model,))))
    assert data["hardware"]["drive"]["bytes_per_s"]["value"] is None
    decode = data["models"][0]["plan"]["far"]["decode_per_s"]
    assert decode["high"] is None and decode["low"] == 1.0


def test_grid_has_each_cell() -> None:
    report = report_of(MOE)
    grid = as_json(report)["models"][0]["grid"]
    cells = report.models[0].grid
    assert [one["ram_bytes"] for one in grid] == [cell.ram_bytes for cell in cells]
    assert {one["place"] for one in grid} == {"experts_in_ram", "nowhere"}


def test_each_key_is_documented_and_each_documented_key_exists() -> None:
    data = as_json(report_of(MOE, SMALL))
    keys = {key for key, _ in walk(data)}
    for key, value in walk(data):
        keys -= set(value) if key in FREE_KEYS else set()
    block = DOCUMENT.read_text("utf-8").split("## Keys")[1]
    documented = set(re.findall(r"`(\w+)`", block))
    assert keys - documented == set()
    assert documented - keys == {"null"}
