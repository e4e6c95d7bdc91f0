"""What other people measured, against the arithmetic it should follow.

Caches and states follow from shapes exactly, weights from what a file holds; the
compute buffer has a bound.
"""

from __future__ import annotations

import pytest

from docs.accuracy.published import (
    PublishedLoad,
    PublishedSpeed,
    load_published,
    load_speeds,
)
from engram_local.model_spec import CacheGroup, Part
from engram_local.sizing.cache import cache_cells
from engram_local.sizing.compute_buffer import compute_buffer_bytes
from engram_local.units import MIB

LOADS = load_published()
SPEEDS = load_speeds()
VALUE_BYTES = {"f16": 2, "q8_0": 34 / 32}


def with_term(term: str) -> pytest.MarkDecorator:
    loads = [load for load in LOADS if getattr(load, term) is not None]
    return pytest.mark.parametrize("load", loads, ids=[load.id for load in loads])


def cells(load: PublishedLoad, group: CacheGroup) -> int:
    return cache_cells(
        group, load.n_ctx, load.n_ubatch, n_seqs=load.n_seqs, unified=load.unified
    )


def layer_expert_bytes(load: PublishedLoad) -> int:
    return load.model.weights[0].part(Part.EXPERTS) // load.model.n_layers


def test_there_are_enough() -> None:
    assert len([load for load in LOADS if not load.superseded]) >= 30
    assert len(SPEEDS) >= 20


def test_every_number_has_a_source_and_a_name() -> None:
    entries: list[PublishedLoad | PublishedSpeed] = [*LOADS, *SPEEDS]
    assert all(entry.url.startswith("https://") and entry.date for entry in entries)
    assert len({entry.id for entry in entries}) == len(entries)


def test_every_speed_has_a_number() -> None:
    assert all(speed.decode_per_s or speed.prefill_per_s for speed in SPEEDS)


@with_term("total_bytes")
def test_terms_fit_into_the_total(load: PublishedLoad) -> None:
    terms = load.weights_bytes, load.kv_bytes, load.state_bytes, load.compute_bytes
    assert load.total_bytes is not None
    assert sum(term or 0 for term in terms) < load.total_bytes


@with_term("kv_bytes")
def test_cache_follows_from_the_shape(load: PublishedLoad) -> None:
    values = sum(
        group.n_layers * cells(load, group) * (group.key_size + group.value_size)
        for group in load.model.caches
    )
    expected = values * VALUE_BYTES[load.cache_type]
    assert load.kv_bytes == pytest.approx(expected, abs=load.precision_bytes)


@with_term("state_bytes")
def test_states_follow_from_the_shape(load: PublishedLoad) -> None:
    expected = sum(
        group.n_layers * group.n_bytes * load.n_seqs for group in load.model.states
    )
    # 3 % more where layers are split over four GPUs.
    tolerance = load.precision_bytes + (0.03 * expected if load.n_devices > 3 else 0)
    assert load.state_bytes == pytest.approx(expected, abs=tolerance)


@with_term("weights_bytes")
def test_weights_on_gpus_follow_from_the_file(load: PublishedLoad) -> None:
    weights = load.model.weights[0]
    expected = weights.file_bytes - weights.part(Part.TABLE) - weights.part(Part.UNUSED)
    expected -= 0 if load.model.tied_output else weights.part(Part.EMBEDDING)
    expected -= load.n_expert_layers_in_ram * layer_expert_bytes(load)
    # The header is no weight; layers' experts differ by a percent in some files.
    unequal = 0.015 * expected if load.n_expert_layers_in_ram else 0
    tolerance = load.precision_bytes + 16 * MIB + unequal
    assert load.weights_bytes == pytest.approx(expected, abs=tolerance)


@with_term("compute_bytes")
def test_compute_buffer_has_a_bound(load: PublishedLoad) -> None:
    if load.superseded:
        pytest.skip("a later llama.cpp takes less")
    in_ram = load.n_expert_layers_in_ram > 0
    bound = load.n_devices * compute_buffer_bytes(
        load.model,
        n_ctx=load.n_ctx,
        n_ubatch=load.n_ubatch,
        flash_attention=load.flash_attention,
        n_seqs=load.n_seqs,
        unified=load.unified,
        n_outputs=load.n_outputs,
        n_copies=4 if load.split == "layer" and not in_ram else 1,
        unpacked_cache=load.cache_type != "f16",
        copied_expert_bytes=layer_expert_bytes(load) if in_ram else 0,
    )
    assert load.compute_bytes is not None
    assert bound >= load.compute_bytes - load.precision_bytes
    # How much is copied at once differs from file to file.
    above = (1024 if in_ram else 256) * MIB * load.n_devices
    assert bound <= load.compute_bytes + above
