"""The bound of the compute buffer, against what llama.cpp reserved in dry runs.

compute_buffers.json holds them: llama-cpp-python 0.3.36 on a processor, models of the
listed shapes without data, window caches only as long as their window.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engram_local.figures import Source
from engram_local.model_spec import CacheGroup, ModelSpec, Weights
from engram_local.sizing.cache import cache_cells
from engram_local.sizing.compute_buffer import compute_buffer_bytes
from engram_local.units import MIB

DRY = json.loads((Path(__file__).parent / "compute_buffers.json").read_text("utf-8"))
WEIGHTS = Weights(name="any", file_bytes=0, parts={}, source=Source.EXACT)


def spec_of(shape: dict[str, Any]) -> ModelSpec:
    """Return a model of which only the shape matters."""
    numbers = {name: shape[name] for name in shape.keys() - {"caches", "like_llama"}}
    return ModelSpec(
        name="dry",
        source=Source.EXACT,
        origin="dry",
        n_params=1,
        n_active_params=1,
        context_length=1,
        n_layers=1,
        weights=(WEIGHTS,),
        caches=tuple(
            CacheGroup(
                kind="any",
                n_layers=1,
                key_size=key_size,
                value_size=value_size,
                window=window,
                ratio=ratio,
            )
            for key_size, value_size, window, ratio in shape["caches"]
        ),
        **numbers,
    )


@pytest.mark.parametrize("name", DRY["shapes"])
def test_bound_holds_and_is_close(name: str) -> None:
    shape = DRY["shapes"][name]
    for run in DRY["runs"]:
        run = dict(zip(DRY["columns"], run, strict=True))
        if run.pop("shape") != name:
            continue
        dry = run.pop("MiB") * MIB
        bound = compute_buffer_bytes(spec_of(shape), **run)
        # Not all four residuals of a hyper-connected graph live all the time.
        closeness = max(64 * MIB, dry / (4 if shape["like_llama"] else 2))
        assert dry <= bound <= dry + closeness, run


def spec_8b(**changes: Any) -> ModelSpec:
    return spec_of(DRY["shapes"]["llama-3.1-8b"] | changes)


def bound(spec: ModelSpec, **changes: Any) -> int:
    load = {"n_ctx": 32768, "n_ubatch": 512, "flash_attention": True, "n_outputs": 1}
    return compute_buffer_bytes(spec, **load | changes)


def test_unknown_head_is_assumed_to_be_wide() -> None:
    assert bound(spec_8b(head_size=0)) > bound(spec_8b())


def test_latent_keys_make_every_query_as_wide() -> None:
    latent = spec_8b(head_size=192, caches=[[576, 0, 0, 1]])
    assert bound(latent) - bound(spec_8b()) == 2 * 4 * 512 * (32 * 576 - 4096)


def test_batches_in_flight_have_inputs_of_their_own() -> None:
    mask_bytes, hidden_bytes = 2 * 512 * 32768, 4 * 512 * 4096
    more = bound(spec_8b(), n_copies=4) - bound(spec_8b())
    assert more == 3 * mask_bytes + 4 * hidden_bytes
    experts = spec_8b(n_experts=32, n_experts_used=2)
    more = bound(experts, n_copies=4) - bound(experts)
    assert more == 3 * mask_bytes + 8 * hidden_bytes


def test_quantized_cache_is_unpacked_for_attention() -> None:
    peak = bound(spec_8b(ffn_size=1), unpacked_cache=True)
    assert peak - bound(spec_8b(ffn_size=1)) > MIB * 100
    unpacked = [bound(spec_8b(), unpacked_cache=True, n_ctx=n) for n in (65536, 131072)]
    values, mask = 65536 * 2048, 512 * 65536
    assert unpacked[1] - unpacked[0] == 2 * values + 2 * mask


def test_experts_in_ram_are_copied() -> None:
    assert bound(spec_8b(), copied_bytes=400) == bound(spec_8b()) + 400


def test_batch_is_no_longer_than_the_context() -> None:
    assert bound(spec_8b(), n_ctx=256) == bound(spec_8b(), n_ctx=256, n_ubatch=256)


def group(**changes: int) -> CacheGroup:
    return CacheGroup(kind="any", n_layers=1, key_size=64, value_size=64, **changes)


def test_cells_are_padded() -> None:
    assert cache_cells(group(), 1000, 512) == 1024


def test_window_and_batch_are_kept() -> None:
    assert cache_cells(group(window=128), 32768, 512) == 768
    assert cache_cells(group(window=128), 512, 512) == 512


def test_sequences_share_cells_or_have_their_own() -> None:
    assert cache_cells(group(window=128), 32768, 512, n_seqs=4, unified=True) == 1024
    assert cache_cells(group(window=128), 32768, 512, n_seqs=4) == 768
    assert cache_cells(group(), 32768, 512, n_seqs=4, unified=True) == 32768
    assert cache_cells(group(), 32768, 512, n_seqs=4) == 8192


def test_compressed_cache_has_fewer_cells() -> None:
    assert cache_cells(group(ratio=4), 32768, 512) == 8192
    assert cache_cells(group(ratio=128), 32768, 512) == 256
