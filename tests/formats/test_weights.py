"""What tensors are for, and what people call a quantization."""

from __future__ import annotations

from pathlib import Path

import pytest

from engram_local.errors import FormatError
from engram_local.formats.header import Header, read_header
from engram_local.formats.model_keys import ModelKeys
from engram_local.formats.weights import part_of, quantization_name, read_weights
from engram_local.model_spec import Part
from tests.fakes import STRING, UINT32, File, Tensor

Q4_K = 12
UNKNOWN_TYPE = 9999
Q4_K_M = 15  # file types
GUESSED = 1024


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("token_embd.weight", Part.EMBEDDING),
        ("position_embd.weight", Part.EMBEDDING),
        ("token_embd_norm.weight", Part.LAYERS),
        ("output.weight", Part.OUTPUT),
        ("output_norm.weight", Part.OUTPUT),
        ("output_hc_down.weight", Part.OUTPUT),
        ("altup_proj.weight", Part.OUTPUT),
        ("blk.0.attn_output.weight", Part.LAYERS),
        ("blk.3.ffn_gate_inp.weight", Part.LAYERS),
        ("blk.3.ffn_up_shexp.weight", Part.LAYERS),
        ("blk.3.ffn_up_exps.weight", Part.EXPERTS),
        ("blk.3.ffn_gate_up_exps.weight", Part.EXPERTS),
        ("blk.3.ffn_down_exps.scale", Part.EXPERTS),
        ("blk.3.ffn_down_chexps.weight", Part.EXPERTS),
        ("per_layer_token_embd.weight", Part.TABLE),
        ("per_layer_model_proj.weight", Part.LAYERS),
        ("blk.1.engram_embd.weight", Part.TABLE),
        ("blk.1.engram_wkv.weight", Part.LAYERS),
        ("ngram_embd.11.weight", Part.TABLE),
        ("ngram_proj.11.weight", Part.LAYERS),
        ("rope_freqs.weight", Part.LAYERS),
        ("v.blk.0.attn_q.weight", Part.UNUSED),
        ("mm.0.weight", Part.UNUSED),
        ("blk.4.nextn.eh_proj.weight", Part.UNUSED),
        ("nextn.pre_projection.weight", Part.UNUSED),
        ("blk.5.attn_q.weight", Part.UNUSED),
        ("blk.5.ffn_up_exps.weight", Part.UNUSED),
    ],
)
def test_a_tensors_name_tells_what_it_is_for(name: str, part: Part) -> None:
    assert part_of(name, n_layers=5) is part


def model(path: Path, tensors: dict[str, Tensor], **keys: int) -> Header:
    typed = {f"general.{name}": (UINT32, value) for name, value in keys.items()}
    needed = {
        "general.architecture": (STRING, "llama"),
        "llama.block_count": (UINT32, 2),
    }
    return read_header(File(needed | typed, tensors).write(path))


@pytest.mark.parametrize(
    ("file_type", "stem", "name"),
    [
        (Q4_K_M, "anything", "Q4_K_M"),
        (Q4_K_M | GUESSED, "anything", "Q4_K_M"),
        (0, "anything", "F32"),
        (None, "model-UD-Q4_K_XL", "UD-Q4_K_XL"),
        (None, "model.iq3_xxs", "iq3_xxs"),
        (999, "Model-BF16-00001-of-00002", "BF16"),
        (None, "mode-no-quant", "Q4_K"),
        (None, "seq4_0x", "Q4_K"),
    ],
)
def test_the_quantizations_name(
    tmp_path: Path, file_type: int | None, stem: str, name: str
) -> None:
    tensors = {
        "blk.0.attn_q.weight": Tensor((256, 4), Q4_K, bytes(144 * 4)),
        "output_norm.weight": Tensor((8,), 0, bytes(32)),
    }
    keys = {} if file_type is None else {"file_type": file_type}
    header = model(tmp_path / f"{stem}.gguf", tensors, **keys)
    assert quantization_name(header) == name


def test_a_model_without_tensors_has_no_quantization(tmp_path: Path) -> None:
    assert quantization_name(model(tmp_path / "model.gguf", {})) == "?"


def test_bytes_add_up_to_the_file(tmp_path: Path) -> None:
    tensors = {
        "token_embd.weight": Tensor((256, 4), Q4_K, bytes(576)),
        "blk.0.ffn_up_exps.weight": Tensor((256, 2, 3), Q4_K, bytes(864)),
        "blk.1.attn_q.weight": Tensor((8, 4), 0, bytes(128)),
        "blk.2.attn_q.weight": Tensor((8, 8), 0, bytes(256)),
        "per_layer_token_embd.weight": Tensor((256, 10), Q4_K, bytes(1440)),
    }
    header = model(tmp_path / "model.gguf", tensors)
    weights = read_weights(ModelKeys.of(header))
    assert weights.parts == {
        Part.EMBEDDING: 576,
        Part.EXPERTS: 864,
        Part.LAYERS: 128,
        Part.UNUSED: 256,
        Part.TABLE: 1440,
    }
    assert weights.file_bytes == header.file_bytes
    assert weights.table_row_bytes == 144


def test_unknown_types_take_the_room_up_to_the_next_tensor(tmp_path: Path) -> None:
    tensors = {
        "output.weight": Tensor((256, 4), UNKNOWN_TYPE, bytes(96)),
        "blk.0.attn_q.weight": Tensor((5,), 0, bytes(20)),
        "per_layer_token_embd.weight": Tensor((64, 10), UNKNOWN_TYPE, bytes(70)),
    }
    header = model(tmp_path / "model.gguf", tensors)
    weights = read_weights(ModelKeys.of(header))
    assert weights.parts == {Part.OUTPUT: 96, Part.LAYERS: 20, Part.TABLE: 70}
    assert weights.table_row_bytes == 7


def test_a_table_needs_two_dimensions(tmp_path: Path) -> None:
    tensors = {"per_layer_token_embd.weight": Tensor((8,), 0, bytes(32))}
    header = model(tmp_path / "model.gguf", tensors)
    with pytest.raises(FormatError, match=r"per_layer_token_embd.weight has the shape"):
        read_weights(ModelKeys.of(header))
