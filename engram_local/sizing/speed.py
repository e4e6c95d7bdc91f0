"""How long a token takes: bytes over bandwidths, operations over rates.

    decode   t = sum over devices (layers / layers_per_s + bytes / weight_bytes_per_s)
    prompt   t = sum over devices (operations / flops_per_s)

A single factor cannot describe a device: one box reached 38 % of its bandwidth on one
model and 90 % on another, because a step has a cost per layer too
(https://github.com/0xBakeer/qwen38-flash-next-spark, docs/measurements.md). Waiting for
rows of an n-gram table comes on top (tiers.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engram_local.figures import Figure, Interval, Source, weakest
from engram_local.hardware import Cpu, Gpu, Hardware, Ram
from engram_local.model_spec import ModelSpec, Part, Weights
from engram_local.sizing.allocations import (
    Placement,
    cache_bytes,
    layers_on_gpu,
    state_bytes,
)
from engram_local.sizing.request import Request

_MEASURED_SPREAD = 0.1
"""Two runs of one model on one machine differ by as much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """How fast a device runs a graph, with what is not known of it as intervals."""

    weight_bytes_per_s: Interval
    layers_per_s: Interval
    flops_per_s: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one token makes one device do."""

    device: str
    n_layers: float
    read_bytes: float
    """Weights, keys and values, states."""

    n_operations: float
    """Multiplications and additions of a prompt token."""

    streamed_bytes: float
    """Weights in RAM that one prompt batch could copy to a GPU instead, per token."""

    rates: Rates


@dataclass(frozen=True, slots=True, kw_only=True)
class Time:
    """Seconds of one token without waiting for table rows; `low` is the fastest."""

    seconds: Interval
    bound: str
    """What takes most of it: "GPU memory bandwidth", "processor compute" ..."""


def decode_time(works: Sequence[Work]) -> Time:
    """Return the time of one generated token."""
    parts = {}
    for work in works:
        rates = work.rates
        bandwidth = f"{work.device} memory bandwidth"
        parts[bandwidth] = _over(work.read_bytes, rates.weight_bytes_per_s)
        steps = f"fixed costs of {work.device} layers"
        parts[steps] = _over(work.n_layers, rates.layers_per_s)
    return _add(parts)


def prompt_time(works: Sequence[Work], copies_per_s: Figure | None) -> Time:
    """Return the time of one prompt token in a full batch.

    copies_per_s: bytes from RAM to the GPU. llama.cpp copies weights that lie in RAM to
    the GPU for a large batch, where there is one; the faster way counts.
    """
    parts = {}
    for work in works:
        compute = _over(work.n_operations, work.rates.flops_per_s)
        if work.streamed_bytes and copies_per_s is not None:
            copied = _over(work.streamed_bytes, _spread(copies_per_s))
            if copied.value < compute.value:
                parts["copies from RAM to the GPU"] = copied
                continue
        parts[f"{work.device} compute"] = compute
    return _add(parts)


def works_of(
    spec: ModelSpec,
    weights: Weights,
    request: Request,
    placement: Placement,
    hardware: Hardware,
    *,
    depth: int,
) -> list[Work] | None:
    """Return what each device does for a token after `depth` others.

    None if a GPU is used of which no speed is known.
    """
    on_gpu = layers_on_gpu(spec, placement) / spec.n_layers
    experts_on_gpu = max(on_gpu - placement.n_cpu_experts / spec.n_layers, 0.0)
    layers = weights.part(Part.LAYERS)
    experts = weights.part(Part.EXPERTS) * _used_part(spec)
    kept = _read_cache_bytes(spec, request, depth) + 2 * state_bytes(spec)
    output = weights.part(Part.EMBEDDING if spec.tied_output else Part.OUTPUT)
    n_operations = _operations(spec, depth)

    def work(device: str, part: float, expert_part: float, rates: Rates) -> Work:
        n_bytes = part * layers + expert_part * experts
        has_output = (device == "GPU") == (placement.n_gpu_layers > 0)
        is_host = device != "GPU" and placement.n_gpu_layers > 0
        whole = part * layers + expert_part * weights.part(Part.EXPERTS)
        return Work(
            device=device,
            n_layers=max(part, expert_part) * spec.n_layers,
            read_bytes=n_bytes + part * kept + output * has_output,
            n_operations=n_operations * n_bytes / max(layers + experts, 1),
            streamed_bytes=whole / request.n_ubatch if is_host else 0.0,
            rates=rates,
        )

    works = []
    if placement.n_gpu_layers:
        rates = [gpu_rates(gpu) for gpu in hardware.gpus]
        known = [one for one in rates if one is not None]
        if len(known) < max(len(rates), 1):
            return None
        slowest = min(known, key=lambda one: one.weight_bytes_per_s.value)
        works.append(work("GPU", on_gpu, experts_on_gpu, slowest))
    if on_gpu < 1 or experts_on_gpu < on_gpu or not placement.n_gpu_layers:
        rates_here = cpu_rates(hardware.cpu, hardware.ram)
        works.append(work("processor", 1 - on_gpu, 1 - experts_on_gpu, rates_here))
    return works


def _used_part(spec: ModelSpec) -> float:
    return spec.n_experts_used / spec.n_experts if spec.n_experts else 0.0


def _read_cache_bytes(spec: ModelSpec, request: Request, depth: int) -> int:
    """Return the bytes of keys and values that attention reads at this depth."""
    return sum(
        cache_bytes(group, request, min(depth, group.window or depth))
        for group in spec.caches
    )


def _operations(spec: ModelSpec, depth: int) -> float:
    """Return the operations of a prompt token in the middle of `depth`.

    Two per active parameter; the output is computed for the last token only. Attention:
    scores and sums, two each per value of a query and earlier token.
    """
    n_params = spec.n_active_params - spec.vocab_size * spec.hidden_size
    n_cached = sum(group.n_layers for group in spec.caches)
    return 2.0 * max(n_params, 0) + 4.0 * n_cached * spec.hidden_size * depth / 2


def gpu_rates(gpu: Gpu) -> Rates | None:
    """Return a GPU's rates; None if its bandwidth is neither measured nor listed.

    The parts of the datasheet's rates that llama.cpp reaches: docs/accuracy.md.
    """
    compute = gpu.compute
    if compute.weight_bytes_per_s is None and gpu.bytes_per_s is None:
        return None
    return Rates(
        weight_bytes_per_s=_rate(
            compute.weight_bytes_per_s, gpu.bytes_per_s, (0.4, 0.65, 0.9)
        ),
        layers_per_s=_layer_rate(compute.layer_s, (12e3, 30e3, 60e3)),
        flops_per_s=_flops(compute.flops_per_s, (0.15, 0.5, 1.1)),
    )


def cpu_rates(cpu: Cpu, ram: Ram) -> Rates:
    """Return a processor's rates; wide where nothing was measured."""
    compute = cpu.compute
    per_core = Figure(cpu.n_cores * 1e9, Source.ESTIMATED)
    return Rates(
        weight_bytes_per_s=_cpu_weight_rate(cpu, ram),
        layers_per_s=_layer_rate(compute.layer_s, (5e3, 15e3, 50e3)),
        flops_per_s=_rate(compute.flops_per_s, per_core, (15, 45, 120)),
    )


