"""The plan against what other people measured: `python docs/accuracy/compare.py`.

Runs the functions that `size` runs, for every load and speed of published.toml, and
prints Markdown: predicted, published, error.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

if __name__ == "__main__":  # started as a script: the checkout is not on the path
    sys.path.insert(0, str(Path(__file__).parents[2]))

from docs.accuracy.published import (
    PublishedLoad,
    PublishedSpeed,
    load_published,
    load_speeds,
)
from docs.benchmarks.common import print_table
from engram_local.figures import Figure, Interval, Source
from engram_local.hardware import Cpu, Drive, Hardware, Ram
from engram_local.sizing.allocations import Placement, gpu_terms
from engram_local.sizing.datasheets import find_gpu
from engram_local.sizing.machine import gpu_of
from engram_local.sizing.plan import make_plan
from engram_local.sizing.request import Request
from engram_local.sizing.speed import Share, decode_time, prompt_time, shares_of
from engram_local.sizing.tiers import rate_of
from engram_local.units import GIB, MIB

LLAMA = "llama.cpp"
"""Other engines place experts as the plan cannot; their speeds do not count."""

_RAM_BYTES = 256 * GIB  # of computers whose RAM is not published: enough
_TERMS = {
    "weights": "weights_bytes",
    "KV cache": "kv_bytes",
    "recurrent state": "state_bytes",
    "compute buffers": "compute_bytes",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """A published speed in tokens per second, and the interval predicted for it."""

    id: str
    engine: str
    what: str
    predicted: Interval
    published: float

    @property
    def inside(self) -> bool:
        """Whether the interval holds it."""
        return self.predicted.low <= self.published <= self.predicted.high

    @property
    def error(self) -> float:
        """Of the interval's value, as a part of what was published."""
        return self.predicted.value / self.published - 1


def predicted_terms(load: PublishedLoad) -> dict[str, int]:
    """Return the bytes that the plan expects in VRAM, by term."""
    spec = load.model
    request = Request(
        n_ctx=load.n_ctx,
        n_ubatch=load.n_ubatch,
        cache_type_k=load.cache_type,
        cache_type_v=load.cache_type,
        flash_attention=load.flash_attention,
        n_sequences=load.n_seqs,
        unified=load.unified,
        n_outputs=load.n_outputs,
    )
    placement = Placement(
        n_gpu_layers=spec.n_layers + 1, n_cpu_experts=load.n_expert_layers_in_ram
    )
    terms = gpu_terms(spec, spec.weights[0], request, placement, load.n_devices)
    return {term.name: term.n_bytes for term in terms}


def published_terms(load: PublishedLoad) -> dict[str, int]:
    """Return the published bytes by the plan's names, those that are known."""
    named = {term: getattr(load, field) for term, field in _TERMS.items()}
    return {term: n_bytes for term, n_bytes in named.items() if n_bytes is not None}


def reached(speed: PublishedSpeed) -> Iterator[Reached]:
    """Yield what was published of decode and prompts, each with its prediction."""
    if speed.decode_per_s is not None:
        depth = speed.depth + (speed.n_decode or 512) // 2
        time = decode_time(used_shares(speed, depth))
        yield _reached(speed, "decode", time.seconds, speed.decode_per_s)
    if speed.prompt_per_s is not None:
        depth = speed.n_prompt or 512
        copies = hardware_of(speed).gpus[0].host_bytes_per_s
        time = prompt_time(used_shares(speed, depth), copies)
        yield _reached(speed, "prompt", time.seconds, speed.prompt_per_s)


def _reached(
    speed: PublishedSpeed, what: str, seconds: Interval, published: float
) -> Reached:
    return Reached(
        id=speed.id,
        engine=speed.engine,
        what=what,
        predicted=rate_of(seconds),
        published=published,
    )


def used_shares(speed: PublishedSpeed, depth: int) -> list[Share]:
    """Return what each device did for a token after `depth` others."""
    spec, hardware = speed.model, hardware_of(speed)
    weights, request = spec.weights[0], Request(n_ctx=0, n_ubatch=speed.n_ubatch)
    if speed.engine == LLAMA:
        placement = Placement(
            n_gpu_layers=spec.n_layers + 1, n_cpu_experts=speed.n_expert_layers_in_ram
        )
    else:
        placement = make_plan(spec, weights, request, hardware).placement
    shares = shares_of(spec, weights, request, placement, hardware, depth=depth)
    assert shares is not None
    return shares


