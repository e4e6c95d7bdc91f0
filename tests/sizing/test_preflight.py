"""The check before a model is loaded: layers are chosen, errors say what works."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from engram_local.errors import FitError
from engram_local.hardware import Hardware
from engram_local.model_spec import ModelSpec, Part
from engram_local.settings import Settings
from engram_local.sizing.plan import make_plan
from engram_local.sizing.preflight import (
    allocated_bytes,
    prepare,
    request_of,
)
from engram_local.sizing.request import Request, Tier
from engram_local.sizing.verdict import with_ram, with_vram
from engram_local.units import GIB
from tests.sizing.samples import DENSE, DESKTOP, LAPTOP, MOE, SMALL

SMALL_GPU = with_vram(DESKTOP, 4 * GIB)


def refused(spec: ModelSpec, settings: Settings, hardware: Hardware) -> FitError:
    with pytest.raises(FitError) as caught:
        prepare(spec, settings, hardware)
    assert caught.value.exit_code == 4
    assert re.search(r"\d\.\d [KMG]iB", caught.value.message)
    return caught.value


def hinted(error: FitError, flag: str) -> int:
    match = re.search(rf"{flag} (\d+) fits", error.hint or "")
    assert match is not None, error.hint
    return int(match[1])


def test_what_is_said_is_asked_of_the_plan() -> None:
    settings = Settings(
        n_ctx=1024,
        n_batch=256,
        n_ubatch=512,
        cache_type_k="q8_0",
        flash_attention="off",
        n_gpu_layers=7,
        n_cpu_moe=3,
        memory_tier="direct",
    )
    request = request_of(settings)
    assert request.n_ctx == 1024
    assert request.n_ubatch == 256  # never more than a batch
    assert (request.cache_type_k, request.cache_type_v) == ("q8_0", "f16")
    assert not request.flash_attention
    assert (request.n_gpu_layers, request.n_cpu_moe) == (7, 3)
    assert request.tier is Tier.DIRECT
    assert request_of(Settings()).tier is None
    assert request_of(Settings()).flash_attention


def test_a_model_that_fits_is_loaded_whole() -> None:
    flight = prepare(DENSE, Settings(), DESKTOP)
    assert flight.settings == Settings(n_gpu_layers=33, n_cpu_moe=0)
    assert flight.notes == ()


def test_without_gpu_nothing_is_changed() -> None:
    flight = prepare(DENSE, Settings(), LAPTOP)
    assert (flight.settings, flight.notes) == (Settings(), ())


def test_as_many_layers_as_fit_are_chosen_and_told() -> None:
    flight = prepare(DENSE, Settings(), SMALL_GPU)
    n_layers = flight.settings.n_gpu_layers
    assert n_layers is not None and 1 < n_layers < 33
    assert flight.notes == (
        f"{n_layers - 1} of 32 layers are on the GPU, the others are computed by the "
        "processor",
    )
    one_more = replace(Settings(), n_gpu_layers=n_layers + 1)
    (_, may_fail) = sorted(prepare(DENSE, one_more, SMALL_GPU).notes)
    assert may_fail.endswith("it may not load")


def test_experts_that_do_not_fit_stay_in_ram_and_are_told() -> None:
    flight = prepare(MOE, Settings(), DESKTOP)
    n_experts = flight.settings.n_cpu_moe
    assert flight.settings.n_gpu_layers == 49
    assert 0 < n_experts <= 48
    assert flight.notes[0] == f"the experts of {n_experts} of 48 layers stay in RAM"


def test_experts_that_were_to_stay_in_ram_count() -> None:
    everything = Settings(n_gpu_layers=49)
    refused(MOE, everything, DESKTOP)
    n_experts = prepare(MOE, Settings(), DESKTOP).settings.n_cpu_moe
    asked = replace(everything, n_cpu_moe=n_experts)
    flight = prepare(MOE, asked, DESKTOP)
    assert flight.settings == replace(asked, memory_tier="mmap")
    assert flight.notes[0] == f"the experts of {n_experts} of 48 layers stay in RAM"
    more = prepare(MOE, replace(asked, n_cpu_moe=n_experts - 1), DESKTOP)
    assert more.notes[0].endswith("it may not load")
    # Only the last 10 layers are on the GPU; those before are in RAM anyway.
    some = prepare(MOE, Settings(n_gpu_layers=11, n_cpu_moe=38), DESKTOP)
    assert not any("experts" in note for note in some.notes)
    some = prepare(MOE, Settings(n_gpu_layers=11, n_cpu_moe=39), DESKTOP)
    assert "the experts of 1 of 48 layers stay in RAM" in some.notes


def test_more_experts_in_ram_than_needed_is_left_so() -> None:
    assert prepare(MOE, Settings(n_cpu_moe=48), DESKTOP).settings.n_cpu_moe == 48


def test_a_dense_model_has_no_experts_to_keep() -> None:
    settings = Settings(n_gpu_layers=33, n_cpu_moe=10)
    assert prepare(DENSE, settings, DESKTOP).notes == ()


def test_layers_that_do_not_fit_are_refused_with_those_that_do() -> None:
    error = refused(DENSE, Settings(n_gpu_layers=33), SMALL_GPU)
    assert "of VRAM are needed, 3.8 GiB can be had" in error.message
    n_layers = hinted(error, "-ngl")
    assert "leave -ngl out" in (error.hint or "")
    fitting = Settings(n_gpu_layers=n_layers)
    assert prepare(DENSE, fitting, SMALL_GPU).settings == fitting
    assert prepare(DENSE, Settings(), SMALL_GPU).settings.n_gpu_layers == n_layers


def test_no_layers_on_the_gpu_is_a_choice() -> None:
    flight = prepare(DENSE, Settings(n_gpu_layers=0), DESKTOP)
    assert flight.settings.n_gpu_layers == 0
    assert flight.notes[0].startswith("0 of 32 layers are on the GPU")


def test_a_cache_beyond_ram_is_refused_with_a_context_that_fits() -> None:
    long = Settings(n_ctx=131_072)
    laptop = with_ram(LAPTOP, 8 * GIB)
    error = refused(DENSE, long, laptop)
    assert "of RAM are needed besides the weights, 8.0 GiB are free" in error.message
    n_ctx = hinted(error, "-c")
    flight = prepare(DENSE, replace(long, n_ctx=n_ctx), laptop)
    assert flight.settings.n_ctx == n_ctx
    refused(DENSE, replace(long, n_ctx=2 * n_ctx), laptop)


def test_weights_beyond_ram_do_not_hide_a_context_that_fits() -> None:
    tiny = with_ram(LAPTOP, 2 * GIB)  # the weights are 4.6 GiB
    error = refused(DENSE, Settings(n_ctx=32_768), tiny)
    n_ctx = hinted(error, "-c")
    flight = prepare(DENSE, Settings(n_ctx=n_ctx), tiny)
    assert any("read from the drive again and again" in note for note in flight.notes)


def test_where_no_context_fits_a_smaller_model_is_needed() -> None:
    error = refused(DENSE, Settings(), with_ram(LAPTOP, GIB // 4))
    assert error.hint == "use a smaller model"


def test_a_table_beyond_ram_may_stay_on_the_drive() -> None:
    request = request_of(Settings())
    plan = make_plan(SMALL, SMALL.weights[0], request, LAPTOP)
    table_bytes = SMALL.weights[0].part(Part.TABLE)
    laptop = with_ram(LAPTOP, allocated_bytes(SMALL, plan) + table_bytes // 2)
    error = refused(SMALL, Settings(memory_tier="ram"), laptop)
    assert "the table in RAM takes 8.3 MiB, what else" in error.message
    assert "--memory-tier mmap" in (error.hint or "")
    prepare(SMALL, Settings(memory_tier="mmap"), laptop)
    enough = with_ram(LAPTOP, allocated_bytes(SMALL, plan) + table_bytes)
    prepare(SMALL, Settings(memory_tier="ram"), enough)


def test_auto_puts_a_models_own_table_where_there_is_room_and_says_why() -> None:
    large = with_ram(DESKTOP, 256 * GIB)
    (*_, note) = prepare(MOE, Settings(), large).notes
    table = "table of 26.8 GiB"
    assert re.fullmatch(rf"{table} in RAM: \d+\.\d GiB are free for it", note)
    small = with_ram(DESKTOP, 32 * GIB)
    flight = prepare(MOE, Settings(), small)
    assert flight.settings.memory_tier == "mmap"
    note = flight.notes[-1]
    numbers = re.fullmatch(
        rf"{table} stays in its file \(mmap\): in RAM it would want (.*) GiB with the "
        r"file's page cache, (.*) GiB are free",
        note,
    )
    assert numbers is not None
    assert 0 <= float(numbers[2]) < 2 * 26.8 < float(numbers[1])


def test_auto_is_left_alone_where_there_is_nothing_to_decide() -> None:
    plain = replace(MOE, loads_table=True)
    for spec in (SMALL, DENSE, plain):
        flight = prepare(spec, Settings(), DESKTOP)
        assert flight.settings.memory_tier == "auto"
        assert not any("table" in note for note in flight.notes)
    for tier in ("ram", "mmap"):
        flight = prepare(MOE, Settings(memory_tier=tier), DESKTOP)
        assert flight.settings.memory_tier == tier
        assert not any("table" in note for note in flight.notes)


def test_beside_a_table_in_ram_nothing_of_the_model_is_mapped() -> None:
    """llama.cpp allocates its weights then, too."""
    in_ram = replace(LAPTOP, gpus=())
    request = request_of(Settings(n_ctx=512, memory_tier="ram"))
    plan = make_plan(MOE, MOE.weights[0], request, in_ram)
    table_bytes = MOE.weights[0].part(Part.TABLE)
    needed_bytes = allocated_bytes(MOE, plan)
    assert needed_bytes == table_bytes + sum(term.n_bytes for term in plan.ram)
    asked = Settings(n_ctx=512, memory_tier="ram")
    prepare(MOE, asked, with_ram(in_ram, needed_bytes))
    error = refused(MOE, asked, with_ram(in_ram, needed_bytes - GIB))
    assert error.message == (
        "the table in RAM takes 26.8 GiB, what else has to be there 37.3 GiB, "
        "63.2 GiB are free"
    )
    assert "--memory-tier mmap" in (error.hint or "")
    mapped = Settings(n_ctx=512, memory_tier="mmap")
    prepare(MOE, mapped, with_ram(in_ram, needed_bytes - GIB))
    # Even without the table the weights would not fit: a tier that maps them does.
    error = refused(MOE, asked, with_ram(in_ram, needed_bytes - table_bytes - GIB))
    assert "has to be there 37.3 GiB, 36.3 GiB are free" in error.message
    assert "--memory-tier mmap" in (error.hint or "")
    prepare(MOE, mapped, with_ram(in_ram, needed_bytes - table_bytes - GIB))


def test_a_table_that_llama_cpp_loads_anyway_has_no_tier() -> None:
    plain = replace(MOE, loads_table=True)
    small = with_ram(DESKTOP, 24 * GIB)
    assert prepare(plain, Settings(memory_tier="ram"), small).notes == (
        prepare(plain, Settings(), small).notes
    )


def test_weights_beyond_ram_are_slow_but_work() -> None:
    tiny = with_ram(LAPTOP, 4 * GIB)
    flight = prepare(DENSE, Settings(n_ctx=512), tiny)
    assert flight.settings == Settings(n_ctx=512)
    (note,) = flight.notes
    assert re.match(r"the model wants \d\.\d GiB of RAM, 3\.0 GiB can be had", note)


def test_mapped_files_are_not_allocated() -> None:
    plan = make_plan(DENSE, DENSE.weights[0], request_of(Settings()), LAPTOP)
    names = {term.name: term.n_bytes for term in plan.ram}
    assert allocated_bytes(DENSE, plan) == (
        names["KV cache"] + names["compute buffers"] + names["process"]
    )


def test_draft_heads_count_as_layers_that_are_asked_for() -> None:
    """llama.cpp counts from the last block; else the first layers stay in RAM."""
    drafts = replace(DENSE, n_drafts=1)
    assert prepare(drafts, Settings(), DESKTOP).settings.n_gpu_layers == 34
    request = request_of(Settings(n_gpu_layers=34))
    assert make_plan(drafts, DENSE.weights[0], request, DESKTOP).placement == (
        make_plan(DENSE, DENSE.weights[0], Request(), DESKTOP).placement
    )
    for asked, n_layers in ((0, 0), (1, 1), (2, 1), (3, 2), (99, 33)):
        plan = make_plan(drafts, DENSE.weights[0], Request(n_gpu_layers=asked), DESKTOP)
        assert plan.placement.n_gpu_layers == n_layers


def test_a_negative_number_of_layers_is_all_of_them() -> None:
    """As llama.cpp takes it, and many people write it."""
    flight = prepare(DENSE, Settings(n_gpu_layers=-1), DESKTOP)
    assert (flight.settings, flight.notes) == (Settings(n_gpu_layers=-1), ())
    refused(DENSE, Settings(n_gpu_layers=-1), SMALL_GPU)


@pytest.mark.parametrize("n_gpus", [1, 2])
def test_layers_that_were_asked_for_are_refused_only_if_they_cannot_fit(
    n_gpus: int,
) -> None:
    """Compute buffers and the driver's share are bounds, which others stay below."""

    def gpus_of(n_bytes: int) -> Hardware:
        return replace(DESKTOP, gpus=with_vram(DESKTOP, n_bytes).gpus * n_gpus)

    asked = Settings(n_gpu_layers=33)
    plan = make_plan(DENSE, DENSE.weights[0], request_of(asked), gpus_of(80 * GIB))
    sure = sum(
        term.n_bytes for term in plan.vram if term.name in ("weights", "KV cache")
    )
    flight = prepare(DENSE, asked, gpus_of(plan.vram_bytes // n_gpus))
    assert flight.settings == asked
    assert any("it may not load" in note for note in flight.notes)
    refused(DENSE, asked, gpus_of(sure // n_gpus - 1))
    assert not prepare(DENSE, asked, gpus_of(80 * GIB)).notes


def test_shared_memory_that_others_use_now_is_no_reason_to_refuse() -> None:
    """Mapped weights take the place of pages that nobody needs."""
    ram = replace(DESKTOP.ram, total_bytes=16 * GIB, available_bytes=4 * GIB)
    gpu = replace(DESKTOP.gpus[0], unified=True, free_bytes=12 * GIB)
    busy = replace(DESKTOP, ram=ram, gpus=(gpu,))
    assert prepare(DENSE, Settings(n_gpu_layers=33), busy).notes


def test_a_table_that_cannot_be_mapped_is_not_said_to_be() -> None:
    ram = replace(DESKTOP.ram, total_bytes=32 * GIB, available_bytes=20 * GIB)
    gpu = replace(DESKTOP.gpus[0], name="Radeon 8060S", unified=True)
    error = refused(MOE, Settings(), replace(DESKTOP, ram=ram, gpus=(gpu,)))
    assert "--memory-tier" not in (error.hint or "")
