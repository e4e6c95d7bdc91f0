"""Charts: everything is inside, and where the numbers say."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from engram_local.figures import Figure, Source
from engram_local.hardware import DepthRate, Hardware
from engram_local.sizing.render.charts import (
    Chart,
    drive_chart,
    memory_charts,
    speed_charts,
)
from engram_local.sizing.render.svg import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Scale,
    decades,
    nice_ticks,
    tick,
)
from engram_local.sizing.report import Report
from engram_local.sizing.request import Request
from engram_local.units import GIB
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

CHARACTER = 0.58 * 12
"""Width of a character of a sans-serif font of 12 px, on average."""

SLOW = replace(
    NVME, reads=(DepthRate(depth=1, reads_per_s=Figure(90.0, Source.MEASURED)),)
)
REPORTS = {
    "table": lambda: report_of(MOE),
    "file": lambda: report_of(DENSE),
    "small": lambda: report_of(SMALL),
    "laptop": lambda: report_of(SMALL, DENSE, hardware=LAPTOP),
    "no fit": lambda: report_of(HUGE),
    "slow drive": lambda: report_of(MOE, hardware=replace(DESKTOP, drive=SLOW)),
    "short": lambda: report_of(replace(DENSE, context_length=128)),
}


def charts_of(report: Report) -> list[Chart]:
    drive = report.hardware.drive
    charts: list[Chart] = []
    for model in report.models:
        charts += memory_charts(model, "model")
        charts += speed_charts(model, drive, "model")
        charts += drive_chart(model, drive, "model")
    return charts


def coordinates(element: ElementTree.Element) -> Iterator[tuple[str, float]]:
    """Yield an element's coordinates as (axis, value)."""
    for name, value in element.attrib.items():
        if name in ("x", "x1", "x2", "cx"):
            yield "x", float(value)
        elif name in ("y", "y1", "y2", "cy"):
            yield "y", float(value)
        elif name == "points":
            for pair in value.split():
                x, y = pair.split(",")
                yield "x", float(x)
                yield "y", float(y)


@pytest.mark.parametrize("name", REPORTS)
def test_everything_is_within_the_picture(name: str) -> None:
    charts = charts_of(REPORTS[name]())
    assert charts
    for chart in charts:
        points = [
            point
            for element in ElementTree.fromstring(chart.svg).iter()
            for point in coordinates(element)
        ]
        assert len(points) > 20
        for axis, value in points:
            assert math.isfinite(value)
            assert 0 <= value <= (WIDTH if axis == "x" else HEIGHT)


@pytest.mark.parametrize("name", REPORTS)
def test_words_are_within_the_picture_and_apart(name: str) -> None:
    for chart in charts_of(REPORTS[name]()):
        boxes = []
        for text in ElementTree.fromstring(chart.svg).iter("text"):
            width = CHARACTER * len(text.text or "")
            shift = {"start": 0.0, "middle": 0.5, "end": 1.0}[
                text.attrib["text-anchor"]
            ]
            left = float(text.attrib["x"]) - shift * width
            boxes.append((left, left + width, float(text.attrib["y"]), text.text))
        assert min(box[0] for box in boxes) >= 0
        assert max(box[1] for box in boxes) <= WIDTH
        for index, (left, right, y, _) in enumerate(boxes):
            for other in boxes[:index]:
                beside = right <= other[0] or other[1] <= left
                assert beside or abs(y - other[2]) >= 12, (chart.title, boxes)


def stack_at(chart: Chart, x: float) -> float:
    """Return the least y of all areas at a coordinate."""
    ys = [
        float(pair.split(",")[1])
        for element in ElementTree.fromstring(chart.svg).iter("polygon")
        for pair in element.attrib["points"].split()
        if float(pair.split(",")[0]) == x
    ]
    return min(ys)


def test_the_stack_is_as_high_as_the_plan_says() -> None:
    report = report_of(DENSE)
    vram = next(memory_charts(report.models[0], "m"))
    root = ElementTree.fromstring(vram.svg)
    limit = next(e for e in root.iter("line") if e.attrib["class"] == "limit")
    usable_bytes = report.models[0].plan.usable_vram_bytes
    per_byte = (BOTTOM - float(limit.attrib["y1"])) / usable_bytes
    last = report.models[0].curve[-1]
    expected = BOTTOM - per_byte * last.vram_bytes
    assert stack_at(vram, RIGHT) == pytest.approx(expected, abs=0.2)


def test_an_empty_gpu_has_no_chart() -> None:
    report = report_of(DENSE, request=Request(n_gpu_layers=0))
    (chart,) = memory_charts(report.models[0], "m")
    assert chart.title.startswith("RAM")


