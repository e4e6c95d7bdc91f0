"""Backbones from raw weights: read back by our reader and by gguf-py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader
from numpy.typing import NDArray

from engram_local.errors import FormatError
from engram_local.formats.backbone import read_backbone
from engram_local.formats.backbone_writer import CONTEXT_LENGTH, write_backbone
from engram_local.formats.engram_gguf import TYPE_IDS
from engram_local.formats.header import Header, read_header
from engram_local.spec import BackboneShape, RowType
from tests.fakes import (
    ARRAY,
    BOOL,
    FLOAT32,
    STRING,
    TOKENS,
    UINT32,
    backbone_file,
)

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


@pytest.fixture
def vocabulary(tmp_path: Path) -> Header:
    """A tokenizer with a key of every kind, and a token that is no UTF-8."""
    file = backbone_file()
    tokens = [*TOKENS[:-1], b"\xff\xfe"]
    file.keys["tokenizer.ggml.tokens"] = (ARRAY, (STRING, tokens))
    file.keys["tokenizer.ggml.scores"] = (ARRAY, (FLOAT32, [0.5] * len(tokens)))
    file.keys["tokenizer.ggml.bos_token_id"] = (UINT32, 1)
    file.keys["tokenizer.ggml.add_bos_token"] = (BOOL, False)
    file.keys["tokenizer.chat_template"] = (STRING, "{{ messages }}")
    return read_header(file.write(tmp_path / "vocabulary.gguf"))


def counting(n_bytes: int) -> Iterator[NDArray[np.uint8]]:
    """Weights whose bytes count up, in two chunks."""
    raw = (np.arange(n_bytes) % 251).astype(np.uint8)
    yield raw[:7]
    yield raw[7:]


def write(path: Path, vocabulary: Header, **changes: Any) -> Header:
    arguments = {"weight_type": RowType.Q8_0, "weights": counting} | changes
    write_backbone(path, SHAPE, name="made up", vocabulary=vocabulary, **arguments)
    return read_header(path)


def test_keys_say_what_was_asked_for(tmp_path: Path, vocabulary: Header) -> None:
    header = write(tmp_path / "backbone.gguf", vocabulary)
    spec = read_backbone(header)
    assert (spec.architecture, spec.name) == ("llama", "made up")
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


def test_the_tokenizer_is_copied(tmp_path: Path, vocabulary: Header) -> None:
    header = write(tmp_path / "backbone.gguf", vocabulary)
    keys = {key for key in vocabulary.metadata if key.startswith("tokenizer.")}
    assert keys == {key for key in header.metadata if key.startswith("tokenizer.")}
    for key in keys:
        found, wanted = header.metadata[key], vocabulary.metadata[key]
        assert type(found) is type(wanted)
        np.testing.assert_array_equal(found, wanted)  # type: ignore[arg-type]
    spec, source = read_backbone(header), read_backbone(vocabulary)
    assert spec.fingerprint.tokens_sha256 == source.fingerprint.tokens_sha256


@pytest.mark.parametrize("weight_type", [RowType.Q8_0, RowType.Q4_0])
def test_tensors_are_those_of_a_llama(
    tmp_path: Path, vocabulary: Header, weight_type: RowType
) -> None:
    header = write(tmp_path / "b.gguf", vocabulary, weight_type=weight_type)
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
        assert tensor.type_id == TYPE_IDS[kind]
        assert tensor.n_bytes == kind.row_bytes(tensor.n_elements)
    assert read_backbone(header).n_params == sum(
        int(np.prod(shape)) for shape in found.values()
    )


def test_bytes_lie_where_gguf_py_finds_them(tmp_path: Path, vocabulary: Header) -> None:
    write(tmp_path / "backbone.gguf", vocabulary)
    for tensor in GGUFReader(tmp_path / "backbone.gguf").tensors:
        if "norm" in tensor.name:
            assert (tensor.data == 1).all()
        else:
            wanted = np.concatenate(list(counting(tensor.n_bytes)))
            np.testing.assert_array_equal(tensor.data.reshape(-1), wanted)


def test_progress_ends_at_all_of_it(tmp_path: Path, vocabulary: Header) -> None:
    seen: list[tuple[int, int]] = []
    header = write(
        tmp_path / "backbone.gguf",
        vocabulary,
        progress=lambda done, total: seen.append((done, total)),
    )
    total_bytes = sum(tensor.n_bytes or 0 for tensor in header.tensors.values())
    assert seen[-1] == (total_bytes, total_bytes)
    assert seen == sorted(seen)


def test_weights_that_run_short_are_refused(tmp_path: Path, vocabulary: Header) -> None:
    with pytest.raises(FormatError, match=r"token_embd\.weight should be"):
        write(
            tmp_path / "backbone.gguf",
            vocabulary,
            weights=lambda n_bytes: counting(n_bytes - 1),
        )
    assert [path.name for path in tmp_path.iterdir()] == ["vocabulary.gguf"]
