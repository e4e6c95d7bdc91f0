"""Models from pieces: read back by our reader and by gguf-py."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader
from numpy.typing import NDArray

from engram_local.errors import FormatError
from engram_local.formats.header import Header, read_header
from engram_local.formats.model_writer import write_model
from engram_local.formats.pieces import Piece, Progress, type_id
from engram_local.spec import RowType
from tests.fakes import (
    ARRAY,
    BOOL,
    FLOAT32,
    STRING,
    TOKENS,
    UINT32,
    backbone_file,
)


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


def piece(name: str, *shape: int, lacks_bytes: int = 0) -> Piece:
    n_bytes = RowType.Q8_0.row_bytes(shape[-1]) * prod(shape[:-1])
    return Piece(
        name=name,
        shape=shape,
        type_id=type_id(RowType.Q8_0),
        n_bytes=n_bytes,
        chunks=counting(n_bytes - lacks_bytes),
        stored_bytes=n_bytes,
    )


def write(
    path: Path, vocabulary: Header, *pieces: Piece, progress: Progress | None = None
) -> Header:
    write_model(
        path,
        "made",
        name="made up",
        keys={"block_count": 2, "rope.freq_base": 0.5, "is_odd": True},
        pieces=pieces or [piece("a.weight", 3, 64), piece("b.weight", 2, 5, 32)],
        vocabulary=vocabulary,
        progress=progress,
    )
    return read_header(path)


def test_keys_have_the_prefix_of_the_architecture(
    tmp_path: Path, vocabulary: Header
) -> None:
    header = write(tmp_path / "model.gguf", vocabulary)
    assert header.architecture == "made"
    assert header.text("general.name") == "made up"
    assert header.integer("made.block_count") == 2
    assert header.metadata["made.rope.freq_base"] == 0.5
    assert header.metadata["made.is_odd"] is True


def test_the_tokenizer_is_copied(tmp_path: Path, vocabulary: Header) -> None:
    header = write(tmp_path / "model.gguf", vocabulary)
    keys = {key for key in vocabulary.metadata if key.startswith("tokenizer.")}
    assert keys == {key for key in header.metadata if key.startswith("tokenizer.")}
    for key in keys:
        found, wanted = header.metadata[key], vocabulary.metadata[key]
        assert type(found) is type(wanted)
        np.testing.assert_array_equal(found, wanted)  # type: ignore[arg-type]


def test_bytes_lie_where_gguf_py_finds_them(tmp_path: Path, vocabulary: Header) -> None:
    header = write(tmp_path / "model.gguf", vocabulary)
    found = {name: tensor.shape for name, tensor in header.tensors.items()}
    assert found == {"a.weight": (64, 3), "b.weight": (32, 5, 2)}
    for tensor in GGUFReader(tmp_path / "model.gguf").tensors:
        wanted = np.concatenate(list(counting(tensor.n_bytes)))
        np.testing.assert_array_equal(tensor.data.reshape(-1), wanted)


def test_progress_ends_at_all_of_it(tmp_path: Path, vocabulary: Header) -> None:
    seen: list[tuple[int, int]] = []
    header = write(
        tmp_path / "model.gguf",
        vocabulary,
        progress=lambda done, total: seen.append((done, total)),
    )
    total_bytes = sum(tensor.n_bytes or 0 for tensor in header.tensors.values())
    assert seen[-1] == (total_bytes, total_bytes)
    assert seen == sorted(seen)


def test_a_piece_that_runs_short_is_refused(tmp_path: Path, vocabulary: Header) -> None:
    with pytest.raises(FormatError, match=r"a\.weight should be"):
        write(
            tmp_path / "model.gguf",
            vocabulary,
            piece("a.weight", 3, 64, lacks_bytes=1),
        )
    assert [path.name for path in tmp_path.iterdir()] == ["vocabulary.gguf"]
