"""What a report says about a model and what was asked of it; how to run it; notes."""

from __future__ import annotations

from collections.abc import Iterator

from engram_local.figures import Source
from engram_local.model_spec import ModelSpec
from engram_local.sizing.choice import bits_per_weight
from engram_local.sizing.plan import Plan
from engram_local.sizing.render.document import (
    Block,
    Column,
    CommandLine,
    Section,
    Sentence,
    Table,
    Topic,
    Value,
)
from engram_local.sizing.render.numbers import in_unit, parameters, unit_of
from engram_local.sizing.report import ModelReport
from engram_local.sizing.request import Request
from engram_local.units import format_count

Row = tuple[Value, ...]


def inputs_section(model: ModelReport, request: Request) -> Section:
    """Return what the arithmetic started from."""
    spec = model.spec
    rows = (*_model_rows(spec), *_asked_rows(model.plan, request))
    columns = (Column("input", is_number=False), Column("value", is_number=False))
    blocks: list[Block] = [Table(columns=columns, rows=rows)]
    if len(spec.weights) > 1:
        blocks.append(_weights_table(model))
    return Section(topic=Topic.INPUTS, blocks=tuple(blocks))


def commands_section(model: ModelReport) -> Section | None:
    """Return the commands; None if nothing that is known can run the model here."""
    blocks = tuple(
        CommandLine(title=_join(command.program, command.note), line=command.line)
        for command in model.commands
    )
    return Section(topic=Topic.COMMANDS, blocks=blocks) if blocks else None


def notes_section(model: ModelReport) -> Section | None:
    """Return what is special about a model, and where its numbers stand."""
    spec = model.spec
    urls = {f"weights {weights.name}": weights.url for weights in spec.weights}
    urls |= spec.urls
    sentences = [
        *spec.notes,
        *(f"{name}: {url}" for name, url in urls.items() if url),
    ]
    if not sentences:
        return None
    return Section(topic=Topic.NOTES, blocks=tuple(map(Sentence, sentences)))


def _join(program: str, note: str) -> str:
    return f"{program}, {note}" if note else program


def _row(name: str, text: str, source: Source | None = None) -> Row:
    return (Value(name), Value(text, source))


def _model_rows(spec: ModelSpec) -> Iterator[Row]:
    source = spec.source
    known = "" if spec.runs_here else ", not known to this llama.cpp"
    yield _row("architecture", spec.architecture + known)
    yield _row("found in", spec.origin)
    if spec.repository:
        yield _row("published as", spec.repository)
    yield _row("parameters", _params(spec), source)
    yield _row("layers", format_count(spec.n_layers), source)
    for group in spec.caches:
        kept = (
            f" of the last {format_count(group.window)} tokens" if group.window else ""
        )
        kept += f", one for {group.ratio} tokens" if group.ratio > 1 else ""
        yield _row(f"- {group.kind}", f"{_layers(group.n_layers)}{kept}", source)
    for state in spec.states:
        yield _row("- recurrent", _layers(state.n_layers), source)
    if spec.n_experts:
        experts = f"{spec.n_experts_used} of {spec.n_experts} per token"
        yield _row("experts", experts, source)
    yield _row("trained context", f"{format_count(spec.context_length)} tokens", source)


def _layers(count: int) -> str:
    return "1 layer" if count == 1 else f"{format_count(count)} layers"


def _params(spec: ModelSpec) -> str:
    words = [parameters(spec.n_params)]
    if spec.n_active_params < spec.n_params:
        words.append(f"{parameters(spec.n_active_params)} active")
    if spec.table_params:
        words.append(f"{parameters(spec.table_params)} in n-gram tables")
    return ", ".join(words)


def _asked_rows(plan: Plan, request: Request) -> Iterator[Row]:
    yield _context_row(plan, request)
    asked = request.quantization is not None
    chosen = "" if asked else " (chosen)"
    yield _row("weights", plan.weights.name + chosen, Source.GIVEN if asked else None)
    layers = request.n_gpu_layers
    if layers is not None:
        yield _row("layers on GPUs (-ngl)", format_count(layers), Source.GIVEN)
    types = f"keys {request.cache_type_k}, values {request.cache_type_v}"
    yield _row("KV cache", types)
    flash = "on" if request.flash_attention else "off"
    yield _row(
        "batch", f"{format_count(request.n_ubatch)} tokens, flash attention {flash}"
    )


def _context_row(plan: Plan, request: Request) -> Row:
    text = f"{format_count(plan.n_ctx)} tokens"
    if request.n_ctx is None:
        return _row("context", f"{text} (default)")
    if request.n_ctx == 0:
        return _row("context", f"{text} (as trained)", Source.GIVEN)
    return _row("context", text, Source.GIVEN)


def _weights_table(model: ModelReport) -> Table:
    weights = model.spec.weights
    unit_bytes, unit = unit_of(max(one.file_bytes for one in weights))
    return Table(
        title="Weights that are known",
        columns=(
            Column("weights", is_number=False),
            Column(f"files, {unit}"),
            Column("bits per weight"),
        ),
        rows=tuple(
            (
                Value(one.name),
                Value(in_unit(one.file_bytes, unit_bytes), one.source),
                Value(f"{bits_per_weight(model.spec, one):.2f}", one.source),
            )
            for one in weights
        ),
    )