def hardware_of(speed: PublishedSpeed) -> Hardware:
    """Return the computer, as far as it is published, from data sheets."""
    sheet = find_gpu(speed.device)
    n_bytes = sheet.vram_bytes or _RAM_BYTES
    gpu = gpu_of(
        sheet,
        name=sheet.name,
        vram_bytes=n_bytes,
        free_bytes=n_bytes,
        unified=sheet.unified,
    )
    rate = speed.ram_bytes_per_s
    ram_rate = None if rate is None else Figure(rate, Source.PUBLISHED)
    return Hardware(
        cpu=Cpu(name="", n_cores=speed.n_cores),
        ram=Ram(
            total_bytes=_RAM_BYTES, available_bytes=_RAM_BYTES, bytes_per_s=ram_rate
        ),
        gpus=(gpu,) * speed.n_devices,
        drive=Drive(name="", file_system=None, rotational=None, free_bytes=None),
        system="",
    )


def print_loads(loads: Sequence[PublishedLoad]) -> None:
    """Print a line per load, then how far the totals are off."""
    head = ["load", *_TERMS, "driver", "total", "error"]
    print_table(head, [_load_row(load) for load in loads])
    totals = [load for load in loads if load.total_bytes is not None]
    print("\nMiB, predicted / published; a dash: not published.\n")
    current = [load for load in totals if not load.superseded]
    _print_errors("all totals", current)
    for split in ("none", "layer", "tensor"):
        _print_errors(f"split {split}", [one for one in current if one.split == split])
    _print_errors("superseded", [load for load in totals if load.superseded])


def _load_row(load: PublishedLoad) -> list[str]:
    predicted, published = predicted_terms(load), published_terms(load)
    cells = [_pair(predicted.get(term, 0), published.get(term)) for term in _TERMS]
    driver, total = predicted["driver"], sum(predicted.values())
    error = f"{total_error(load):+.1%}" if load.total_bytes is not None else "-"
    name = load.id + (" (superseded)" if load.superseded else "")
    return [name, *cells, f"{driver / MIB:,.0f}", _pair(total, load.total_bytes), error]


def _pair(predicted: int, published: int | None) -> str:
    there = "-" if published is None else f"{published / MIB:,.0f}"
    return f"{predicted / MIB:,.0f} / {there}"


def total_error(load: PublishedLoad) -> float:
    """Return by what part of it the predicted total differs from the published one."""
    assert load.total_bytes is not None
    return sum(predicted_terms(load).values()) / load.total_bytes - 1


def _print_errors(name: str, loads: Sequence[PublishedLoad]) -> None:
    errors = [total_error(load) for load in loads]
    n_under = sum(error < 0 for error in errors)
    print(
        f"* {name}: {len(errors)}, mean {fmean(errors):+.1%}, from {min(errors):+.1%} "
        f"to {max(errors):+.1%}, {n_under} under"
    )


def print_speeds(speeds: Sequence[PublishedSpeed]) -> None:
    """Print a line per speed, then how many lie in their interval."""
    rows = [one for speed in speeds for one in reached(speed)]
    head = ["speed", "what", "predicted tok/s", "published", "error", "inside"]
    print_table(head, [_speed_row(one) for one in rows])
    print()
    for what in ("decode", "prompt"):
        own = [one for one in rows if one.engine == LLAMA and one.what == what]
        n_inside = sum(one.inside for one in own)
        error = fmean(abs(one.error) for one in own)
        print(
            f"* {what}: {n_inside} of {len(own)} inside ({n_inside / len(own):.0%}), "
            f"mean error {error:.0%}"
        )


def _speed_row(one: Reached) -> list[str]:
    low, value, high = one.predicted.low, one.predicted.value, one.predicted.high
    inside = "yes" if one.inside else "no"
    return [
        one.id,
        one.what,
        f"{value:,.0f} ({low:,.0f}-{high:,.0f})",
        f"{one.published:,.1f}",
        f"{one.error:+.0%}",
        inside if one.engine == LLAMA else f"{inside}; {one.engine}",
    ]


if __name__ == "__main__":
    print_loads(load_published())
    print()
    print_speeds(load_speeds())