def test_a_limit_far_above_is_told_and_not_drawn() -> None:
    report = report_of(SMALL, hardware=LAPTOP)
    (ram,) = memory_charts(report.models[0], "m")
    assert 'class="limit"' not in ram.svg
    assert "usable 12,288.0: above" in ram.svg


def test_speed_falls_with_fewer_hits_on_a_slow_drive() -> None:
    report = report_of(MOE, hardware=replace(DESKTOP, drive=SLOW))
    answer, prompt = speed_charts(report.models[0], report.hardware.drive, "m")
    for chart in (answer, prompt):
        root = ElementTree.fromstring(chart.svg)
        curve = next(e for e in root.iter("polyline") if "series" in e.attrib["class"])
        ys = [float(pair.split(",")[1]) for pair in curve.attrib["points"].split()]
        assert ys == sorted(ys, reverse=True)
        assert ys[0] - ys[-1] > 50


def test_only_attached_tables_have_a_direct_tier() -> None:
    for spec, expected in ((MOE, False), (SMALL, True)):
        report = report_of(spec)
        answer = next(speed_charts(report.models[0], report.hardware.drive, "m"))
        assert (">direct " in answer.svg) is expected


def test_drive_chart_has_a_dot_for_each_depth_and_each_need() -> None:
    report = report_of(MOE)
    (chart,) = drive_chart(report.models[0], report.hardware.drive, "m")
    dots = re.findall("<circle", chart.svg)
    assert len(dots) == len(NVME.reads) + 2
    need = report.models[0].plan.tiers[0].decode_reads_per_s
    assert need is not None
    assert f">answer {need:.0f}<" in chart.svg


def test_nothing_is_drawn_of_what_is_unknown() -> None:
    report = report_of(SMALL, hardware=LAPTOP)
    model = report.models[0]
    assert list(drive_chart(model, report.hardware.drive, "m")) == []
    assert list(speed_charts(model, report.hardware.drive, "m")) == []


def test_a_gpu_of_unknown_speed_leaves_the_needs_out() -> None:
    silent = replace(DESKTOP.gpus[0], bytes_per_s=None)
    hardware: Hardware = replace(DESKTOP, gpus=(silent,))
    report = report_of(MOE, hardware=hardware)
    (chart,) = drive_chart(report.models[0], hardware.drive, "m")
    assert "unknown" in chart.caption
    assert list(speed_charts(report.models[0], hardware.drive, "m")) == []


def test_scale_keeps_what_is_outside_on_the_edge() -> None:
    scale = Scale(1, 100, LEFT, RIGHT, is_log=True)
    assert scale(0.001) == LEFT
    assert scale(10) == pytest.approx((LEFT + RIGHT) / 2)
    assert scale(1e9) == RIGHT
    assert Scale(0, 10, BOTTOM, TOP)(5) == pytest.approx((BOTTOM + TOP) / 2)


@pytest.mark.parametrize("high", [0.3, 1, 7, 22.8, 60, 99, 512, 12_288, 3e6])
def test_ticks_are_few_and_round(high: float) -> None:
    ticks = nice_ticks(high)
    assert 3 <= len(ticks) <= 7
    assert ticks[0] == 0 and high - ticks[1] < ticks[-1] <= high * (1 + 1e-9)
    leading = ticks[1] / 10 ** math.floor(math.log10(ticks[1]) + 1e-9)
    assert min(abs(leading - nice) for nice in (1, 2, 5)) < 1e-6


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.5, "0.5"), (2500, "2,500"), (40_000, "40k"), (1e6, "1M")],
)
def test_axes_have_short_numbers(value: float, text: str) -> None:
    assert tick(value) == text


def test_decades_lie_within() -> None:
    assert decades(5, 2000) == [10, 100, 1000]
    assert decades(1, 10) == [1, 10]


def test_memory_of_a_huge_model_is_drawn_above_its_limit() -> None:
    report = report_of(HUGE)
    _, ram = memory_charts(report.models[0], "m")
    assert report.models[0].plan.ram_bytes > 60 * GIB
    limit = next(
        e
        for e in ElementTree.fromstring(ram.svg).iter("line")
        if e.attrib["class"] == "limit"
    )
    assert stack_at(ram, RIGHT) < float(limit.attrib["y1"])


def test_a_table_that_is_always_in_ram_needs_no_chart_of_hits() -> None:
    gpu = replace(DESKTOP.gpus[0], name="Radeon 8060S", unified=True)
    (model,) = report_of(MOE, hardware=replace(DESKTOP, gpus=(gpu,))).models
    assert list(speed_charts(model, DESKTOP.drive, "")) == []
