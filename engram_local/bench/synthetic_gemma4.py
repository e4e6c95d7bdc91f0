"""Models like Gemma 4 E2B (`gemma4`) of any size, with random weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from engram_local import catalog
from engram_local.bench.random_bytes import RANDOM_TYPES
from engram_local.bench.random_pieces import RandomPieces, table_piece
from engram_local.errors import UsageError
from engram_local.formats.header import Value, read_header
from engram_local.formats.model_writer import write_model
from engram_local.formats.pieces import Piece, Progress
from engram_local.spec import RowType
from engram_local.units import format_bytes

_ARCHITECTURE = "gemma4"
_RMS_EPSILON = 1e-6
_ROPE_BASE, _WINDOW_ROPE_BASE = 1_000_000.0, 10_000.0
_ROTATED = 0.25  # of a head of full attention
_UNROTATED = 1e30  # a frequency divided by this does not turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Gemma4Shape:
    """The numbers of a model; the defaults give one of a few megabytes.

    A row of the table holds an embedding for each layer. Raises UsageError for what
    llama.cpp does not run, FormatError for a width that the row type does not allow.
    """

    row_width: int = 64
    """Of one layer."""

    row_type: RowType = RowType.F16
    """One of random_bytes.RANDOM_TYPES."""

    n_tokens: int | None = None
    """Rows of the table: tokens of the default model's vocabulary, or more, of which
    the rest is unused; None = all of it."""

    hidden_size: int = 64
    n_layers: int = 4
    full_every: int = 2
    """Every so many layers one has full attention, the others a sliding window."""

    window: int = 64
    n_shared: int = 2
    """Layers at the end that use the keys and values of earlier ones."""

    n_attention_heads: int = 2
    n_kv_heads: int = 1
    head_size: int = 32
    """Of layers with a window."""

    full_head_size: int = 64
    ffn_size: int = 128
    softcap: float = 30.0
    """Of the logits."""

    context_length: int = 4096
    weight_type: RowType = RowType.F32
    """Of all matrices, the output one too: it is the embedding."""

    def __post_init__(self) -> None:
        if self.row_type not in RANDOM_TYPES:
            raise UsageError(
                f"rows may be {', '.join(RANDOM_TYPES)}, not {self.row_type}"
            )
        self.row_bytes  # noqa: B018 - raises where the width does not fit
        if min(self.n_layers, self.hidden_size, self.ffn_size, self.window) < 1:
            raise UsageError("a model needs layers, a width, an ffn and a window")
        if self.n_attention_heads % self.n_kv_heads:
            raise UsageError("queries share a whole number of keys")
        if self.head_size % 2 or self.full_head_size % 2:
            raise UsageError("heads have an even width")
        self._check_shared()

    @classmethod
    def scaled(
        cls, width: int, depth: int, row_type: RowType | None = None
    ) -> Gemma4Shape:
        """Return a shape of this size with the proportions of Gemma 4 E2B.

        256 values per layer and token; 5 layers of which one has full attention; the
        last four sevenths share keys. Matrices are q4_0, rows q8_0 unless another type
        is asked for. Raises UsageError unless the width is a multiple of 64 and there
        are two layers.
        """
        if width < 1 or width % 64 or depth < 2:
            raise UsageError(
                f"a gemma4 of {width}x{depth} is not made",
                hint="the width is a multiple of 64, the depth at least 2",
            )
        full_every = min(depth, 5)
        n_own = max(depth * 3 // 7 // full_every, 1) * full_every
        return cls(
            row_width=256,
            row_type=row_type or RowType.Q8_0,
            hidden_size=width,
            n_layers=depth,
            full_every=full_every,
            window=512,
            n_shared=depth - n_own,
            n_attention_heads=width // 64,
            head_size=64,
            full_head_size=128,
            ffn_size=4 * width,
            weight_type=RowType.Q4_0,
        )

    @property
    def row_bytes(self) -> int:
        """Bytes of one row, all layers."""
        return self.row_type.row_bytes(self.row_width * self.n_layers)

    def is_full(self, layer_id: int) -> bool:
        """Return whether a layer attends to everything."""
        return (layer_id + 1) % self.full_every == 0

    def with_table(self, table_bytes: int) -> Gemma4Shape:
        """Return the same shape with so many tokens that they are a table of this size.

        Raises UsageError if that is no row.
        """
        n_tokens = table_bytes // self.row_bytes
        if n_tokens < 1:
            raise UsageError(f"a table of {format_bytes(table_bytes)} has no row")
        return replace(self, n_tokens=n_tokens)

    def _check_shared(self) -> None:
        """llama.cpp takes the last layer of each kind that has keys of its own."""
        n_own = self.n_layers - self.n_shared
        if self.full_every < 2 or not 0 <= self.n_shared < self.n_layers:
            raise UsageError("layers with a window come first, and have keys")
        if self.n_shared and n_own % self.full_every:
            raise UsageError(
                f"shared keys begin after a layer of full attention: {n_own} layers "
                f"with keys are no multiple of {self.full_every}"
            )


def write_gemma4(
    path: Path, shape: Gemma4Shape, *, progress: Progress | None = None
) -> None:
    """Write a model with the default model's tokenizer; the table comes last.

    Raises FileError if the default model is not installed or the file cannot be
    written, UsageError for a type of weights that is not made here.
    """
    vocabulary = read_header(catalog.default_model())
    n_tokens = shape.n_tokens or len(vocabulary.texts("tokenizer.ggml.tokens"))
    write_model(
        path,
        _ARCHITECTURE,
        name=f"synthetic gemma4 {shape.hidden_size}x{shape.n_layers}",
        keys=_keys(shape),
        pieces=list(_pieces(shape, n_tokens)),
        vocabulary=vocabulary,
        n_tokens=n_tokens,
        progress=progress,
    )


def _keys(shape: Gemma4Shape) -> dict[str, Value]:
    windows = [not shape.is_full(layer_id) for layer_id in range(shape.n_layers)]
    return {
        "block_count": shape.n_layers,
        "context_length": shape.context_length,
        "embedding_length": shape.hidden_size,
        "embedding_length_per_layer_input": shape.row_width,
        "feed_forward_length": shape.ffn_size,
        "final_logit_softcapping": shape.softcap,
        "attention.head_count": shape.n_attention_heads,
        "attention.head_count_kv": shape.n_kv_heads,
        "attention.key_length": shape.full_head_size,
        "attention.value_length": shape.full_head_size,
        "attention.key_length_swa": shape.head_size,
        "attention.value_length_swa": shape.head_size,
        "attention.layer_norm_rms_epsilon": _RMS_EPSILON,
        "attention.shared_kv_layers": shape.n_shared,
        "attention.sliding_window": shape.window,
        "attention.sliding_window_pattern": np.array(windows, np.bool_),
        "rope.dimension_count": shape.full_head_size,
        "rope.dimension_count_swa": shape.head_size,
        "rope.freq_base": _ROPE_BASE,
        "rope.freq_base_swa": _WINDOW_ROPE_BASE,
    }


def _pieces(shape: Gemma4Shape, n_tokens: int) -> Iterator[Piece]:
    d, width = shape.hidden_size, shape.row_width * shape.n_layers
    make = RandomPieces(shape.weight_type, std=d**-0.5)
    yield make.matrix("token_embd", n_tokens, d)
    yield make.ones("output_norm", d)
    yield make.matrix("per_layer_model_proj", width, d)
    yield make.ones("per_layer_proj_norm", shape.row_width)
    yield make.values("rope_freqs.weight", _rope_factors(shape))
    for layer_id in range(shape.n_layers):
        yield from _attention(shape, make, layer_id)
        yield from _rest_of_layer(shape, make, f"blk.{layer_id}")
    yield table_piece("per_layer_token_embd", n_tokens, width, shape.row_type)


def _rope_factors(shape: Gemma4Shape) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Full attention rotates the first quarter of a head: (head size / 2,)."""
    factors = np.full(shape.full_head_size // 2, _UNROTATED, np.float32)
    factors[: int(len(factors) * _ROTATED)] = 1
    return factors


def _attention(
    shape: Gemma4Shape, make: RandomPieces, layer_id: int
) -> Iterator[Piece]:
    d, block = shape.hidden_size, f"blk.{layer_id}"
    full = shape.is_full(layer_id)
    head_size = shape.full_head_size if full else shape.head_size
    queries, keys = head_size * shape.n_attention_heads, head_size * shape.n_kv_heads
    yield make.ones(f"{block}.attn_norm", d)
    yield make.matrix(f"{block}.attn_q", queries, d)
    yield make.ones(f"{block}.attn_q_norm", head_size)
    if layer_id < shape.n_layers - shape.n_shared:
        yield make.matrix(f"{block}.attn_k", keys, d)
        yield make.matrix(f"{block}.attn_v", keys, d)
        yield make.ones(f"{block}.attn_k_norm", head_size)
    yield make.matrix(f"{block}.attn_output", d, queries)
    yield make.ones(f"{block}.post_attention_norm", d)


def _rest_of_layer(
    shape: Gemma4Shape, make: RandomPieces, block: str
) -> Iterator[Piece]:
    d = shape.hidden_size
    yield make.ones(f"{block}.ffn_norm", d)
    yield make.matrix(f"{block}.ffn_gate", shape.ffn_size, d)
    yield make.matrix(f"{block}.ffn_up", shape.ffn_size, d)
    yield make.matrix(f"{block}.ffn_down", d, shape.ffn_size)
    yield make.ones(f"{block}.post_ffw_norm", d)
    yield make.matrix(f"{block}.inp_gate", shape.row_width, d)
    yield make.matrix(f"{block}.proj", d, shape.row_width)
    yield make.ones(f"{block}.post_norm", d)
    yield make.ones(f"{block}.layer_output_scale", 1)
