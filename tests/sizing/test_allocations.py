"""Terms of memory: hand-computed for shapes that can be checked on paper."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engram_local.figures import Source
from engram_local.model_spec import CacheGroup, ModelSpec, Part
from engram_local.sizing.allocations import (
    DRIVER_BYTES,
    Placement,
    best_placement,
    bytes_of_gpus,
    compute_bytes,
    gpu_terms,
    layers_on_gpu,
    ram_terms,
    total_bytes,
    weight_split,
)
from engram_local.sizing.cache import (
    all_cache_bytes,
    cache_bytes,
    saved_state_bytes,
    state_bytes,
)
from engram_local.sizing.request import Request
from engram_local.units import GIB, MIB
from tests.sizing.samples import DENSE, MOE, SMALL

ALL_DENSE = Placement(n_gpu_layers=33)


def by_name(terms: tuple) -> dict[str, int]:  # type: ignore[type-arg]
    return {term.name: term.n_bytes for term in terms}


def test_keys_and_values_of_grouped_attention() -> None:
    # 32 layers, 1,024 keys and as many values of 2 bytes, 8,192 cells.
    assert all_cache_bytes(DENSE, Request(), 8192) == 32 * 2048 * 2 * 8192


def test_q8_0_takes_34_bytes_for_32_values() -> None:
    half = Request(cache_type_k="q8_0", cache_type_v="q8_0")
    assert all_cache_bytes(DENSE, half, 8192) == 32 * 2048 * 34 // 32 * 8192


def test_states_and_windows_are_saved_up_to_a_bound() -> None:
    one = state_bytes(MOE, Request())
    assert saved_state_bytes(MOE, Request(), 8192) == 512 * MIB // one * one
    window = CacheGroup(
        kind="sliding window", n_layers=1, key_size=64, value_size=64, window=256
    )
    small = replace(DENSE, caches=(*DENSE.caches, window))
    cells = cache_bytes(window, Request(), 8192)
    assert saved_state_bytes(small, Request(), 8192) == 8 * cells
    assert saved_state_bytes(small, Request(), 256) == 0  # nothing is forgotten
    assert saved_state_bytes(DENSE, Request(), 8192) == 0
    assert "saved states" not in by_name(
        ram_terms(DENSE, DENSE.weights[0], Request(), Placement())
    )


def test_a_window_is_kept_with_room_for_a_batch() -> None:
    group = CacheGroup(
        kind="sliding window", n_layers=5, key_size=64, value_size=64, window=1024
    )
    request = Request(n_ubatch=512)
    assert cache_bytes(group, request, 32_768) == 5 * 128 * 2 * 1536
    assert cache_bytes(group, request, 1024) == 5 * 128 * 2 * 1024


def test_keys_that_serve_as_values_and_compressed_entries() -> None:
    latent = CacheGroup(kind="attention", n_layers=2, key_size=576, value_size=0)
    assert cache_bytes(latent, Request(), 4096) == 2 * 576 * 2 * 4096
    assert cache_bytes(replace(latent, ratio=4), Request(), 4096) == 2 * 576 * 2 * 1024


def test_sequences_have_a_part_of_the_context_each_or_share_it() -> None:
    group = DENSE.caches[0]
    whole = cache_bytes(group, Request(), 8192)
    assert cache_bytes(group, Request(n_sequences=4), 8192) == whole
    assert cache_bytes(group, Request(n_sequences=4, unified=True), 8192) == whole


def test_every_sequence_has_states_of_its_own() -> None:
    one = state_bytes(MOE, Request())
    assert one == 36 * MOE.states[0].n_bytes
    assert state_bytes(MOE, Request(n_sequences=3)) == 3 * one


@pytest.mark.parametrize("spec", [DENSE, MOE, SMALL], ids=lambda spec: spec.name)
@pytest.mark.parametrize("n_gpu_layers", [0, 1, 2, 20, 999])
def test_no_weight_gets_lost(spec: ModelSpec, n_gpu_layers: int) -> None:
    weights = spec.weights[0]
    split = weight_split(spec, weights, Placement(n_gpu_layers=n_gpu_layers))
    computing = (Part.EMBEDDING, Part.OUTPUT, Part.LAYERS, Part.EXPERTS)
    stored = sum(weights.part(part) for part in computing)
    twice = spec.tied_output and n_gpu_layers > 0
    copied = weights.part(Part.EMBEDDING) if twice else 0
    assert split.gpu_bytes + split.ram_bytes == stored + copied


def test_the_token_embedding_stays_in_ram() -> None:
    weights = DENSE.weights[0]
    split = weight_split(DENSE, weights, ALL_DENSE)
    assert split.ram_bytes == weights.part(Part.EMBEDDING)
    assert split.gpu_bytes == weights.part(Part.LAYERS) + weights.part(Part.OUTPUT)


def test_the_output_is_the_first_to_go_to_the_gpu() -> None:
    one = Placement(n_gpu_layers=1)
    assert layers_on_gpu(DENSE, one) == 0
    split = weight_split(DENSE, DENSE.weights[0], one)
    assert split.gpu_bytes == DENSE.weights[0].part(Part.OUTPUT)


def test_experts_that_stay_in_ram_leave_vram() -> None:
    weights = MOE.weights[0]
    everything = Placement(n_gpu_layers=49)
    half = replace(everything, n_cpu_experts=24)
    moved = (
        weight_split(MOE, weights, everything).gpu_bytes
        - weight_split(MOE, weights, half).gpu_bytes
    )
    assert moved == weights.part(Part.EXPERTS) // 2


def test_the_table_is_never_counted_as_weights() -> None:
    weights = MOE.weights[0]
    for placement in (Placement(), Placement(n_gpu_layers=49)):
        terms = (
            *gpu_terms(MOE, weights, Request(), placement, 1),
            *ram_terms(MOE, weights, Request(), placement),
        )
        named = sum(
            term.n_bytes
            for term in terms
            if term.name in ("weights", "token embedding")
        )
        assert named == weights.file_bytes - weights.part(Part.TABLE)


def test_vram_without_a_gpu_is_nothing() -> None:
    assert gpu_terms(DENSE, DENSE.weights[0], Request(), ALL_DENSE, 0) == ()
    assert gpu_terms(DENSE, DENSE.weights[0], Request(), Placement(), 1) == ()


def test_each_gpu_has_a_driver_and_buffers() -> None:
    one = by_name(gpu_terms(DENSE, DENSE.weights[0], Request(), ALL_DENSE, 1))
    two = by_name(gpu_terms(DENSE, DENSE.weights[0], Request(), ALL_DENSE, 2))
    assert one["driver"] == DRIVER_BYTES
    assert two["driver"] == 2 * DRIVER_BYTES
    assert two["KV cache"] == one["KV cache"]


def test_four_batches_are_in_flight_on_several_gpus() -> None:
    server = Request(n_outputs=1)
    one = by_name(gpu_terms(DENSE, DENSE.weights[0], server, ALL_DENSE, 1))
    two = by_name(gpu_terms(DENSE, DENSE.weights[0], server, ALL_DENSE, 2))
    assert two["compute buffers"] > 2 * one["compute buffers"]


def test_only_one_gpu_computes_logits() -> None:
    more = [
        by_name(gpu_terms(DENSE, DENSE.weights[0], Request(), ALL_DENSE, n_gpus))
        for n_gpus in (1, 2, 3)
    ]
    first, second, third = (terms["compute buffers"] for terms in more)
    logits_bytes = 4 * 512 * DENSE.vocab_size
    assert first > logits_bytes > third - second


def test_keys_lie_where_their_layer_is_computed() -> None:
    half = Placement(n_gpu_layers=17)  # the output and 16 layers
    vram = by_name(gpu_terms(DENSE, DENSE.weights[0], Request(), half, 1))
    ram = by_name(ram_terms(DENSE, DENSE.weights[0], Request(), half))
    assert vram["KV cache"] == ram["KV cache"]


def test_whole_models_from_a_file_are_exact_and_parts_estimated() -> None:
    def sources(placement: Placement) -> set[Source]:
        terms = gpu_terms(DENSE, DENSE.weights[0], Request(), placement, 1)
        return {term.source for term in terms if term.name in ("weights", "KV cache")}

    assert sources(ALL_DENSE) == {Source.EXACT}
    assert sources(Placement(n_gpu_layers=20)) == {Source.ESTIMATED}


@pytest.mark.parametrize("spec", [DENSE, MOE], ids=lambda spec: spec.name)
def test_the_best_placement_has_the_most_on_the_gpu(spec: ModelSpec) -> None:
    weights = spec.weights[0]

    def size(placement: Placement) -> int:
        return total_bytes(gpu_terms(spec, weights, Request(), placement, 1))

    options = [Placement(n_gpu_layers=n) for n in range(spec.n_layers + 2)]
    options += [
        Placement(n_gpu_layers=spec.n_layers + 1, n_cpu_experts=n)
        for n in range(1, spec.n_layers + 1)
        if weights.part(Part.EXPERTS)
    ]
    for limit in (0, 10**9, 4 * 10**9, 10**10, 3 * 10**10, 10**12):
        best = best_placement(spec, weights, lambda one, top=limit: size(one) <= top)  # type: ignore[misc]
        assert size(best) <= limit
        whole = [one for one in options if one.n_gpu_layers > spec.n_layers]
        fitting = [one for one in whole if size(one) <= limit]
        others = [one for one in options if size(one) <= limit]
        wanted = min(fitting, key=lambda one: one.n_cpu_experts, default=None)
        assert best == (wanted or max(others, key=lambda one: one.n_gpu_layers))


@pytest.mark.parametrize(
    "placement",
    [
        Placement(n_gpu_layers=49),
        Placement(n_gpu_layers=49, n_cpu_experts=20),
        Placement(n_gpu_layers=30),
    ],
    ids=str,
)
@pytest.mark.parametrize("free_gib", [[24], [24, 24], [24, 8, 16]], ids=str)
def test_what_lies_on_each_gpu_is_all_of_it(
    placement: Placement, free_gib: list[int]
) -> None:
    free_bytes = [size * GIB for size in free_gib]
    weights = MOE.weights[0]
    each = bytes_of_gpus(MOE, weights, Request(), placement, free_bytes)
    terms = gpu_terms(MOE, weights, Request(), placement, len(free_bytes))
    assert sum(each) == pytest.approx(total_bytes(terms), rel=1e-5)


def test_layers_are_dealt_out_in_order() -> None:
    placement = Placement(n_gpu_layers=49, n_cpu_experts=24)
    weights = MOE.weights[0]
    first, last = bytes_of_gpus(MOE, weights, Request(), placement, [GIB, GIB])
    # 25 layers and 23 with the output; one of the first has experts
    experts = weights.part(Part.EXPERTS) // 48
    layer = weights.part(Part.LAYERS) // 48
    logits = 2 * GIB
    assert 22 * experts - 2 * layer < last - first < 22 * experts + logits


def test_a_larger_gpu_gets_more_layers() -> None:
    everything = Placement(n_gpu_layers=33)
    sizes = [12 * GIB, 24 * GIB]
    small, large = bytes_of_gpus(DENSE, DENSE.weights[0], Request(), everything, sizes)
    assert small < large


def test_weights_in_ram_are_copied_for_prompts_wherever_they_are_left() -> None:
    """Not only where experts were left there alone: llama.cpp copies all that is."""

    def compute(spec: ModelSpec, placement: Placement) -> int:
        args = (spec, spec.weights[0], Request(), placement)
        return compute_bytes(*args, n_gpus=1)

    experts = MOE.weights[0].part(Part.EXPERTS)
    whole = compute(MOE, Placement(n_gpu_layers=49))
    copied = compute(MOE, Placement(n_gpu_layers=49, n_cpu_experts=1))
    assert compute(MOE, Placement(n_gpu_layers=48)) == copied > whole
    assert copied - whole <= experts * 3 // 4 // 48
    # Logits are the peak of this one where no weights are copied.
    few = replace(DENSE, vocab_size=1000)
    layer = few.weights[0].part(Part.LAYERS) // 32
    whole = compute(few, Placement(n_gpu_layers=33))
    assert compute(few, Placement(n_gpu_layers=20)) == whole + layer // 2