def _cpu_weight_rate(cpu: Cpu, ram: Ram) -> Interval:
    """A core reads 3 to 16 GB/s of weights, all of them no more than RAM gives."""
    if cpu.compute.weight_bytes_per_s is not None:
        return _spread(cpu.compute.weight_bytes_per_s)
    cores = [rate * 1e9 * cpu.n_cores for rate in (3, 8, 16)]
    if ram.bytes_per_s is None:
        limits = [15e9, 35e9, 90e9]  # one channel of DDR4 to two of DDR5
    else:
        limits = [ram.bytes_per_s.value * part for part in (0.5, 0.75, 0.95)]
    low, value, high = map(min, cores, limits)
    return Interval(low, value, high, Source.ESTIMATED)


def _flops(rate: Figure | None, parts: tuple[float, float, float]) -> Interval:
    """A datasheet's rate is a peak, a measured one is what llama.cpp reached."""
    if rate is not None and rate.source is Source.MEASURED:
        return _spread(rate)
    return _rate(None, rate or Figure(20e12, Source.ESTIMATED), parts)


def _rate(
    measured: Figure | None, listed: Figure | None, parts: tuple[float, float, float]
) -> Interval:
    if measured is not None:
        return _spread(measured)
    assert listed is not None
    low, value, high = (listed.value * part for part in parts)
    return Interval(low, value, high, Source.ESTIMATED)


def _layer_rate(
    layer_s: Figure | None, otherwise: tuple[float, float, float]
) -> Interval:
    if layer_s is None or layer_s.value <= 0:
        return Interval(*otherwise, Source.ESTIMATED)
    return _spread(Figure(1 / layer_s.value, layer_s.source))


def _spread(figure: Figure) -> Interval:
    low, high = 1 - _MEASURED_SPREAD, 1 + _MEASURED_SPREAD
    return Interval(
        figure.value * low, figure.value, figure.value * high, figure.source
    )


def _over(amount: float, rate: Interval) -> Interval:
    """Return the seconds for `amount`: a slow rate makes a long time."""
    return Interval(
        amount / rate.high, amount / rate.value, amount / rate.low, rate.source
    )


def _add(parts: dict[str, Interval]) -> Time:
    used = [part for part in parts.values() if part.value > 0]
    seconds = Interval(
        sum(part.low for part in used),
        sum(part.value for part in used),
        sum(part.high for part in used),
        weakest(*(part.source for part in used)),
    )
    return Time(seconds=seconds, bound=max(parts, key=lambda name: parts[name].value))
