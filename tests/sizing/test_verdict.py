"""The verdict: what binds, and changes that do what they say."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from engram_local.figures import Source
from engram_local.hardware import Hardware
from engram_local.model_spec import ModelSpec
from engram_local.sizing.choice import Place, choose_plan, place_of
from engram_local.sizing.plan import Plan
from engram_local.sizing.request import Request, Tier
from engram_local.sizing.verdict import (
    Outcome,
    Verdict,
    holds_table,
    judge,
    with_ram,
    with_vram,
)
from engram_local.units import GIB
from tests.sizing.samples import DENSE, DESKTOP, HUGE, LAPTOP, MOE, NVME, SMALL


def sized(hardware: Hardware, *, ram_gib: float) -> Hardware:
    return with_ram(hardware, int(ram_gib * GIB))


def verdict(
    spec: ModelSpec, hardware: Hardware, request: Request | None = None
) -> tuple[Verdict, Plan]:
    asked = request or Request()
    plan = choose_plan(spec, asked, hardware)
    return judge(spec, plan, asked, hardware), plan


def gib_of(change: str | None) -> int:
    match = re.search(r"(\d+) GiB of (RAM|VRAM)", change or "")
    assert match is not None, change
    return int(match[1])


def test_a_model_in_vram_fits_and_needs_no_change() -> None:
    found, plan = verdict(DENSE, DESKTOP)
    assert found.outcome is Outcome.FITS
    assert found.where == "all layers in VRAM"
    assert found.binding == plan.near.decode_bound == "GPU memory bandwidth"
    assert found.change is None


def test_experts_in_ram_are_told() -> None:
    found, plan = verdict(MOE, DESKTOP)
    n_experts = plan.placement.n_cpu_experts
    assert found.where == f"in VRAM, but the experts of {n_experts} of 48 layers in RAM"
    assert 0 < n_experts <= 48


def test_layers_in_ram_are_told_and_a_larger_gpu_takes_them() -> None:
    small = with_vram(DESKTOP, 4 * GIB)
    found, plan = verdict(DENSE, small)
    n_layers = plan.placement.n_gpu_layers - 1
    assert found.outcome is Outcome.FITS
    assert found.where == f"{n_layers} of 32 layers in VRAM, the others in RAM"
    n_gib = gib_of(found.change)
    larger = with_vram(small, n_gib * GIB)
    assert place_of(DENSE, choose_plan(DENSE, Request(), larger), larger) is Place.ALL
    assert verdict(DENSE, larger)[0].change is None


def test_without_gpu_the_processor_computes() -> None:
    found, _ = verdict(SMALL, LAPTOP)
    assert found.where == "all of it in RAM, computed by the processor"


def test_a_slow_processor_is_told_which_gpu_would_do() -> None:
    found, plan = verdict(DENSE, LAPTOP)
    assert plan.decode_per_s is not None and plan.decode_per_s.value < 10
    larger = with_vram(LAPTOP, gib_of(found.change) * GIB)
    other = choose_plan(DENSE, Request(), larger)
    assert place_of(DENSE, other, larger) is Place.ALL
    fast, plan = verdict(SMALL, replace(LAPTOP, drive=NVME))
    assert plan.decode_per_s is not None and plan.decode_per_s.value > 10
    assert fast.change is None


def test_a_table_on_the_drive_is_told_how_much_ram_would_hold_it() -> None:
    small = sized(DESKTOP, ram_gib=32)
    found, plan = verdict(MOE, small)
    assert found.outcome is Outcome.FITS_ON_DRIVE
    assert not holds_table(plan)
    n_gib = gib_of(found.change)
    request = Request(quantization=plan.weights.name)
    assert verdict(MOE, sized(DESKTOP, ram_gib=n_gib), request)[0].outcome is (
        Outcome.FITS
    )
    less = {32: 0, 48: 32, 64: 48, 96: 64, 128: 96}[n_gib]
    if less:
        before = verdict(MOE, sized(DESKTOP, ram_gib=less), request)[0]
        assert before.outcome is not Outcome.FITS


def test_what_is_missing_binds() -> None:
    found, plan = verdict(HUGE, LAPTOP)
    assert found.outcome is Outcome.DOES_NOT_FIT
    assert found.where == "nowhere"
    assert plan.missing_ram_bytes > 0
    assert found.binding.endswith(" more RAM")
    pinned = Request(n_gpu_layers=99, quantization="Q4_K")
    found, plan = verdict(MOE, DESKTOP, pinned)
    assert plan.missing_vram_bytes > 0 and plan.missing_ram_bytes == 0
    assert found.binding.endswith(" more VRAM")


def test_a_full_drive_binds_and_free_space_lets_it_fit() -> None:
    drive = replace(DESKTOP.drive, free_bytes=40 * GIB)
    full = replace(DESKTOP, drive=drive)
    found, plan = verdict(MOE, full)
    assert plan.fits
    assert found.outcome is Outcome.DOES_NOT_FIT
    assert found.binding == found.change
    assert "more space on the drive" in (found.change or "")
    enough = replace(drive, free_bytes=40 * GIB + plan.missing_disk_bytes)
    found, _ = verdict(MOE, replace(full, drive=enough))
    assert found.outcome is not Outcome.DOES_NOT_FIT
    scarce = replace(drive, free_bytes=40 * GIB + plan.missing_disk_bytes - 1)
    found, _ = verdict(MOE, replace(full, drive=scarce))
    assert found.outcome is Outcome.DOES_NOT_FIT


def test_weights_that_the_drive_has_space_for_are_preferred() -> None:
    large = replace(DENSE.weights[0], source=Source.PUBLISHED)
    less = {part: n_bytes * 8 // 10 for part, n_bytes in large.parts.items()}
    small = replace(large, name="Q3_K", parts=less, file_bytes=sum(less.values()))
    both = replace(DENSE, weights=(small, large))
    free = (small.file_bytes + large.file_bytes) // 2
    full = replace(DESKTOP, drive=replace(DESKTOP.drive, free_bytes=free))
    assert choose_plan(both, Request(), DESKTOP).weights is large
    assert choose_plan(both, Request(), full).weights is small


def test_too_little_of_both_is_told_in_one_sentence() -> None:
    little = replace(
        sized(LAPTOP, ram_gib=8), drive=replace(DESKTOP.drive, free_bytes=GIB)
    )
    found, _ = verdict(MOE, little)
    n_gib = gib_of(found.change)
    assert re.search("GiB of RAM: .* with .* GiB more space on the drive", found.change)
    roomy = replace(sized(little, ram_gib=n_gib), drive=DESKTOP.drive)
    assert verdict(MOE, roomy)[0].outcome is not Outcome.DOES_NOT_FIT


def test_a_shorter_context_comes_before_more_ram() -> None:
    laptop = sized(LAPTOP, ram_gib=10)
    asked = Request(n_ctx=131_072)
    found, _ = verdict(DENSE, laptop, asked)
    assert found.outcome is Outcome.DOES_NOT_FIT
    match = re.match(r"-c (\d+): a context of ([\d,]+) tokens fits", found.change or "")
    assert match is not None
    n_ctx = int(match[1])
    assert f"{n_ctx:,}" == match[2]
    shorter = replace(asked, n_ctx=n_ctx)
    assert verdict(DENSE, laptop, shorter)[0].outcome is Outcome.FITS
    longer = replace(asked, n_ctx=n_ctx + 256)
    assert verdict(DENSE, laptop, longer)[0].outcome is Outcome.DOES_NOT_FIT


def test_a_context_of_a_few_words_is_not_proposed() -> None:
    """6.3 GiB hold the weights and some hundred tokens."""
    found = [
        verdict(DENSE, sized(LAPTOP, ram_gib=size / 20), Request())[0]
        for size in range(80, 180)
    ]
    contexts = [
        int(match[1])
        for one in found
        if (match := re.match(r"-c (\d+)", one.change or ""))
    ]
    assert contexts and min(contexts) >= 2048
    assert any("GiB of RAM" in (one.change or "") for one in found)


def test_layers_that_were_asked_for_are_given_back_before_anything_is_bought() -> None:
    pinned = Request(n_gpu_layers=99, quantization="Q4_K")
    found, _ = verdict(MOE, DESKTOP, pinned)
    assert found.outcome is Outcome.DOES_NOT_FIT
    match = re.fullmatch(r"(\S+) with -ngl (\d+) fits", found.change or "")
    assert match is not None
    free, plan = verdict(MOE, DESKTOP, Request(quantization=match[1]))
    assert free.outcome is not Outcome.DOES_NOT_FIT
    assert plan.placement.n_gpu_layers == int(match[2])


def test_a_gpu_that_is_not_used_is_no_reason_to_buy_one() -> None:
    found, _ = verdict(DENSE, DESKTOP, Request(n_gpu_layers=10))
    assert found.where == "9 of 32 layers in VRAM, the others in RAM"
    assert found.change == "Q4_K_M with -ngl 33 fits"


def test_experts_in_ram_are_better_than_few_layers_on_the_gpu() -> None:
    roomy = sized(DESKTOP, ram_gib=256)
    pinned = Request(n_gpu_layers=10, quantization="Q4_K")
    found, plan = verdict(MOE, roomy, pinned)
    assert place_of(MOE, plan, roomy) is Place.LAYERS_IN_RAM
    assert found.change == "Q4_K with -ngl 49 fits"
    other = choose_plan(MOE, Request(), roomy)
    assert place_of(MOE, other, roomy) is Place.EXPERTS_IN_RAM


def test_a_table_that_was_wanted_in_ram_may_stay_on_the_drive() -> None:
    small = sized(DESKTOP, ram_gib=40)
    found, _ = verdict(MOE, small, Request(tier=Tier.RAM, quantization="Q2_0"))
    assert found.outcome is Outcome.DOES_NOT_FIT
    assert (found.change or "").startswith("--memory-tier mmap:")
    mapped = Request(tier=Tier.MMAP, quantization="Q2_0")
    assert verdict(MOE, small, mapped)[0].outcome is Outcome.FITS_ON_DRIVE


def test_a_smaller_cache_is_proposed_where_a_shorter_one_is_not() -> None:
    """A cache of 2,048 tokens and more, of which half fits."""
    fat = replace(DENSE, caches=(replace(DENSE.caches[0], key_size=60_000),))
    request = Request(n_ctx=2048)
    for size in range(100, 400):
        laptop = sized(LAPTOP, ram_gib=size / 20)
        found, _ = verdict(fat, laptop, request)
        if (found.change or "").startswith("-ctk"):
            break
    assert found.change == "-ctk q8_0 -ctv q8_0: a KV cache of 8 bits fits"
    small = replace(request, cache_type_k="q8_0", cache_type_v="q8_0")
    assert verdict(fat, laptop, small)[0].outcome is Outcome.FITS


@pytest.mark.parametrize("ram_gib", [4, 16, 32, 64])
def test_ram_that_is_proposed_is_the_least_that_helps(ram_gib: int) -> None:
    poor = replace(sized(DESKTOP, ram_gib=ram_gib), gpus=())
    found, _ = verdict(MOE, poor)
    if found.outcome is not Outcome.DOES_NOT_FIT:
        assert ram_gib == 64
        return
    n_gib = gib_of(found.change)
    assert n_gib > ram_gib
    enough, _ = verdict(MOE, sized(poor, ram_gib=n_gib))
    assert enough.outcome is not Outcome.DOES_NOT_FIT
    step = {8: 4, 16: 8, 32: 16, 48: 32, 64: 48}[n_gib]
    before, _ = verdict(MOE, sized(poor, ram_gib=step))
    assert before.outcome is Outcome.DOES_NOT_FIT


def test_nothing_helps_a_model_beyond_all_sizes() -> None:
    weights = HUGE.weights[0]
    parts = {part: 10 * size for part, size in weights.parts.items()}
    endless = replace(HUGE, weights=(replace(weights, parts=parts, file_bytes=10**13),))
    found, _ = verdict(endless, replace(LAPTOP, gpus=()))
    assert found.outcome is Outcome.DOES_NOT_FIT
    assert found.change is None


def test_shared_memory_grows_with_ram_and_gets_no_gpu() -> None:
    gpu = replace(
        DESKTOP.gpus[0], unified=True, vram_bytes=12 * GIB, free_bytes=12 * GIB
    )
    mac = replace(sized(DESKTOP, ram_gib=16), gpus=(gpu,))
    found, _ = verdict(MOE, mac)
    assert found.outcome is Outcome.DOES_NOT_FIT
    n_gib = gib_of(found.change)
    assert "RAM" in (found.change or "") and "VRAM" not in (found.change or "")
    larger = sized(mac, ram_gib=n_gib)
    assert larger.gpus[0].vram_bytes == n_gib * 12 * GIB // 16
    assert verdict(MOE, larger)[0].outcome is not Outcome.DOES_NOT_FIT


def test_no_gpu_is_proposed_to_a_computer_whose_gpu_shares_its_ram() -> None:
    gpu = replace(DESKTOP.gpus[0], unified=True, vram_bytes=4 * GIB, free_bytes=4 * GIB)
    largest = replace(sized(DESKTOP, ram_gib=1024), gpus=(gpu,))
    found, plan = verdict(DENSE, largest)
    assert place_of(DENSE, plan, largest) is Place.LAYERS_IN_RAM
    assert found.change is None
