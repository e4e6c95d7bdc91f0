"""A backbone GGUF -> BackboneSpec, its vocabulary and its fingerprint."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engram_local.errors import FileError, FormatError, UnsupportedError
from engram_local.formats.header import Header
from engram_local.memory.canonical import build_token_map
from engram_local.spec import BackboneSpec, Fingerprint
from engram_local.units import escape_control


def read_backbone(header: Header) -> BackboneSpec:
    """Return what the header says; raise FormatError if a needed key is absent."""
    require_model(header)
    architecture = header.architecture
    return BackboneSpec(
        architecture=architecture,
        name=header.text("general.name", header.path.stem),
        n_params=sum(tensor.n_elements for tensor in header.tensors.values()),
        file_bytes=header.file_bytes,
        context_length=header.integer(f"{architecture}.context_length"),
        fingerprint=Fingerprint(
            embedding_length=header.integer(f"{architecture}.embedding_length"),
            block_count=header.integer(f"{architecture}.block_count"),
            vocab_size=len(header.texts("tokenizer.ggml.tokens")),
            tokens_sha256=tokens_sha256(header.texts("tokenizer.ggml.tokens")),
        ),
    )


def require_model(header: Header) -> None:
    """Raise FileError if the GGUF is a memory, a vision projector or the like."""
    if header.metadata.get("general.type", "model") != "model":
        raise FileError(
            f"{header.path} is a GGUF of type "
            f"{escape_control(header.text('general.type'))}, a model is needed",
            hint="a memory is given with --memory, the model before it",
        )


def read_token_map(header: Header) -> NDArray[np.int32]:
    """Return the canonical ids of a backbone's vocabulary: (vocab_size,) int32."""
    tokenizer = header.text("tokenizer.ggml.model")
    if tokenizer != "gpt2":
        raise UnsupportedError(
            f"{header.path} has a tokenizer of kind {escape_control(tokenizer)}; "
            "canonical ids are known for byte-level BPE (gpt2) only",
        )
    tokens = header.texts("tokenizer.ggml.tokens")
    token_types = header.integers("tokenizer.ggml.token_type")
    if len(token_types) != len(tokens):
        raise FormatError(
            f"{header.path} has {len(token_types)} token types, {len(tokens)} tokens"
        )
    return build_token_map(tokens, [int(kind) for kind in token_types])


def tokens_sha256(tokens: Sequence[str]) -> str:
    """Return the SHA-256 over each token's length (8 bytes) and its UTF-8 bytes."""
    digest = hashlib.sha256()
    for token in tokens:
        raw = token.encode("utf-8", "surrogateescape")
        digest.update(len(raw).to_bytes(8, "little") + raw)
    return digest.hexdigest()
