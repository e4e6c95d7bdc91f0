"""Which tensors llama.cpp puts on a GPU, from -ngl and -ncmoe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engram_local.formats.header import Header
from engram_local.formats.offload import byte_ranges, tensors_on_gpu
from tests.formats.headers import F32, make_header

NAMES = (
    "token_embd.weight",
    "blk.0.attn_q.weight",
    "blk.0.ffn_up_exps.weight",
    "blk.1.attn_q.weight",
    "blk.1.ffn_up_exps.weight",
    "blk.2.attn_q.weight",
    "blk.2.ffn_up_exps.weight",
    "output.weight",
    "rope_freqs.weight",
    "per_layer_token_embd.weight",
)
BYTES = 4 * 8


def header(**keys: int) -> Header:
    """A model of three blocks whose tensors follow each other."""
    tensors = {name: ((8,), F32) for name in NAMES}
    return make_header("qwen4exp", {"block_count": 3, **keys}, tensors)


def names_on_gpu(n_gpu_layers: int | None, n_cpu_moe: int = 0) -> list[str]:
    found = tensors_on_gpu(header(), n_gpu_layers, n_cpu_moe)
    return [tensor.name.removesuffix(".weight") for tensor in found]


ALL = [
    "blk.0.attn_q",
    "blk.0.ffn_up_exps",
    "blk.1.attn_q",
    "blk.1.ffn_up_exps",
    "blk.2.attn_q",
    "blk.2.ffn_up_exps",
    "output",
]


def test_the_last_layers_go_first_and_the_output_is_one() -> None:
    assert names_on_gpu(0) == []
    assert names_on_gpu(1) == ["output"]
    assert names_on_gpu(2) == ALL[4:]
    assert names_on_gpu(3) == ALL[2:]


@pytest.mark.parametrize("n_gpu_layers", [4, 5, 99, -1, None])
def test_inputs_and_the_table_never_go(n_gpu_layers: int | None) -> None:
    assert names_on_gpu(n_gpu_layers) == ALL


def test_experts_of_the_first_layers_may_stay() -> None:
    assert names_on_gpu(None, 1) == [name for name in ALL if name != ALL[1]]
    assert names_on_gpu(2, 2) == ALL[4:]  # they are in RAM anyway
    assert names_on_gpu(2, 3) == ["blk.2.attn_q", "output"]


def test_draft_heads_count_and_are_not_loaded() -> None:
    found = tensors_on_gpu(header(nextn_predict_layers=1), 2, 0)
    assert [tensor.name for tensor in found] == ["output.weight"]


def test_neighbours_share_a_range() -> None:
    tensors = tensors_on_gpu(header(), 2, 3)
    start = 4096
    assert byte_ranges(tensors) == {
        Path("model.gguf"): [
            (start + 5 * BYTES, start + 6 * BYTES),
            (start + 7 * BYTES, start + 8 * BYTES),
        ]
    }
    (whole,) = byte_ranges(tensors_on_gpu(header(), None, 0)).values()
    assert whole == [(start + BYTES, start + 8 * BYTES)]
    assert byte_ranges(()) == {}


def test_each_file_of_a_split_model_has_ranges_of_its_own() -> None:
    one, other = tensors_on_gpu(header(), 2, 3)
    other = replace(other, path=Path("second.gguf"))
    found = byte_ranges((other, one))
    assert {path.name: len(ranges) for path, ranges in found.items()} == {
        "model.gguf": 1,
        "second.gguf": 1,
    }
