"""How long a token takes: bytes over bandwidths, operations over rates.

    decode   t = sum over devices (layers / layers_per_s + bytes / weight_bytes_per_s
                 + attention / attention_flops_per_s)
    prompt   t = sum over devices (operations / flops_per_s
                 + attention / prompt_attention_flops_per_s)

Reading a GPU's weights once per batch takes longer than the operations where a token
uses few of many experts; the longer one counts.

A single factor cannot describe a device: one box reached 38 % of its bandwidth on one
model and 90 % on another, because a step has a cost per layer too
(https://github.com/0xBakeer/qwen38-flash-next-spark, docs/measurements.md). Where a
probe has measured a processor, its numbers are those of `hardware.Compute`. Waiting for
rows of an n-gram table comes on top (tiers.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

from engram_local.figures import Figure, Interval, Source, weakest
from engram_local.hardware import Compute, Cpu, Gpu, Hardware, Ram
from engram_local.model_spec import INDEXER, ModelSpec, Part, Weights
from engram_local.sizing.allocations import Placement, layers_on_gpu
from engram_local.sizing.cache import cache_bytes, state_bytes
from engram_local.sizing.request import Request

_GPU = "GPU"
_UNKNOWN_FLOPS = (3e12, 10e12, 40e12)
"""Of GPUs whose makers give no rate: Apple's M4, M1 Max, NVIDIA's GB10."""

_MEASURED_SPREAD = 0.1
"""Two runs of one model on one machine differ by as much."""

_OTHER_TYPE_SPREAD = 0.5
"""Of weights of a type that was not measured, where others were: Q4_1 and Q8_0 are
0.67 and 1.1 times the geometric mean of three in decode, 0.44 and 1.1 in prompts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """How fast a device runs a graph, with what is not known of it as intervals."""

    weight_bytes_per_s: Interval
    layers_per_s: Interval
    flops_per_s: Interval
    attention_flops_per_s: Interval | None
    """Of a decode step; None = reading keys and values is what takes the time."""

    prompt_attention_flops_per_s: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one token makes one device do."""

    device: str
    n_layers: int
    weight_bytes: float
    """Read in a decode step; the output counts, the token embedding does not."""

    token_flops: float
    """Of a prompt token, attention apart."""

    decode_attention_flops: float
    prompt_attention_flops: float
    """Of a token in the mean."""

    cache_bytes: float
    """Keys, values and states that a decode step reads."""

    streamed_bytes: float
    """Weights that a prompt batch reads, per token: from VRAM; or those in RAM that
    it could copy to a GPU instead. 0 = there is no GPU."""

    rates: Rates

    @property
    def on_gpu(self) -> bool:
        """Whether it is a GPU's."""
        return self.device == _GPU


@dataclass(frozen=True, slots=True, kw_only=True)
class Time:
    """Seconds of one token without waiting for table rows; `low` is the fastest."""

    seconds: Interval
    bound: str
    """What takes most of it: "GPU memory bandwidth", "processor compute" ..."""


def decode_time(shares: Sequence[Share]) -> Time:
    """Return the time of one generated token."""
    parts = {}
    for share in shares:
        rates, device = share.rates, share.device
        n_bytes = share.weight_bytes
        if rates.attention_flops_per_s is None:
            n_bytes += share.cache_bytes
        else:
            parts[f"{device} attention"] = _over(
                share.decode_attention_flops, rates.attention_flops_per_s
            )
        parts[f"{device} memory bandwidth"] = _over(n_bytes, rates.weight_bytes_per_s)
        parts[f"{device} steps per layer"] = _over(share.n_layers, rates.layers_per_s)
    return _add(parts)


def prompt_time(shares: Sequence[Share], copies: Figure | None) -> Time:
    """Return the mean time of one prompt token.

    copies: bytes per second from RAM to the GPU. llama.cpp copies weights that lie in
    RAM to the GPU for a large batch, where there is one, and then computes there; the
    faster way counts.
    """
    parts = {}
    gpu = next((share.rates for share in shares if share.on_gpu), None)
    for share in shares:
        rates, device = share.rates, share.device
        name, compute = f"{device} compute", _over(share.token_flops, rates.flops_per_s)
        if share.on_gpu:
            read = _over(share.streamed_bytes, rates.weight_bytes_per_s)
            if read.value > compute.value:
                name = f"{device} memory bandwidth"
            compute = longer(read, compute)
        elif share.streamed_bytes and copies is not None and gpu is not None:
            copied = sum_of(
                _over(share.streamed_bytes, _spread(copies)),
                _over(share.token_flops, gpu.flops_per_s),
            )
            if copied.value < compute.value:
                name, compute = "copies from RAM to the GPU", copied
        parts[name] = compute
        parts[f"{device} attention"] = _over(
            share.prompt_attention_flops, rates.prompt_attention_flops_per_s
        )
    return _add(parts)


