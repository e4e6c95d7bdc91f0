"""Writing a backbone GGUF of the llama architecture from numbers and raw weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from gguf import GGUFWriter, LlamaFileType
from numpy.typing import NDArray

from engram_local.formats.engram_gguf import TYPE_IDS
from engram_local.formats.header import Header
from engram_local.formats.pieces import Piece, Progress, write_gguf
from engram_local.formats.tokenizer_writer import add_tokenizer
from engram_local.spec import BackboneShape, RowType

Source = Callable[[int], Iterable[NDArray[np.uint8]]]
"""Called with a number of bytes, returns that many as encoded weights, in chunks."""

CONTEXT_LENGTH = 4096

_ARCHITECTURE = "llama"
_RMS_EPSILON = 1e-5
_ROPE_BASE = 10_000.0
_QUANTIZATION_VERSION = 2  # of the block layouts; the only one since 2023
_FILE_TYPES = {
    RowType.Q4_0: LlamaFileType.MOSTLY_Q4_0,
    RowType.Q8_0: LlamaFileType.MOSTLY_Q8_0,
}
WEIGHT_TYPES = tuple(_FILE_TYPES)
"""What the matrices of a backbone may be stored as."""


def write_backbone(
    path: Path,
    shape: BackboneShape,
    weight_type: RowType,
    *,
    name: str,
    vocabulary: Header,
    weights: Source,
    progress: Progress | None = None,
) -> None:
    """Write a backbone to `path`; a file of that name is replaced when all is written.

    weight_type: of every matrix, one of WEIGHT_TYPES. vocabulary: the model whose
    tokenizer and chat template are copied. weights: called once per matrix. Norms are
    1. The output matrix is the token embedding. Raises FileError if the file cannot
    be written, FormatError if a width does not fit the type.
    """
    vocab_size = len(vocabulary.texts("tokenizer.ggml.tokens"))
    writer = GGUFWriter(None, _ARCHITECTURE)
    writer.add_name(name)
    writer.add_vocab_size(vocab_size)
    writer.add_file_type(_FILE_TYPES[weight_type])
    writer.add_quantization_version(_QUANTIZATION_VERSION)
    _add_shape(writer, shape)
    add_tokenizer(writer, vocabulary)
    pieces = [
        _piece(tensor, dims, weight_type, weights)
        for tensor, dims in _tensors(shape, vocab_size)
    ]
    write_gguf(path, writer, pieces, progress)


def _add_shape(writer: GGUFWriter, shape: BackboneShape) -> None:
    writer.add_type("model")
    writer.add_context_length(CONTEXT_LENGTH)
    writer.add_embedding_length(shape.hidden_size)
    writer.add_block_count(shape.n_layers)
    writer.add_feed_forward_length(shape.ffn_size)
    writer.add_head_count(shape.n_heads)
    writer.add_head_count_kv(shape.n_kv_heads)
    writer.add_rope_dimension_count(shape.head_size)
    writer.add_rope_freq_base(_ROPE_BASE)
    writer.add_layer_norm_rms_eps(_RMS_EPSILON)


def _tensors(
    shape: BackboneShape, vocab_size: int
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield name and shape (C order) of every tensor."""
    yield "token_embd.weight", (vocab_size, shape.hidden_size)
    for layer_id in range(shape.n_layers):
        for name, dims in _block(shape).items():
            yield f"blk.{layer_id}.{name}.weight", dims
    yield "output_norm.weight", (shape.hidden_size,)


def _block(shape: BackboneShape) -> dict[str, tuple[int, ...]]:
    d, kv_size = shape.hidden_size, shape.n_kv_heads * shape.head_size
    return {
        "attn_norm": (d,),
        "attn_q": (d, d),
        "attn_k": (kv_size, d),
        "attn_v": (kv_size, d),
        "attn_output": (d, d),
        "ffn_norm": (d,),
        "ffn_gate": (shape.ffn_size, d),
        "ffn_up": (shape.ffn_size, d),
        "ffn_down": (d, shape.ffn_size),
    }


def _piece(
    name: str, dims: tuple[int, ...], weight_type: RowType, weights: Source
) -> Piece:
    kind = RowType.F32 if len(dims) == 1 else weight_type
    n_bytes = kind.row_bytes(dims[-1]) * int(np.prod(dims[:-1]))
    ones = [np.ones(dims, np.float32).view(np.uint8)]
    return Piece(
        name=name,
        shape=dims,
        type_id=TYPE_IDS[kind],
        n_bytes=n_bytes,
        chunks=ones if len(dims) == 1 else weights(n_bytes),
        stored_bytes=n_bytes,
    )
