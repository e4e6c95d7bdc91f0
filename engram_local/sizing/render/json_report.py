"""A report as JSON: bytes are integers, rates are floats, what is unknown is null.

Keys end in their unit (`_bytes`, `_s`, `_per_s`; `_ctx` counts tokens). A number with
its source is `{"value", "source"}`, with a range `{"low", "value", "high", "source"}`,
a part of a memory `{"name", "n_bytes", "source"}`; other numbers have the `source` that
stands beside them. The keys: docs/report-json.md. Within a `schema_version` they stay,
and new ones may be added.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from engram_local.figures import Figure, Interval, Source, Term, weakest
from engram_local.hardware import Compute, Drive, Gpu, Hardware
from engram_local.model_spec import ModelSpec, Weights
from engram_local.sizing.choice import bits_per_weight
from engram_local.sizing.grid import Cell
from engram_local.sizing.plan import Plan, Speed
from engram_local.sizing.render.about_memory import ram_terms_of
from engram_local.sizing.report import SCHEMA_VERSION, ModelReport, Report
from engram_local.sizing.tiers import TierPlan, reads_of_token

Json = dict[str, Any]


def render_json(report: Report) -> str:
    """Return the report as ASCII text that ends in a newline."""
    return json.dumps(as_json(report), indent=2, allow_nan=False) + "\n"


def as_json(report: Report) -> Json:
    """Return the report as dictionaries, lists, strings, numbers and None."""
    return {
        "schema_version": SCHEMA_VERSION,
        "program": "engram-local",
        "version": report.version,
        "date": report.date,
        "command": report.command,
        "request": asdict(report.request),
        "hardware": _hardware(report.hardware),
        "models": [_model(model) for model in report.models],
    }


def _hardware(hardware: Hardware) -> Json:
    cpu, ram = hardware.cpu, hardware.ram
    return {
        "system": hardware.system,
        "cpu": {
            "name": cpu.name,
            "n_cores": cpu.n_cores,
            "compute": _compute(cpu.compute),
        },
        "ram": {
            "total_bytes": ram.total_bytes,
            "available_bytes": ram.available_bytes,
            "source": ram.source.value,
            "bytes_per_s": _figure(ram.bytes_per_s),
            "rows_per_s": _figure(ram.rows_per_s),
        },
        "gpus": [_gpu(gpu) for gpu in hardware.gpus],
        "drive": _drive(hardware.drive),
        "notes": list(hardware.notes),
    }


def _gpu(gpu: Gpu) -> Json:
    return {
        "name": gpu.name,
        "vram_bytes": gpu.vram_bytes,
        "free_bytes": gpu.free_bytes,
        "unified": gpu.unified,
        "source": gpu.source.value,
        "bytes_per_s": _figure(gpu.bytes_per_s),
        "host_bytes_per_s": _figure(gpu.host_bytes_per_s),
        "compute": _compute(gpu.compute),
    }


def _compute(compute: Compute) -> Json:
    return {
        "weight_bytes_per_s": _figure(compute.weight_bytes_per_s),
        "flops_per_s": _figure(compute.flops_per_s),
        "layer_s": _figure(compute.layer_s),
        "attention_flops_per_s": _figure(compute.attention_flops_per_s),
        "prompt_attention_flops_per_s": _figure(compute.prompt_attention_flops_per_s),
        "types": [
            {
                "name": rate.name,
                "weight_bytes_per_s": _figure(rate.weight_bytes_per_s),
                "flops_per_s": _figure(rate.flops_per_s),
            }
            for rate in compute.types
        ],
    }


def _drive(drive: Drive) -> Json:
    return {
        "name": drive.name,
        "file_system": drive.file_system,
        "rotational": drive.rotational,
        "free_bytes": drive.free_bytes,
        "bytes_per_s": _figure(drive.bytes_per_s),
        "reads": [
            {
                "depth": rate.depth,
                "reads_per_s": _figure(rate.reads_per_s),
                "latency_s": _number(rate.latency_s),
            }
            for rate in drive.reads
        ],
    }


def _model(model: ModelReport) -> Json:
    spec, plan, verdict = model.spec, model.plan, model.verdict
    return {
        "name": spec.name,
        "spec": _spec(spec),
        "verdict": {
            "outcome": verdict.outcome.value,
            "fits": plan.fits,
            "where": verdict.where,
            "binding": verdict.binding,
            "change": verdict.change,
        },
        "plan": _plan(plan),
        "table_reads": _table_reads(spec, plan),
        "longest_ctx": model.longest_ctx,
        "commands": [asdict(command) for command in model.commands],
        "grid": [_cell(cell) for cell in model.grid],
        "curve": [_point(point) for point in model.curve],
    }


def _spec(spec: ModelSpec) -> Json:
    names = (
        "architecture origin repository runs_here attached n_params n_active_params "
        "context_length vocab_size hidden_size n_layers n_heads ffn_size n_experts "
        "n_experts_used n_streams tied_output rows_per_token"
    )
    return {
        **{name: getattr(spec, name) for name in names.split()},
        "source": spec.source.value,
        "caches": [asdict(group) for group in spec.caches],
        "states": [asdict(group) for group in spec.states],
        "tables": [
            {**asdict(table), "orders": list(table.orders)} for table in spec.tables
        ],
        "weights": [_weights(spec, weights) for weights in spec.weights],
        "notes": list(spec.notes),
        "urls": dict(spec.urls),
    }


def _weights(spec: ModelSpec, weights: Weights) -> Json:
    return {
        "name": weights.name,
        "file_bytes": weights.file_bytes,
        "parts": {part.name.lower(): n for part, n in weights.parts.items()},
        "table_row_bytes": weights.table_row_bytes or None,
        "bits_per_weight": bits_per_weight(spec, weights),
        "native": weights.native,
        "url": weights.url or None,
        "source": weights.source.value,
    }


def _plan(plan: Plan) -> Json:
    return {
        "weights": plan.weights.name,
        "n_ctx": plan.n_ctx,
        "fits": plan.fits,
        "placement": asdict(plan.placement),
        "vram": _memory(plan.vram, plan.usable_vram_bytes, plan.missing_vram_bytes),
        "ram": _memory(
            ram_terms_of(plan), plan.usable_ram_bytes, plan.missing_ram_bytes
        ),
        "drive": {
            "file_bytes": plan.weights.file_bytes,
            "missing_bytes": plan.missing_disk_bytes,
            "source": plan.weights.source.value,
        },
        "tier": plan.tier.tier.value if plan.tier else None,
        "tiers": [_tier(tier) for tier in plan.tiers],
        "decode_per_s": _interval(plan.decode_per_s),
        "prompt_per_s": _interval(plan.prompt_per_s),
        "near": _speed(plan.near),
        "far": _speed(plan.far),
    }


def _memory(terms: Sequence[Term], usable_bytes: int, missing_bytes: int) -> Json:
    return {
        "terms": [_term(term) for term in terms],
        "n_bytes": sum(term.n_bytes for term in terms),
        "source": weakest(Source.EXACT, *(term.source for term in terms)).value,
        "usable_bytes": usable_bytes,
        "missing_bytes": missing_bytes,
    }


def _term(term: Term) -> Json:
    return {"name": term.name, "n_bytes": term.n_bytes, "source": term.source.value}


def _tier(plan: TierPlan) -> Json:
    return {
        "tier": plan.tier.value,
        "fits": plan.fits,
        "resident_bytes": plan.resident_bytes,
        "cached_part": _estimate(plan.cached_part),
        "decode_reads_per_s": _estimate(plan.decode_reads_per_s),
        "prompt_reads_per_s": _estimate(plan.prompt_reads_per_s),
        "stall_s": _interval(plan.stall_s),
        "decode_per_s": _interval(plan.decode_per_s),
        "prompt_per_s": _interval(plan.prompt_per_s),
        "decode_bound": plan.decode_bound,
        "prompt_bound": plan.prompt_bound,
    }


def _table_reads(spec: ModelSpec, plan: Plan) -> Json | None:
    """Return the drive reads of a token if no row is in RAM."""
    if plan.tier is None:
        return None
    decode = reads_of_token(spec, plan.weights, in_prompt=False)
    prompt = reads_of_token(spec, plan.weights, in_prompt=True)
    return {"decode": _estimate(decode), "prompt": _estimate(prompt)}


def _speed(speed: Speed) -> Json:
    return {
        "depth": speed.depth,
        "decode_per_s": _interval(speed.decode_per_s),
        "prompt_per_s": _interval(speed.prompt_per_s),
        "decode_bound": speed.decode_bound,
        "prompt_bound": speed.prompt_bound,
    }


def _cell(cell: Cell) -> Json:
    return {
        "gpu": cell.gpu,
        "weights": cell.weights,
        "n_ctx": cell.n_ctx,
        "tier": cell.tier.value if cell.tier else None,
        "fits": cell.fits,
        "place": cell.place.name.lower(),
        "vram_bytes": cell.vram_bytes,
        "ram_bytes": cell.ram_bytes,
        "bytes_source": Source.ESTIMATED.value,
        "longest_ctx": cell.longest_ctx,
        "decode_per_s": _interval(cell.decode_per_s),
        "prompt_per_s": _interval(cell.prompt_per_s),
    }


def _point(plan: Plan) -> Json:
    """Return a plan of the curve: what grows with the context."""
    return {
        "n_ctx": plan.n_ctx,
        "fits": plan.fits,
        "tier": plan.tier.tier.value if plan.tier else None,
        "placement": asdict(plan.placement),
        "vram": [_term(term) for term in plan.vram],
        "ram": [_term(term) for term in ram_terms_of(plan)],
    }


def _figure(figure: Figure | None) -> Json | None:
    if figure is None:
        return None
    return {"value": _number(figure.value), "source": figure.source.value}


def _estimate(value: float | None) -> Json | None:
    return None if value is None else _figure(Figure(value, Source.ESTIMATED))


def _interval(interval: Interval | None) -> Json | None:
    if interval is None:
        return None
    return {
        "low": _number(interval.low),
        "value": _number(interval.value),
        "high": _number(interval.high),
        "source": interval.source.value,
    }


def _number(value: float | None) -> float | None:
    """JSON has neither infinity nor NaN: they are not known either."""
    return float(value) if value is not None and math.isfinite(value) else None
