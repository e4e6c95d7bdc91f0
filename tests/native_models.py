"""Tiny models with a table of their own, and models in several files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gguf
import pytest

from engram_local import catalog
from engram_local.bench import random_bytes
from engram_local.bench.qwen4exp_shape import Qwen4ExpShape
from engram_local.bench.synthetic_gemma4 import Gemma4Shape, write_gemma4
from engram_local.bench.synthetic_qwen4exp import write_qwen4exp
from engram_local.formats.native import read_native
from engram_local.formats.split import read_model_header
from engram_local.memory.module import NativeModule
from engram_local.units import MIB
from tests.fakes import ARRAY, FLOAT32, STRING, TOKENS, UINT32, backbone_file

N_TOKENS = 512
"""Of the default model's vocabulary: its special tokens, all bytes, a few syllables."""


def tiny_qwen4exp(path: Path, **changes: Any) -> Path:
    """Write a qwen4exp of 2 MB with 4 rows of 32 per token; needs the default model.

    changes: fields of Qwen4ExpShape.
    """
    shape = Qwen4ExpShape(**{"n_tokens": N_TOKENS} | changes)
    with small_tiles():
        write_qwen4exp(path, shape)
    return path


def tiny_gemma4(path: Path, **changes: Any) -> Path:
    """Write a gemma4 of 1 MB with rows of 4 x 64; needs the default model.

    changes: fields of Gemma4Shape.
    """
    shape = Gemma4Shape(**{"n_tokens": N_TOKENS} | changes)
    with small_tiles():
        write_gemma4(path, shape)
    return path


def module_of(path: Path) -> NativeModule:
    """Return what is known of such a model's table; of a split one, from any part."""
    module = read_native(read_model_header(path))
    assert module is not None
    return module


def fake_default_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let a file with a tokenizer of two dozen tokens stand for the default model.

    llama.cpp does not run what is made of it. EOS is the fourth token.
    """
    file = backbone_file()
    file.keys["tokenizer.ggml.eos_token_id"] = (UINT32, 3)
    file.keys["tokenizer.ggml.scores"] = (ARRAY, (FLOAT32, [0.5] * len(TOKENS)))
    file.keys["tokenizer.chat_template"] = (STRING, "{{ messages }}")
    path = file.write(folder / "default.gguf")
    monkeypatch.setattr(catalog, "default_model", lambda: path)
    return path


def split_file(source: Path, folder: Path, n_parts: int = 2) -> list[Path]:
    """Write a model in several files, as gguf-py splits one; return them in order.

    The order of tensors stays: of a synthetic model the last part has the table.
    """
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(
        folder / source.name,
        reader.fields["general.architecture"].contents(),
        split_max_tensors=-(-len(reader.tensors) // n_parts),
    )
    copy_keys(reader, writer)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sorted(folder.glob(f"{source.stem}-*-of-*.gguf"))


def copy_keys(reader: gguf.GGUFReader, writer: gguf.GGUFWriter) -> None:
    """Add all keys of a file to another one of its architecture."""
    for name, entry in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        sub_type = entry.types[1] if len(entry.types) > 1 else None
        writer.add_key_value(name, entry.contents(), entry.types[0], sub_type)


@contextmanager
def small_tiles() -> Iterator[None]:
    """64 MiB of random numbers take longer than the rest of such a model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(random_bytes, "_TILE_BYTES", MIB)
        yield