def shares_of(
    spec: ModelSpec,
    weights: Weights,
    request: Request,
    placement: Placement,
    hardware: Hardware,
    *,
    depth: int,
) -> list[Share] | None:
    """Return what each device does for a token after `depth` others, and for one of a
    prompt of that length.

    None if a GPU is used of which no speed is known, or if there is nothing to compute.
    """
    parts = _Parts.of(spec, placement)
    totals = _Totals.of(spec, weights, request, depth)
    shares = []
    per_token = 1 / max(min(request.n_ubatch, depth), 1)
    if placement.n_gpu_layers:
        rates = slowest_gpu(hardware.gpus, weights.name)
        if rates is None:
            return None
        shares.append(_share(_GPU, parts, totals, rates, per_token))
    rest = parts.rest()
    if rest.experts or rest.layers or rest.output:
        rates = cpu_rates(hardware.cpu, hardware.ram, weights.name)
        per_token *= placement.n_gpu_layers > 0
        shares.append(_share("processor", rest, totals, rates, per_token))
    works = any(share.token_flops + share.prompt_attention_flops for share in shares)
    return shares if works else None


@dataclass(frozen=True, slots=True)
class _Parts:
    """How much of a model one device computes."""

    layers: float
    experts: float
    output: float

    @classmethod
    def of(cls, spec: ModelSpec, placement: Placement) -> _Parts:
        on_gpu = layers_on_gpu(spec, placement)
        experts = max(on_gpu - placement.n_cpu_experts, 0)
        output = float(placement.n_gpu_layers > 0)
        return cls(on_gpu / spec.n_layers, experts / spec.n_layers, output)

    def rest(self) -> _Parts:
        return _Parts(1 - self.layers, 1 - self.experts, 1 - self.output)


@dataclass(frozen=True, slots=True)
class _Totals:
    """What one token takes, wherever."""

    n_layers: int
    layer_bytes: int
    expert_bytes: int
    used_experts: float
    output_bytes: int
    cache_bytes: int
    token_flops: float
    decode_attention_flops: float
    prompt_attention_flops: float

    @classmethod
    def of(
        cls, spec: ModelSpec, weights: Weights, request: Request, depth: int
    ) -> _Totals:
        output = Part.EMBEDDING if spec.tied_output else Part.OUTPUT
        used = spec.n_experts_used / spec.n_experts if spec.n_experts else 0.0
        return cls(
            n_layers=spec.n_layers,
            layer_bytes=weights.part(Part.LAYERS),
            expert_bytes=weights.part(Part.EXPERTS),
            used_experts=used,
            output_bytes=weights.part(output),
            cache_bytes=_read_bytes(spec, request, depth),
            token_flops=2.0 * _prompt_params(spec),
            decode_attention_flops=_attention_flops(spec, depth, _attended),
            prompt_attention_flops=_attention_flops(spec, depth, _attended_on_average),
        )


def _share(
    device: str, part: _Parts, totals: _Totals, rates: Rates, per_token: float
) -> Share:
    """per_token: 1 over the tokens of a batch that streams this device's weights."""
    layers = part.layers * totals.layer_bytes
    experts = part.experts * totals.expert_bytes
    used = layers + experts * totals.used_experts
    whole = totals.layer_bytes + totals.expert_bytes * totals.used_experts
    return Share(
        device=device,
        n_layers=round(max(part.layers, part.experts) * totals.n_layers),
        weight_bytes=used + part.output * totals.output_bytes,
        token_flops=totals.token_flops * used / max(whole, 1),
        decode_attention_flops=part.layers * totals.decode_attention_flops,
        prompt_attention_flops=part.layers * totals.prompt_attention_flops,
        cache_bytes=part.layers * totals.cache_bytes,
        streamed_bytes=(layers + experts) * per_token,
        rates=rates,
    )


def _read_bytes(spec: ModelSpec, request: Request, depth: int) -> int:
    """Return the bytes of keys, values and states of a decode step at this depth."""
    kept = sum(
        cache_bytes(group, request, min(depth, group.window or depth))
        for group in spec.caches
    )
    return kept + 2 * state_bytes(spec, request)


def _prompt_params(spec: ModelSpec) -> float:
    """Return the weights that a prompt token uses.

    llama.cpp computes the output, and the feed-forward of the last layer, two thirds of
    it, for the last token alone.
    """
    n_params = max(spec.n_active_params - spec.vocab_size * spec.hidden_size, 0)
    return n_params * (1 - 2 / 3 / spec.n_layers)


def _attention_flops(
    spec: ModelSpec, depth: int, attended: Callable[[int, int], float]
) -> float:
    """Return the operations of attention for one token, all layers.

    2 per value of a query and its key, 2 per value that is gathered.
    """
    head_size = spec.head_size or spec.hidden_size // spec.n_heads
    return sum(
        4.0
        * spec.n_heads
        * head_size
        * group.n_layers
        * attended(depth, group.window or depth)
        / group.ratio
        for group in spec.caches
        if group.kind != INDEXER
    )


def _attended(depth: int, window: int) -> float:
    """Return the tokens that one after `depth` others looks at."""
    return min(depth, window)


