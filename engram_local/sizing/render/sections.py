"""A report -> a document: what is said, in which order."""

from __future__ import annotations

from engram_local.model_spec import ModelSpec
from engram_local.sizing.plan import Plan
from engram_local.sizing.render.about_computer import computer_name, computer_section
from engram_local.sizing.render.about_memory import memory_section
from engram_local.sizing.render.about_model import (
    commands_section,
    inputs_section,
    notes_section,
)
from engram_local.sizing.render.about_speed import (
    key_values,
    speed_section,
    what_if_section,
)
from engram_local.sizing.render.about_table import bound_value, table_section
from engram_local.sizing.render.document import (
    Column,
    Document,
    ModelPart,
    Section,
    Table,
    Topic,
    Value,
    harmless,
)
from engram_local.sizing.render.numbers import number, unit_of
from engram_local.sizing.report import ModelReport, Report
from engram_local.sizing.verdict import Verdict

_SIDE_BY_SIDE = 3
"""Models in one table: as many as 80 columns hold."""


def document_of(report: Report) -> Document:
    """Return all that a report says, ready to be drawn."""
    unit = unit_of(max(_largest_bytes(model.plan) for model in report.models))
    models = tuple(_model(model, report, *unit) for model in report.models)
    names = ", ".join(model.spec.name for model in report.models)
    return Document(
        title=harmless(f"{names} on {computer_name(report.hardware)}"),
        origin=harmless(f"engram-local {report.version}, {report.date}"),
        command=harmless(report.command),
        common=(
            *([_comparison(models)] if len(models) > 1 else []),
            computer_section(report.hardware),
        ),
        models=models,
    )


def _largest_bytes(plan: Plan) -> int:
    return max(plan.vram_bytes, plan.ram_bytes)


def _model(model: ModelReport, report: Report, unit_bytes: int, unit: str) -> ModelPart:
    sections = (
        inputs_section(model, report.request),
        memory_section(model, report.hardware),
        table_section(model, report.hardware),
        speed_section(model),
        what_if_section(model),
        commands_section(model),
        notes_section(model),
    )
    return ModelPart(
        report=model,
        name=harmless(f"{model.spec.name} {model.plan.weights.name}"),
        outcome=model.verdict.outcome.value,
        binding=model.verdict.binding,
        verdict=verdict_line(model.spec, model.plan, model.verdict),
        key_values=key_values(model, report.hardware, unit_bytes, unit),
        sections=tuple(section for section in sections if section is not None),
    )


def verdict_line(spec: ModelSpec, plan: Plan, verdict: Verdict) -> str:
    """Return one line: the answer, the speed, what binds, the cheapest change."""
    words = f"{spec.name} {plan.weights.name} {verdict.outcome}"
    words += f" at a context of {plan.n_ctx:,} tokens"
    if plan.fits:
        words += f": {_speed(plan)}, limited by {verdict.binding}"
    else:
        words += f": it needs {verdict.binding}"
    if not spec.runs_here:
        words += f". This llama.cpp cannot run {spec.architecture}"
    if verdict.change is not None:
        words += f". Cheapest change: {verdict.change}"
    return harmless(f"{words}.")


def _speed(plan: Plan) -> str:
    rate = plan.decode_per_s
    if rate is None:
        return "speed unknown"
    low, value, high = map(number, (rate.low, rate.value, rate.high))
    return f"{value} tok/s ({low} to {high}, {rate.source})"


def _comparison(models: tuple[ModelPart, ...]) -> Section:
    """Return tables of a few models each, which fit beside each other."""
    starts = range(0, len(models), _SIDE_BY_SIDE)
    tables = (_side_by_side(models[n : n + _SIDE_BY_SIDE]) for n in starts)
    return Section(topic=Topic.MODELS, blocks=tuple(tables))


def _side_by_side(models: tuple[ModelPart, ...]) -> Table:
    names = [name for name, _ in models[0].key_values]
    columns = zip(*(model.key_values for model in models), strict=True)
    values = (tuple(value for _, value in column) for column in columns)
    numbers = zip(names, values, strict=True)
    return Table(
        columns=(Column("", is_number=False), *(Column(one.name) for one in models)),
        rows=(
            (Value("fits?"), *(Value(one.outcome) for one in models)),
            *((Value(name), *row) for name, row in numbers),
            (Value("limited by"), *(bound_value(one.binding) for one in models)),
        ),
    )
