"""One plan: placement, limits, tiers and speeds agree with each other."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engram_local.errors import FitError, UsageError
from engram_local.hardware import Hardware
from engram_local.model_spec import ModelSpec, Part
from engram_local.settings import Settings
from engram_local.sizing.allocations import bytes_of_gpus, total_bytes
from engram_local.sizing.choice import Place, choose_plan, place_of
from engram_local.sizing.plan import (
    GPU_MARGIN_BYTES,
    longest_context,
    make_plan,
    usable_ram_bytes,
    usable_vram_bytes,
)
from engram_local.sizing.preflight import prepare
from engram_local.sizing.request import Request, Tier, choose_weights
from engram_local.sizing.verdict import with_ram
from engram_local.units import GIB
from tests.sizing.samples import DENSE, DESKTOP, HUGE, LAPTOP, MOE, SMALL


def with_sizes(hardware: Hardware, *, vram_gib: float, ram_gib: float) -> Hardware:
    ram = replace(
        hardware.ram,
        total_bytes=int(ram_gib * GIB),
        available_bytes=int(ram_gib * GIB),
    )
    size = int(vram_gib * GIB)
    gpus = tuple(
        replace(gpu, vram_bytes=size, free_bytes=size) for gpu in hardware.gpus
    )
    return replace(hardware, ram=ram, gpus=gpus)


def test_a_small_model_lies_in_vram() -> None:
    plan = make_plan(DENSE, DENSE.weights[0], Request(), DESKTOP)
    assert plan.placement.n_gpu_layers == 33
    assert plan.fits
    assert place_of(DENSE, plan, DESKTOP) is Place.ALL
    assert plan.vram_bytes <= plan.usable_vram_bytes
    assert plan.tier is None and plan.decode_per_s == plan.near.decode_per_s


def test_the_context_is_never_longer_than_trained_nor_silently_so() -> None:
    def context(n_ctx: int | None) -> int:
        request = Request(n_ctx=n_ctx)
        return make_plan(SMALL, SMALL.weights[0], request, LAPTOP).n_ctx

    assert context(None) == 8192
    assert context(0) == context(10**6) == SMALL.context_length
    assert context(1000) == 1024
    assert make_plan(DENSE, DENSE.weights[0], Request(), DESKTOP).n_ctx == 8192


@pytest.mark.parametrize("vram_gib", [1, 2, 4, 8, 12, 24])
@pytest.mark.parametrize("spec", [DENSE, MOE], ids=lambda spec: spec.name)
def test_vram_is_never_overdrawn(spec, vram_gib: float) -> None:  # type: ignore[no-untyped-def]
    hardware = with_sizes(DESKTOP, vram_gib=vram_gib, ram_gib=256)
    plan = make_plan(spec, spec.weights[0], Request(n_ctx=32_768), hardware)
    assert plan.vram_bytes <= vram_gib * GIB - GPU_MARGIN_BYTES
    assert plan.fits


@pytest.mark.parametrize("vram_gib", [6, 8, 12, 24])
@pytest.mark.parametrize("n_gpus", [2, 3])
@pytest.mark.parametrize("spec", [DENSE, MOE], ids=lambda spec: spec.name)
def test_none_of_several_gpus_is_overdrawn(  # type: ignore[no-untyped-def]
    spec, n_gpus: int, vram_gib: int
) -> None:
    one = with_sizes(DESKTOP, vram_gib=vram_gib, ram_gib=256)
    hardware = replace(one, gpus=one.gpus * n_gpus)
    request, weights = Request(n_ctx=32_768), spec.weights[0]
    plan = make_plan(spec, weights, request, hardware)
    free_bytes = [vram_gib * GIB - GPU_MARGIN_BYTES] * n_gpus
    used = bytes_of_gpus(spec, weights, request, plan.placement, free_bytes)
    assert plan.fits and plan.placement.n_gpu_layers > 0
    assert max(used) <= free_bytes[0]


def test_one_full_gpu_among_roomy_ones_is_too_much() -> None:
    """37.8 GiB are less than 38.5, but the second GPU gets 24 layers and the output."""
    gpus = [replace(DESKTOP.gpus[0], free_bytes=size * GIB) for size in (20, 19)]
    request, weights = Request(n_gpu_layers=49), MOE.weights[0]
    plan = make_plan(MOE, weights, request, replace(DESKTOP, gpus=tuple(gpus)))
    assert plan.vram_bytes < plan.usable_vram_bytes
    assert plan.missing_vram_bytes == plan.crowded_bytes > 0 and not plan.fits


def test_a_gpu_that_gets_all_the_experts_is_refused() -> None:
    """The first 24 layers leave theirs in RAM, those of the others go to one card."""
    large = replace(MOE, weights=MOE.weights[1:])
    settings = Settings(n_gpu_layers=49, n_cpu_moe=24)
    with pytest.raises(FitError, match="one GPU lacks"):
        prepare(large, settings, replace(DESKTOP, gpus=DESKTOP.gpus * 2))


def test_experts_in_ram_empty_the_first_gpus_only() -> None:
    two = replace(DESKTOP, gpus=DESKTOP.gpus * 2)
    plan = make_plan(MOE, MOE.weights[1], Request(), two)
    assert plan.fits and plan.placement.n_cpu_experts > 24


def test_more_vram_never_puts_less_on_the_gpu() -> None:
    layers = [
        make_plan(
            DENSE,
            DENSE.weights[0],
            Request(),
            with_sizes(DESKTOP, vram_gib=size, ram_gib=64),
        ).placement.n_gpu_layers
        for size in (0.5, 1, 2, 3, 4, 5, 6, 8)
    ]
    assert layers == sorted(layers)
    assert layers[0] == 0 and layers[-1] == 33


def test_what_is_asked_for_is_not_improved() -> None:
    plan = make_plan(MOE, MOE.weights[1], Request(n_gpu_layers=49), DESKTOP)
    assert plan.placement.n_cpu_experts == 0
    assert plan.missing_vram_bytes > 0 and not plan.fits


def test_ram_is_what_is_left_of_it() -> None:
    assert usable_ram_bytes(DESKTOP) == 60 * GIB
    assert usable_ram_bytes(with_sizes(DESKTOP, vram_gib=8, ram_gib=64)) == 62 * GIB
    assert usable_ram_bytes(with_sizes(DESKTOP, vram_gib=8, ram_gib=4)) == 3 * GIB


def test_gpus_that_share_ram_take_it() -> None:
    gpu = replace(
        DESKTOP.gpus[0], unified=True, vram_bytes=64 * GIB, free_bytes=64 * GIB
    )
    shared = replace(with_sizes(DESKTOP, vram_gib=64, ram_gib=64), gpus=(gpu,))
    assert usable_vram_bytes(shared) == usable_ram_bytes(shared) == 62 * GIB
    plan = make_plan(DENSE, DENSE.weights[0], Request(), shared)
    assert plan.usable_ram_bytes + plan.vram_bytes == 62 * GIB


def test_a_table_goes_to_the_drive_and_stays_in_ram_where_that_holds_it() -> None:
    mapped = Request(tier=Tier.MMAP)
    plan = make_plan(MOE, MOE.weights[0], mapped, DESKTOP)
    assert plan.tier is not None and plan.tier.tier is Tier.MMAP
    assert plan.tier.cached_part == 1.0
    small = with_sizes(DESKTOP, vram_gib=24, ram_gib=32)
    assert make_plan(MOE, MOE.weights[0], mapped, small).tier.cached_part < 1.0  # type: ignore[union-attr]


def test_a_models_own_table_is_in_ram_where_there_is_room_for_its_file_too() -> None:
    """The rows of an attached memory come from the page cache as fast."""

    def taken(spec: ModelSpec, hardware: Hardware) -> Tier | None:
        plan = make_plan(spec, spec.weights[0], Request(), hardware)
        assert plan.fits
        return plan.tier and plan.tier.tier

    plan = make_plan(MOE, MOE.weights[0], Request(), DESKTOP)
    needed_bytes = total_bytes(plan.ram) + plan.table_in_ram_bytes
    ram = {term.name: term.n_bytes for term in plan.ram}
    in_ram = ram.get("weights", 0) + ram["token embedding"]
    assert plan.table_in_ram_bytes == 2 * MOE.weights[0].part(Part.TABLE) + in_ram
    system_bytes = 2 * GIB
    enough = with_ram(DESKTOP, needed_bytes + system_bytes)
    assert taken(MOE, enough) is Tier.RAM
    assert taken(MOE, with_ram(DESKTOP, needed_bytes + system_bytes - 1)) is Tier.MMAP
    busy = replace(enough.ram, available_bytes=needed_bytes - 1)
    assert taken(MOE, replace(enough, ram=busy)) is Tier.MMAP
    assert taken(replace(MOE, loads_table=True), enough) is Tier.MMAP
    assert taken(SMALL, enough) is Tier.MMAP


def test_a_tier_that_is_asked_for_is_taken_and_counted() -> None:
    small = with_sizes(DESKTOP, vram_gib=24, ram_gib=32)
    plan = make_plan(MOE, MOE.weights[0], Request(tier=Tier.RAM), small)
    assert plan.tier is not None and plan.tier.tier is Tier.RAM
    assert plan.missing_ram_bytes > 0


def test_a_computer_without_gpu_gets_speeds_too() -> None:
    plan = make_plan(DENSE, DENSE.weights[0], Request(), LAPTOP)
    assert plan.vram == () and plan.fits
    assert plan.decode_per_s is not None and plan.decode_per_s.value > 0
    assert place_of(DENSE, plan, LAPTOP) is Place.ALL


def test_the_longest_context_fits_and_the_next_does_not() -> None:
    tight = with_sizes(DESKTOP, vram_gib=8, ram_gib=64)
    plan = make_plan(DENSE, DENSE.weights[0], Request(), tight)
    longest = longest_context(DENSE, plan, Request(), tight)
    assert 8192 <= longest < DENSE.context_length

    def layers(n_ctx: int) -> int:
        other = make_plan(DENSE, plan.weights, Request(n_ctx=n_ctx), tight)
        return other.placement.n_gpu_layers if other.fits else -1

    assert layers(longest) == plan.placement.n_gpu_layers
    assert layers(longest + 256) < plan.placement.n_gpu_layers


def test_no_context_at_all_may_fit() -> None:
    plan = make_plan(HUGE, HUGE.weights[0], Request(), LAPTOP)
    assert not plan.fits
    assert longest_context(HUGE, plan, Request(), LAPTOP) == 0


def test_weights_are_chosen_by_place_then_by_quality() -> None:
    assert choose_plan(MOE, Request(), DESKTOP).weights.name == "Q4_K"
    little = with_sizes(DESKTOP, vram_gib=12, ram_gib=40)
    assert choose_plan(MOE, Request(), little).weights.name == "Q2_0"
    # Of 2.4 bits all in VRAM, of 4.7 with experts in RAM: as fast is not as good.
    large = with_sizes(DESKTOP, vram_gib=40, ram_gib=64)
    assert choose_plan(MOE, Request(), large).weights.name == "Q4_K"


def test_a_faster_place_goes_before_more_bits() -> None:
    many = DENSE.weights[0]
    less = {part: n_bytes * 8 // 10 for part, n_bytes in many.parts.items()}
    both = replace(DENSE, weights=(replace(many, name="Q3_K", parts=less), many))

    def chosen(vram_gib: float) -> str:
        hardware = with_sizes(DESKTOP, vram_gib=vram_gib, ram_gib=64)
        return choose_plan(both, Request(), hardware).weights.name

    assert chosen(6) == "Q3_K"  # Q4_K_M would leave layers in RAM
    assert chosen(8) == "Q4_K_M"


def test_weights_that_were_asked_for_are_taken() -> None:
    little = with_sizes(DESKTOP, vram_gib=12, ram_gib=40)
    assert choose_plan(MOE, Request(quantization="q4_k"), little).weights.name == "Q4_K"
    with pytest.raises(UsageError) as error:
        choose_weights(MOE, "Q5_K_M")
    assert error.value.hint is not None
    assert "Q2_0" in error.value.hint and "Q4_K" in error.value.hint


def test_nonsense_requests_are_refused() -> None:
    for request in ({"n_ctx": -1}, {"n_ubatch": 0}, {"n_gpu_layers": -2}):
        with pytest.raises(UsageError):
            Request(**request)
    with pytest.raises(UsageError, match="q3"):
        Request(cache_type_k="q3")


def test_a_file_without_layers_has_no_speed() -> None:
    """Only a broken or made-up file: a number is not invented for it."""
    weights = replace(DENSE.weights[0], parts={Part.EMBEDDING: GIB})
    empty = replace(DENSE, caches=(), weights=(weights,))
    plan = make_plan(empty, weights, Request(n_gpu_layers=0), DESKTOP)
    assert plan.decode_per_s is None and plan.prompt_per_s is None


def test_shared_memory_that_is_overdrawn_leaves_nothing() -> None:
    gpu = replace(DESKTOP.gpus[0], unified=True, vram_bytes=4 * GIB, free_bytes=4 * GIB)
    shared = replace(with_sizes(DESKTOP, vram_gib=4, ram_gib=4), gpus=(gpu,))
    plan = make_plan(MOE, MOE.weights[0], Request(n_gpu_layers=49), shared)
    assert plan.usable_ram_bytes == 0
    assert not plan.fits and plan.missing_vram_bytes


def test_beside_an_integrated_gpu_a_table_lies_in_ram() -> None:
    """llama.cpp maps no files there; only Apple's, and our own tables, are mapped."""

    def tiers(name: str, *, attached: bool = False) -> list[Tier]:
        gpu = replace(DESKTOP.gpus[0], name=name, unified=True)
        spec = replace(MOE, attached=attached)
        shared = replace(DESKTOP, gpus=(gpu,))
        plan = make_plan(spec, spec.weights[0], Request(), shared)
        taken = Tier.RAM if len(plan.tiers) == 1 else Tier.MMAP
        assert plan.tier is not None and plan.tier.tier is taken
        return [plan.tier for plan in plan.tiers]

    assert tiers("Radeon 8060S") == [Tier.RAM]
    assert tiers("Apple M4") == [Tier.RAM, Tier.MMAP]
    assert tiers("GB10", attached=True) == [Tier.RAM, Tier.MMAP, Tier.DIRECT]
