"""Synthetic backbones: names, keys, tensors, weights."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import pytest

from engram_local import catalog
from engram_local.bench import random_bytes, synthetic_llama
from engram_local.bench.synthetic_llama import (
    CONTEXT_LENGTH,
    SHAPES,
    parse_shape,
    write_backbone,
)
from engram_local.errors import UsageError
from engram_local.formats.backbone import read_backbone
from engram_local.formats.header import read_header
from engram_local.formats.pieces import type_id
from engram_local.memory.rows import decode_rows
from engram_local.spec import BackboneShape, RowType
from engram_local.units import KIB
from tests.fakes import TOKENS, backbone_file

SHAPE = BackboneShape(n_layers=2, hidden_size=64, n_heads=4, n_kv_heads=2, ffn_size=96)
MATRICES = {
    "attn_q": (64, 64),
    "attn_k": (32, 64),
    "attn_v": (32, 64),
    "attn_output": (64, 64),
    "ffn_gate": (96, 64),
    "ffn_up": (96, 64),
    "ffn_down": (64, 96),
}


@pytest.fixture(autouse=True)
def small_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that tests are fast."""
    monkeypatch.setattr(random_bytes, "_TILE_BYTES", 64 * KIB)


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A backbone of six layers, width 8, that stands for the default model."""
    path = backbone_file().write(tmp_path / "tiny.gguf")
    monkeypatch.setattr(catalog, "default_model", lambda: path)
    return path


@pytest.mark.usefixtures("tiny")
def test_keys_say_what_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "backbone.gguf"
    write_backbone(path, SHAPE)
    header = read_header(path)
    spec = read_backbone(header)
    assert (spec.architecture, spec.name) == ("llama", "synthetic 64x2")
    assert spec.context_length == CONTEXT_LENGTH
    assert spec.fingerprint.embedding_length == 64
    assert spec.fingerprint.block_count == 2
    wanted = {
        "llama.feed_forward_length": 96,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.rope.dimension_count": 16,
        "llama.vocab_size": len(TOKENS),
    }
    assert {key: header.integer(key) for key in wanted} == wanted


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("weight_type", [RowType.Q8_0, RowType.Q4_0])
def test_tensors_are_those_of_a_llama(tmp_path: Path, weight_type: RowType) -> None:
    path = tmp_path / "backbone.gguf"
    write_backbone(path, SHAPE, weight_type)
    header = read_header(path)
    matrices = {
        f"blk.{layer_id}.{name}.weight": shape[::-1]
        for layer_id in range(2)
        for name, shape in MATRICES.items()
    } | {"token_embd.weight": (64, len(TOKENS))}
    norms = {
        name: (64,)
        for name in (
            *("blk.0.attn_norm.weight", "blk.0.ffn_norm.weight"),
            *("blk.1.attn_norm.weight", "blk.1.ffn_norm.weight"),
            "output_norm.weight",
        )
    }
    found = {name: tensor.shape for name, tensor in header.tensors.items()}
    assert found == matrices | norms
    for name, tensor in header.tensors.items():
        kind = weight_type if name in matrices else RowType.F32
        assert tensor.type_id == type_id(kind)
        assert tensor.n_bytes == kind.row_bytes(tensor.n_elements)
    assert read_backbone(header).n_params == sum(map(prod, found.values()))


@pytest.mark.parametrize(("name", "n_params"), [("0.5B", 0.5e9), ("1.5B", 1.5e9)])
def test_presets_have_the_parameters_of_their_name(name: str, n_params: float) -> None:
    pieces = synthetic_llama._pieces(SHAPES[name], 49_152, RowType.Q4_0)
    found = sum(prod(piece.shape) for piece in pieces)
    assert found == pytest.approx(n_params, rel=0.02)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("0.5B", (30, 896, 14, 2, 4864)),
        ("1.5B", (30, 1536, 12, 2, 8960)),
        ("2048x24", (24, 2048, 32, 4, 11264)),
        ("128x4", (4, 128, 2, 1, 704)),
        ("64x1", (1, 64, 1, 1, 352)),
    ],
)
def test_shapes_are_parsed(text: str, numbers: tuple[int, ...]) -> None:
    shape = parse_shape(text)
    assert numbers == (
        shape.n_layers,
        shape.hidden_size,
        shape.n_heads,
        shape.n_kv_heads,
        shape.ffn_size,
    )


@pytest.mark.parametrize(
    "text", ["", "7B", "2048", "x24", "100x4", "0x4", "64x0", "-64x4", "2048x24x2"]
)
def test_what_is_no_shape_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no shape of a backbone") as caught:
        parse_shape(text)
    assert caught.value.hint is not None and "0.5B" in caught.value.hint


@pytest.mark.parametrize("weight_type", [RowType.Q4_0, RowType.Q8_0])
def test_weights_are_small_and_centred(
    tiny: Path, tmp_path: Path, weight_type: RowType
) -> None:
    path = tmp_path / "backbone.gguf"
    write_backbone(path, parse_shape("128x4"), weight_type)
    header = read_header(path)
    spec = read_backbone(header)
    assert spec.fingerprint == replace(
        read_backbone(read_header(tiny)).fingerprint,
        embedding_length=128,
        block_count=4,
    )
    tensor = header.tensor("blk.3.ffn_down.weight")
    raw = np.fromfile(
        path, np.uint8, count=tensor.n_bytes or 0, offset=tensor.offset_bytes
    )
    out = np.empty((1, tensor.n_elements), np.float32)
    weights = decode_rows(raw, np.zeros(1, np.int64), weight_type, out)
    assert float(weights.std()) == pytest.approx(0.02, rel=0.05)
    assert abs(float(weights.mean())) < 0.0005  # an offset of half a quant is 0.002


def test_weights_of_two_layers_differ(tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "backbone.gguf"
    write_backbone(path, parse_shape("128x4"))
    header, raw = read_header(path), path.read_bytes()
    pieces = {
        raw[tensor.offset_bytes : tensor.offset_bytes + (tensor.n_bytes or 0)]
        for name, tensor in header.tensors.items()
        if name.endswith("attn_q.weight")
    }
    assert len(pieces) == 4


@pytest.mark.usefixtures("tiny")
def test_other_types_of_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="may be q4_0, q8_0, f16, f32, not q4_k"):
        write_backbone(tmp_path / "backbone.gguf", parse_shape("64x1"), RowType.Q4_K)
