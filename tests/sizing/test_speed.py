"""Seconds of a token: bytes over bandwidths, by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engram_local.figures import Figure, Source
from engram_local.hardware import Compute, Hardware, TypeRate
from engram_local.model_spec import Part
from engram_local.sizing.allocations import Placement
from engram_local.sizing.request import Request
from engram_local.sizing.speed import (
    decode_time,
    prompt_time,
    shares_of,
)
from tests.sizing.samples import DENSE, DESKTOP, LAPTOP, MOE, SMALL

WHOLE = Placement(n_gpu_layers=33)
MEASURED = Compute(
    weight_bytes_per_s=Figure(20e9, Source.MEASURED),
    flops_per_s=Figure(400e9, Source.MEASURED),
    layer_s=Figure(50e-6, Source.MEASURED),
    attention_flops_per_s=Figure(30e9, Source.MEASURED),
    prompt_attention_flops_per_s=Figure(60e9, Source.MEASURED),
    types=(
        TypeRate(
            name="Q4_K",
            weight_bytes_per_s=Figure(20e9, Source.MEASURED),
            flops_per_s=Figure(400e9, Source.MEASURED),
        ),
        TypeRate(
            name="Q4_1",
            weight_bytes_per_s=Figure(10e9, Source.MEASURED),
            flops_per_s=Figure(100e9, Source.MEASURED),
        ),
    ),
)
PROBED = replace(DESKTOP, gpus=(), cpu=replace(DESKTOP.cpu, compute=MEASURED))


def shares(spec, hardware: Hardware, placement: Placement, depth: int = 512):  # type: ignore[no-untyped-def]
    return shares_of(spec, spec.weights[0], Request(), placement, hardware, depth=depth)


def test_a_probed_processor_by_hand() -> None:
    time = decode_time(shares(DENSE, PROBED, Placement()))
    weights = DENSE.weights[0]
    n_bytes = weights.part(Part.LAYERS) + weights.part(Part.OUTPUT)
    attention = 512 * 4 * 32 * 32 * 128  # depth, layers, heads, their width
    expected = n_bytes / 20e9 + 32 * 50e-6 + attention / 30e9
    assert time.seconds.value == pytest.approx(expected, rel=1e-9)
    assert time.seconds.source is Source.MEASURED
    assert time.bound == "processor memory bandwidth"


def test_a_prompt_on_a_probed_processor_by_hand() -> None:
    time = prompt_time(shares(DENSE, PROBED, Placement()), None)
    n_params = (7_500_000_000 - 128_256 * 4096) * (1 - 2 / 3 / 32)
    attention = 256 * 4 * 32 * 32 * 128  # half of the prompt, on average
    expected = 2 * n_params / 400e9 + attention / 60e9
    assert time.seconds.value == pytest.approx(expected, rel=1e-6)
    assert time.bound == "processor compute"


def test_weights_of_another_type_have_rates_of_their_own() -> None:
    small = decode_time(shares(SMALL, PROBED, Placement())).seconds.value
    weights = SMALL.weights[0]
    n_bytes = weights.part(Part.LAYERS) + weights.part(Part.EMBEDDING)  # tied
    rest = 30 * 50e-6 + 512 * 4 * 30 * 576 / 30e9
    assert small == pytest.approx(n_bytes / 10e9 + rest, rel=1e-9)


def test_a_token_reads_the_experts_it_uses() -> None:
    (gpu,) = shares(MOE, DESKTOP, Placement(n_gpu_layers=49))
    weights = MOE.weights[0]
    used = weights.part(Part.EXPERTS) * 10 / 512
    expected = weights.part(Part.LAYERS) + weights.part(Part.OUTPUT) + used
    assert gpu.weight_bytes == pytest.approx(expected, rel=1e-6)
    assert gpu.streamed_bytes == pytest.approx(
        (weights.part(Part.LAYERS) + weights.part(Part.EXPERTS)) / 512
    )


def test_experts_in_ram_are_read_by_the_processor() -> None:
    placement = Placement(n_gpu_layers=49, n_cpu_experts=48)
    gpu, cpu = shares(MOE, DESKTOP, placement)
    weights = MOE.weights[0]
    experts = weights.part(Part.EXPERTS)
    assert cpu.weight_bytes == pytest.approx(experts * 10 / 512, rel=1e-6)
    assert cpu.streamed_bytes == pytest.approx(experts / 512)  # a batch uses them all
    assert gpu.weight_bytes == weights.part(Part.LAYERS) + weights.part(Part.OUTPUT)


def test_nothing_is_counted_twice_or_lost() -> None:
    for layers in (0, 1, 17, 33):
        parts = shares(DENSE, DESKTOP, Placement(n_gpu_layers=layers))
        weights = DENSE.weights[0]
        whole = weights.part(Part.LAYERS) + weights.part(Part.OUTPUT)
        total = sum(part.weight_bytes for part in parts)
        assert total == pytest.approx(whole, abs=2)
        assert sum(part.n_layers for part in parts) == 32


def test_a_large_batch_copies_weights_to_the_gpu_where_that_is_faster() -> None:
    placement = Placement(n_gpu_layers=49, n_cpu_experts=48)
    parts = shares(MOE, DESKTOP, placement)
    fast = prompt_time(parts, Figure(1e12, Source.DATASHEET))
    slow = prompt_time(parts, Figure(1e6, Source.DATASHEET))
    without = prompt_time(parts, None)
    assert fast.seconds.value < slow.seconds.value == without.seconds.value
    copied = prompt_time(parts, Figure(25e9, Source.DATASHEET))
    assert copied.bound == "copies from RAM to the GPU"


def test_what_was_copied_to_the_gpu_is_computed_there() -> None:
    """No copying, however fast, makes layers in RAM faster than those in VRAM."""
    some = shares(DENSE, DESKTOP, Placement(n_gpu_layers=17))
    whole = shares(DENSE, DESKTOP, Placement(n_gpu_layers=33))
    endless = prompt_time(some, Figure(1e18, Source.DATASHEET)).seconds
    assert endless.value > 0.99 * prompt_time(whole, None).seconds.value


def test_a_short_prompt_reads_all_experts_for_few_tokens() -> None:
    parts = shares(MOE, DESKTOP, Placement(n_gpu_layers=49), depth=32)
    time = prompt_time(parts, None)
    weights = MOE.weights[0]
    n_bytes = weights.part(Part.LAYERS) + weights.part(Part.EXPERTS)
    rate = parts[0].rates.weight_bytes_per_s.value
    assert time.bound == "GPU memory bandwidth"
    assert time.seconds.value == pytest.approx(n_bytes / 32 / rate, rel=0.01)


def test_a_gpu_whose_maker_gives_no_rate_has_a_wide_interval() -> None:
    gpu = replace(DESKTOP.gpus[0], compute=Compute())
    (share,) = shares(DENSE, replace(DESKTOP, gpus=(gpu,)), WHOLE)
    assert share.rates.flops_per_s.high > 10 * share.rates.flops_per_s.low


def test_deeper_tokens_take_longer() -> None:
    times = [
        decode_time(shares(DENSE, hardware, placement, depth)).seconds.value
        for hardware, placement in ((DESKTOP, WHOLE), (PROBED, Placement()))
        for depth in (128, 8192)
    ]
    assert times[0] < times[1]
    assert times[2] < times[3]


def test_a_gpu_of_unknown_speed_has_no_speed() -> None:
    unknown = replace(DESKTOP.gpus[0], bytes_per_s=None)
    assert shares(DENSE, replace(DESKTOP, gpus=(unknown,)), WHOLE) is None
    mixed = replace(DESKTOP, gpus=(DESKTOP.gpus[0], unknown))
    assert shares(DENSE, mixed, WHOLE) is None


def test_what_is_not_measured_is_an_interval_and_says_so() -> None:
    for hardware, placement in ((DESKTOP, WHOLE), (LAPTOP, Placement())):
        seconds = decode_time(shares(DENSE, hardware, placement)).seconds
        assert 0 < seconds.low < seconds.value < seconds.high
        assert seconds.source is Source.ESTIMATED
    probed = decode_time(shares(DENSE, PROBED, Placement())).seconds
    assert probed.high / probed.low < 1.3 < seconds.high / seconds.low


def test_two_gpus_are_as_fast_as_the_slower_one() -> None:
    slow = replace(DESKTOP.gpus[0], bytes_per_s=Figure(360e9, Source.DATASHEET))
    both = replace(DESKTOP, gpus=(DESKTOP.gpus[0], slow))
    alone = replace(DESKTOP, gpus=(slow,))
    assert (
        decode_time(shares(DENSE, both, WHOLE)).seconds
        == decode_time(shares(DENSE, alone, WHOLE)).seconds
    )


def test_a_window_limits_what_attention_looks_at() -> None:
    windowed = replace(DENSE, caches=(replace(DENSE.caches[0], window=256),))
    deep, shallow = (
        shares(windowed, PROBED, Placement(), depth)[0] for depth in (8192, 256)
    )
    assert deep.decode_attention_flops == shallow.decode_attention_flops
    # The first 256 of a prompt look at fewer: 256 - 256^2 / (2 * 8192) on average.
    ratio = deep.prompt_attention_flops / deep.decode_attention_flops
    assert ratio == pytest.approx(1 - 256 / (2 * 8192))
    assert shallow.prompt_attention_flops == shallow.decode_attention_flops / 2


def test_keys_that_only_choose_tokens_are_not_attention() -> None:
    (gpu,) = shares(MOE, DESKTOP, Placement(n_gpu_layers=49))
    assert gpu.decode_attention_flops == 512 * 4 * 16 * 160 * 12


def test_weights_of_a_type_that_was_not_measured_are_estimated() -> None:
    other = replace(DENSE, weights=(replace(DENSE.weights[0], name="IQ3_S"),))
    (share,) = shares(other, PROBED, Placement())
    rate = share.rates.weight_bytes_per_s
    assert rate.source is Source.ESTIMATED
    assert rate.value == pytest.approx((20e9 * 10e9) ** 0.5)
    assert rate.low < 10e9 and rate.high > 20e9
