"""Writing a model GGUF of any architecture: keys, a tokenizer, tensors in pieces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from gguf import GGUFWriter

from engram_local.formats.header import Header, Value
from engram_local.formats.pieces import Piece, Progress, write_gguf
from engram_local.formats.tokenizer_writer import add_tokenizer, add_value

_QUANTIZATION_VERSION = 2  # of the block layouts; the only one since 2023


def write_model(
    path: Path,
    architecture: str,
    *,
    name: str,
    keys: Mapping[str, Value],
    pieces: Sequence[Piece],
    vocabulary: Header,
    n_tokens: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Write a model to `path`; a file of that name is replaced when all is written.

    keys: without the architecture's prefix. Integers become uint32, floats float32,
    arrays keep their type. vocabulary, n_tokens: as in `add_tokenizer`. Raises
    FileError if the file cannot be written, UsageError for too few tokens.
    """
    writer = GGUFWriter(None, architecture)
    writer.add_type("model")
    writer.add_name(name)
    writer.add_quantization_version(_QUANTIZATION_VERSION)
    for key, value in keys.items():
        add_value(writer, f"{architecture}.{key}", value)
    add_tokenizer(writer, vocabulary, n_tokens)
    write_gguf(path, writer, pieces, progress)