def _attended_on_average(n_tokens: int, window: int) -> float:
    """Return the tokens that one of a prompt looks at: half of it, or of the window."""
    width = min(n_tokens, window)
    return width - width * width / (2 * max(n_tokens, 1))


def slowest_gpu(gpus: Sequence[Gpu], weights_name: str) -> Rates | None:
    """Return the rates of the slowest; None if the speed of one is not known."""
    rates = [gpu_rates(gpu, weights_name) for gpu in gpus]
    known = [one for one in rates if one is not None]
    if not known or len(known) < len(rates):
        return None
    return min(known, key=lambda one: one.weight_bytes_per_s.value)


def gpu_rates(gpu: Gpu, weights_name: str) -> Rates | None:
    """Return a GPU's rates; None if its bandwidth is neither measured nor listed.

    The parts of the datasheet's rates that llama.cpp reaches: docs/accuracy.md.
    """
    compute = gpu.compute.for_type(weights_name)
    if compute.weight_bytes_per_s is None and gpu.bytes_per_s is None:
        return None
    flops = _flops(compute.flops_per_s, (0.35, 0.75, 1.1))
    prompt_attention = compute.prompt_attention_flops_per_s
    return Rates(
        weight_bytes_per_s=_rate(
            compute.weight_bytes_per_s, gpu.bytes_per_s, (0.55, 0.82, 0.95)
        ),
        layers_per_s=_layer_rate(compute.layer_s, (12e3, 20e3, 60e3)),
        flops_per_s=flops,
        attention_flops_per_s=None,
        prompt_attention_flops_per_s=_spread(prompt_attention)
        if prompt_attention
        else flops,
    )


def cpu_rates(cpu: Cpu, ram: Ram, weights_name: str) -> Rates:
    """Return a processor's rates; wide where nothing was measured."""
    compute = cpu.compute.for_type(weights_name)
    per_core = Figure(cpu.n_cores * 1e9, Source.ESTIMATED)
    return Rates(
        weight_bytes_per_s=_cpu_weight_rate(compute, cpu, ram),
        layers_per_s=_layer_rate(compute.layer_s, (5e3, 15e3, 50e3)),
        flops_per_s=_rate(compute.flops_per_s, per_core, (30, 60, 200)),
        attention_flops_per_s=_rate(
            compute.attention_flops_per_s, per_core, (7, 14, 30)
        ),
        prompt_attention_flops_per_s=_rate(
            compute.prompt_attention_flops_per_s, per_core, (15, 30, 80)
        ),
    )


def _cpu_weight_rate(compute: Compute, cpu: Cpu, ram: Ram) -> Interval:
    """A core reads 2 to 20 GB/s of weights, all of them no more than RAM gives.

    3 are published for experts on a desktop, 20 were measured here with Q4_0.
    """
    if compute.weight_bytes_per_s is not None:
        return _spread(compute.weight_bytes_per_s)
    cores = [rate * 1e9 * cpu.n_cores for rate in (2, 7, 20)]
    if ram.bytes_per_s is None:
        limits = [15e9, 35e9, 90e9]  # one channel of DDR4 to two of DDR5
    else:
        limits = [ram.bytes_per_s.value * part for part in (0.35, 0.6, 0.9)]
    low, value, high = map(min, cores, limits)
    return Interval(low, value, high, Source.ESTIMATED)


def _flops(rate: Figure | None, parts: tuple[float, float, float]) -> Interval:
    """A datasheet's rate is a peak, a measured one is what llama.cpp reached."""
    if rate is None:
        return Interval(*_UNKNOWN_FLOPS, Source.ESTIMATED)
    if rate.source is Source.MEASURED:
        return _spread(rate)
    return _rate(None, rate, parts)


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
    measured = figure.source is not Source.ESTIMATED
    spread = _MEASURED_SPREAD if measured else _OTHER_TYPE_SPREAD
    low, high = 1 - spread, 1 + spread
    return Interval(
        figure.value * low, figure.value, figure.value * high, figure.source
    )


def _over(amount: float, rate: Interval) -> Interval:
    """Return the seconds for `amount`: a slow rate makes a long time."""
    return Interval(
        amount / rate.high, amount / rate.value, amount / rate.low, rate.source
    )


def longer(first: Interval, second: Interval) -> Interval:
    """Return the time of two things that are done at once."""
    return Interval(
        max(first.low, second.low),
        max(first.value, second.value),
        max(first.high, second.high),
        weakest(first.source, second.source),
    )


def sum_of(first: Interval, second: Interval) -> Interval:
    """Return the time of two things that are done one after the other."""
    return Interval(
        first.low + second.low,
        first.value + second.value,
        first.high + second.high,
        weakest(first.source, second.source),
    )


def _add(parts: dict[str, Interval]) -> Time:
    seconds = reduce(sum_of, [part for part in parts.values() if part.value > 0])
    return Time(seconds=seconds, bound=max(parts, key=lambda name: parts[name].value))
