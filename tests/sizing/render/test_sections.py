"""What a report says, whatever draws it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engram_local.figures import Source
from engram_local.model_spec import Part
from engram_local.sizing.render.document import (
    MARKS,
    MEANINGS,
    CommandLine,
    Document,
    ModelPart,
    Section,
    Sentence,
    Table,
    Topic,
)
from engram_local.sizing.render.numbers import in_unit
from engram_local.sizing.render.sections import document_of
from engram_local.sizing.request import Request, Tier
from engram_local.units import GIB
from tests.probe.fakes import COMPUTE
from tests.sizing.samples import (
    DENSE,
    DESKTOP,
    GPU,
    HUGE,
    LAPTOP,
    MOE,
    SMALL,
    report_of,
)


def section(model: ModelPart, topic: Topic) -> Section:
    return next(one for one in model.sections if one.topic is topic)


def table(found: Section, title: str = "") -> dict[str, list[str]]:
    """Return the rows of a table by their first cell, with the marks."""
    (one,) = (
        block
        for block in found.blocks
        if isinstance(block, Table) and block.title == title
    )
    return {
        row[0].text: [f"{value.text} {value.mark}".strip() for value in row[1:]]
        for row in one.rows
    }


def test_verdict_has_answer_speed_limit_and_change() -> None:
    report = report_of(MOE)
    (model,) = document_of(report).models
    verdict = report.models[0].verdict
    assert verdict.outcome in model.verdict
    assert f"limited by {verdict.binding}" in model.verdict
    assert verdict.change is not None and verdict.change in model.verdict
    assert "8,192 tokens" in model.verdict and "tok/s" in model.verdict


def test_what_does_not_fit_has_no_speed_in_its_verdict() -> None:
    (model,) = document_of(report_of(HUGE)).models
    assert "does not fit" in model.verdict
    assert "tok/s" not in model.verdict
    assert dict(model.key_values)["answer, tok/s"].text == "-"


def test_unknown_speed_is_said() -> None:
    silent = replace(GPU, bytes_per_s=None)
    (model,) = document_of(
        report_of(DENSE, hardware=replace(DESKTOP, gpus=(silent,)))
    ).models
    assert "speed unknown" in model.verdict
    rows = table(section(model, Topic.SPEED))
    assert rows["answer, tok/s"] == ["unknown ?", "unknown ?"]
    assert rows["answer limited by"] == ["unknown ?", "unknown ?"]


@pytest.mark.parametrize("spec", [MOE, DENSE])
def test_each_term_stands_in_its_place_with_its_source(spec: object) -> None:
    report = report_of(spec)  # type: ignore[arg-type]
    plan = report.models[0].plan
    (model,) = document_of(report).models
    rows = table(section(model, Topic.MEMORY))
    for index, terms in enumerate((plan.vram, plan.ram)):
        assert terms
        for term in terms:
            cell = f"{in_unit(term.n_bytes, GIB)} {MARKS[term.source]}"
            assert rows[term.name][index] == cell
    assert rows["needed"][0].split()[0] == in_unit(plan.vram_bytes, GIB)
    assert rows["needed"][1].split()[0] == in_unit(plan.ram_bytes, GIB)
    assert rows["usable"][0].split()[0] == in_unit(plan.usable_vram_bytes, GIB)
    left = plan.usable_ram_bytes - plan.ram_bytes
    assert rows["left"][1].split()[0] == in_unit(left, GIB)


def test_a_table_that_stays_on_the_drive_is_not_in_ram() -> None:
    (model,) = document_of(report_of(MOE)).models
    assert table(section(model, Topic.MEMORY))["n-gram table"] == ["", "", "read here"]


def test_a_table_in_ram_is_in_the_sum() -> None:
    request = Request(quantization="Q2_0", tier=Tier.RAM)
    report = report_of(MOE, request=request)
    (model,) = document_of(report).models
    table_bytes = report.models[0].plan.weights.part(Part.TABLE)
    rows = table(section(model, Topic.MEMORY))
    assert rows["n-gram table"] == ["", f"{in_unit(table_bytes, GIB)} p", ""]


def test_what_is_missing_is_below_zero() -> None:
    (model,) = document_of(report_of(HUGE)).models
    assert table(section(model, Topic.MEMORY))["left"][1].startswith("-")


def test_files_that_are_there_need_no_room() -> None:
    (model,) = document_of(report_of(DENSE)).models
    assert table(section(model, Topic.MEMORY))["left"][-1] == "is there"


def test_without_a_gpu_there_is_no_vram() -> None:
    (model,) = document_of(report_of(DENSE, hardware=LAPTOP)).models
    (block,) = (b for b in section(model, Topic.MEMORY).blocks if isinstance(b, Table))
    assert [column.title for column in block.columns[1:]] == ["RAM, GiB", "drive, GiB"]
    assert not any(name.startswith("VRAM") for name, _ in model.key_values)


def test_only_models_with_a_table_have_a_section_on_it() -> None:
    moe, dense = document_of(report_of(MOE, DENSE)).models
    assert Topic.TABLE in {one.topic for one in moe.sections}
    assert Topic.TABLE not in {one.topic for one in dense.sections}


def test_table_section_has_rows_sizes_and_reads() -> None:
    report = report_of(MOE)
    (model,) = document_of(report).models
    found = section(model, Topic.TABLE)
    shape = table(found, "Tables")["1"]
    assert shape == ["320,001,536 p", "160 p", "2 3 p", "8 p", "16 p"]
    sizes = table(found, "Size in each of the known weights")
    assert set(sizes) == {"Q2_0", "Q4_K"}
    assert sizes["Q4_K"][:2] == ["90 p", "26.82 p"]
    reads = table(found, "Drive reads of 4 KiB if no row is in RAM")
    assert reads["reads/s the drive gives then"] == ["172,000 m", "410,000 m"]


def test_a_drive_of_unknown_speed_leaves_tiers_unknown() -> None:
    (model,) = document_of(report_of(SMALL, hardware=LAPTOP)).models
    rows = table(section(model, Topic.TABLE), "Where its rows may lie")
    assert rows["answer, tok/s"][1:] == ["unknown ?", "unknown ?"]
    assert rows["answer, tok/s"][0].endswith("~")


@pytest.mark.parametrize(
    ("n_ctx", "text"),
    [
        (None, "8,192 tokens (default)"),
        (4096, "4,096 tokens g"),
        (0, "131,072 tokens (as trained) g"),
    ],
)
def test_context_is_stated_with_its_source(n_ctx: int | None, text: str) -> None:
    (model,) = document_of(report_of(DENSE, request=Request(n_ctx=n_ctx))).models
    assert table(section(model, Topic.INPUTS))["context"] == [text]


def test_given_weights_are_told_from_chosen_ones() -> None:
    chosen, given = (
        table(section(document_of(report_of(MOE, request=one)).models[0], Topic.INPUTS))
        for one in (Request(), Request(quantization="q2_0"))
    )
    assert chosen["weights"] == ["Q4_K (chosen)"]
    assert given["weights"] == ["Q2_0 g"]


def test_grid_has_a_row_for_each_context() -> None:
    report = report_of(MOE)
    (model,) = document_of(report).models
    tables = [b for b in section(model, Topic.WHAT_IF).blocks if isinstance(b, Table)]
    pairs = {(cell.gpu, cell.weights, cell.n_ctx) for cell in report.models[0].grid}
    assert sum(len(one.rows) for one in tables) == len(pairs)


@pytest.mark.parametrize("asked", [None, Tier.RAM])
def test_grid_is_about_the_tier_that_the_plan_takes(asked: Tier | None) -> None:
    (model,) = document_of(report_of(MOE, request=Request(tier=asked))).models
    tables = [b for b in section(model, Topic.WHAT_IF).blocks if isinstance(b, Table)]
    tiers = {row[1].text for table in tables for row in table.rows}
    assert tiers == {"mmap" if asked is None else "ram"}


def test_commands_are_as_they_were_made() -> None:
    report = report_of(MOE)
    (model,) = document_of(report).models
    lines = [
        block.line
        for block in section(model, Topic.COMMANDS).blocks
        if isinstance(block, CommandLine)
    ]
    assert lines == [command.line for command in report.models[0].commands]


def test_several_models_are_side_by_side_three_in_a_table() -> None:
    document = document_of(report_of(MOE, DENSE, HUGE, SMALL))
    first = document.common[0]
    assert first.topic is Topic.MODELS
    widths = [len(block.columns) for block in first.blocks if isinstance(block, Table)]
    assert widths == [4, 2]


def test_one_model_is_not_beside_anything() -> None:
    assert [one.topic for one in document_of(report_of(MOE)).common] == [Topic.COMPUTER]


def test_legend_has_the_sources_that_occur() -> None:
    document: Document = document_of(report_of(DENSE, hardware=LAPTOP))
    assert document.sources == (
        Source.EXACT,
        Source.MEASURED,
        Source.ESTIMATED,
        Source.UNKNOWN,
    )


def test_each_source_has_its_own_mark_and_a_meaning() -> None:
    assert set(MARKS) == set(MEANINGS) == set(Source)
    assert len(set(MARKS.values())) == len(Source)
    assert all(len(mark) == 1 for mark in MARKS.values())


def test_weights_that_fit_nowhere_are_one_sentence() -> None:
    report = report_of(HUGE)
    (model,) = document_of(report).models
    blocks = section(model, Topic.WHAT_IF).blocks
    cells = report.models[0].grid
    least_bytes = min(cell.ram_bytes for cell in cells)
    sentences = [block.text for block in blocks if isinstance(block, Sentence)]
    assert len(sentences) == len(blocks) == 2
    assert f"{in_unit(least_bytes, GIB)} GiB of RAM" in sentences[0]
    assert sentences[0].startswith("FP8, this computer: does not fit; 4,096 tokens")
    assert sentences[1].startswith(f"FP8, {cells[-1].gpu}: does not fit")


def test_each_measured_type_of_weights_has_its_rates() -> None:
    cpu = replace(DESKTOP.cpu, compute=COMPUTE)
    document = document_of(report_of(DENSE, hardware=replace(DESKTOP, cpu=cpu)))
    table = document.common[0].blocks[0]
    assert isinstance(table, Table)
    rows = {row[0].text: row[1] for row in table.rows}
    assert rows["- weights read, Q4_0"].text == "36 GB/s"
    assert rows["- matrix products, Q4_1"].text == "90 GFLOPS"
    assert rows["- attention, prompt"].source is Source.MEASURED
    assert "- weights read" not in rows
