"""What a model and its memory are, in frozen numbers. Knows no file and no key name.

Every known recipe is one formula (docs/memory.md):

    row[j] = offset[j] + (XOR over (shift, multiplier) of id[t - shift] * multiplier)
             mod size[j]

in unsigned 64-bit arithmetic, plus a rule for the ids that are missing before the
start of a sequence.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from engram_local.errors import FormatError


class Window(StrEnum):
    """Which end of the n-gram the first multiplier belongs to."""

    NEWEST_FIRST = "newest_first"
    """DeepSeek, Qwen: order n hashes ids t, t-1 .. t-n+1; the first is the newest."""

    OLDEST_FIRST = "oldest_first"
    """engram-peft: order n hashes ids t-N+1 .. t-N+n for maximal order N, so an
    order below N misses the newest ids (its collator slides the window that way)."""


class Boundary(StrEnum):
    """What an id before the start of the sequence, or a cut, reads."""

    PAD = "pad"
    """Missing ids read the pad id; a dead id (negative) hides all older ones."""

    EOS = "eos"
    """An EOS hides itself and everything older; what is hidden reads as EOS."""


class RowType(StrEnum):
    """How one row is stored. A row of width w is found by offset arithmetic alone."""

    F32 = "f32"
    F16 = "f16"
    BF16 = "bf16"
    Q8_0 = "q8_0"
    Q4_0 = "q4_0"
    FP8 = "fp8"

    # Only in models with a table of their own; named as in ggml.
    Q4_1 = "q4_1"
    Q5_0 = "q5_0"
    Q5_1 = "q5_1"
    Q2_K = "q2_k"
    Q3_K = "q3_k"
    Q4_K = "q4_k"
    Q5_K = "q5_k"
    Q6_K = "q6_k"
    IQ1_S = "iq1_s"
    IQ1_M = "iq1_m"
    IQ2_XXS = "iq2_xxs"
    IQ2_XS = "iq2_xs"
    IQ2_S = "iq2_s"
    IQ3_XXS = "iq3_xxs"
    IQ3_S = "iq3_s"
    IQ4_NL = "iq4_nl"
    IQ4_XS = "iq4_xs"
    TQ1_0 = "tq1_0"
    TQ2_0 = "tq2_0"
    MXFP4 = "mxfp4"
    NVFP4 = "nvfp4"

    def row_bytes(self, width: int) -> int:
        """Return the bytes of one row; raise FormatError if `width` does not fit."""
        block, n_bytes = _BLOCKS[self]
        if width <= 0 or width % block:
            raise FormatError(
                f"rows of type {self.value} need a width divisible by {block}, "
                f"found {width}",
                hint="f16 and bf16 take any width",
            )
        return width // block * n_bytes

    @property
    def block_width(self) -> int:
        """Values that are stored together: widths are multiples of it."""
        return _BLOCKS[self][0]


_BLOCKS = {
    RowType.F32: (1, 4),
    RowType.F16: (1, 2),
    RowType.BF16: (1, 2),
    RowType.Q8_0: (32, 34),  # one float16 scale, 32 int8
    RowType.Q4_0: (32, 18),  # one float16 scale, 32 nibbles
    RowType.FP8: (32, 33),  # 32 E4M3 values, one E8M0 scale at the end of the row
    RowType.Q4_1: (32, 20),
    RowType.Q5_0: (32, 22),
    RowType.Q5_1: (32, 24),
    RowType.Q2_K: (256, 84),
    RowType.Q3_K: (256, 110),
    RowType.Q4_K: (256, 144),
    RowType.Q5_K: (256, 176),
    RowType.Q6_K: (256, 210),
    RowType.IQ1_S: (256, 50),
    RowType.IQ1_M: (256, 56),
    RowType.IQ2_XXS: (256, 66),
    RowType.IQ2_XS: (256, 74),
    RowType.IQ2_S: (256, 82),
    RowType.IQ3_XXS: (256, 98),
    RowType.IQ3_S: (256, 110),
    RowType.IQ4_NL: (32, 18),
    RowType.IQ4_XS: (256, 136),
    RowType.TQ1_0: (256, 54),
    RowType.TQ2_0: (256, 66),
    RowType.MXFP4: (32, 17),
    RowType.NVFP4: (64, 36),
}
"""Values of a block and its bytes."""

MEMORY_TYPES = (
    RowType.F32,
    RowType.F16,
    RowType.BF16,
    RowType.Q8_0,
    RowType.Q4_0,
    RowType.FP8,
)
"""What a memory's own file may hold; compiled code decodes these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HashSpec:
    """The hash of one memory layer: integers only, read from a file."""

    multipliers: tuple[int, ...]
    """One odd 64-bit number per position of the longest n-gram."""

    sizes: tuple[int, ...]
    """Rows of each slot; slots are ordered by n-gram order, then by head."""

    offsets: tuple[int, ...]
    """First row of each slot."""

    n_heads: int
    """Slots per n-gram order."""

    window: Window
    boundary: Boundary

    fill_id: int
    """The canonical id that a missing position reads (pad or EOS)."""

    min_ngram: int = 2
    """The shortest n-gram; 1 with a multiplier of 1 is a row per token id (Gemma)."""

    def __post_init__(self) -> None:
        if not 1 <= self.min_ngram <= self.max_ngram or self.n_heads < 1:
            raise FormatError(
                f"an n-gram memory needs orders of at least {self.min_ngram} and a "
                f"head, found maximal order {self.max_ngram} and {self.n_heads} heads"
            )
        n_slots = len(self.orders) * self.n_heads
        if len(self.sizes) != n_slots or len(self.offsets) != n_slots:
            raise FormatError(
                f"{len(self.orders)} orders of {self.n_heads} heads need {n_slots} "
                f"sizes and offsets, found {len(self.sizes)} and {len(self.offsets)}"
            )
        numbers = (*self.multipliers, *self.sizes, *self.offsets, self.fill_id)
        if min(self.sizes) < 1 or min(numbers) < 0 or max(numbers) >= 2**64:
            raise FormatError("a hash constant lies outside 0 .. 2^64 - 1")

    @property
    def max_ngram(self) -> int:
        """The longest n-gram: it has a multiplier for each of its positions."""
        return len(self.multipliers)

    @property
    def orders(self) -> range:
        """Lengths of the n-grams that are hashed, in the order of their slots."""
        return range(self.min_ngram, self.max_ngram + 1)

    @property
    def n_slots(self) -> int:
        """Rows gathered for one token."""
        return len(self.sizes)

    @property
    def n_rows(self) -> int:
        """Rows that the hash can reach: one past the largest row id."""
        ends = zip(self.offsets, self.sizes, strict=True)
        return max(offset + size for offset, size in ends)

    def shifts(self, order: int) -> tuple[int, ...]:
        """Return how far back each position of an n-gram of `order` looks."""
        oldest = self.max_ngram - 1
        if self.window is Window.OLDEST_FIRST:
            return tuple(oldest - position for position in range(order))
        return tuple(range(order))


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSpec:
    """Where the rows of one layer lie."""

    row_type: RowType
    width: int
    n_rows: int
    offset_bytes: int
    """Start of the first row in the file."""

    @property
    def row_bytes(self) -> int:
        """Bytes of one row in the file."""
        return self.row_type.row_bytes(self.width)

    @property
    def n_bytes(self) -> int:
        """Bytes of all rows."""
        return self.n_rows * self.row_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class FusionSpec:
    """How rows enter the hidden state; the same for all layers of a memory."""

    hidden_size: int
    """Width d of the hidden state of one branch."""

    n_branches: int = 1
    """Streams with their own key and norms (hc); the value is shared."""

    conv_kernel: int = 0
    """Taps of the short convolution; 0 = none."""

    conv_dilation: int = 1
    norm_epsilon: float = 1.1920928955078125e-07
    """Of key and query norm; torch's default is the float32 machine epsilon."""

    conv_norm_epsilon: float = 1e-5

    def __post_init__(self) -> None:
        if self.hidden_size < 1 or self.n_branches < 1:
            raise FormatError(
                f"a memory needs a hidden size and a branch, found "
                f"{self.hidden_size} and {self.n_branches}"
            )
        if self.conv_kernel < 0 or self.conv_dilation < 1:
            raise FormatError(
                f"a convolution of {self.conv_kernel} taps with dilation "
                f"{self.conv_dilation} does not exist"
            )

    @property
    def reach(self) -> int:
        """Earlier positions that the convolution looks at."""
        return max(self.conv_kernel - 1, 0) * self.conv_dilation


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSpec:
    """One memory layer: its place, its hash and its table."""

    layer_id: int
    """Decoder layer whose input the memory is added to, 0-based."""

    hash: HashSpec
    table: TableSpec

    def __post_init__(self) -> None:
        if self.hash.n_rows > self.table.n_rows:
            raise FormatError(
                f"layer {self.layer_id}: the hash reaches {self.hash.n_rows} rows, "
                f"the table has {self.table.n_rows}"
            )

    @property
    def embedding_size(self) -> int:
        """Values of one token's rows, concatenated."""
        return self.hash.n_slots * self.table.width


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """Which backbone a memory belongs to."""

    embedding_length: int
    block_count: int
    vocab_size: int
    tokens_sha256: str
    """Over the token list, each token as its length and its UTF-8 bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySpec:
    """A whole memory: its layers and what they have in common."""

    layers: tuple[LayerSpec, ...]
    """Ascending by `layer_id`."""

    n_canonical: int
    """Canonical ids; equal to the vocabulary where no token map is used."""

    def __post_init__(self) -> None:
        ids = [layer.layer_id for layer in self.layers]
        if not ids or ids != sorted(set(ids)) or ids[0] < 0:
            raise FormatError(f"memory layers must ascend from 0 on, found {ids}")

    @property
    def rows_per_token(self) -> int:
        """Rows gathered for one token, all layers."""
        return sum(layer.hash.n_slots for layer in self.layers)

    @property
    def bytes_per_token(self) -> int:
        """Table bytes gathered for one token, all layers."""
        return sum(layer.hash.n_slots * layer.table.row_bytes for layer in self.layers)

    @property
    def table_bytes(self) -> int:
        """Bytes of all tables."""
        return sum(layer.table.n_bytes for layer in self.layers)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneSpec:
    """What the header of a backbone says about it."""

    architecture: str
    name: str
    n_params: int
    file_bytes: int
    context_length: int
    fingerprint: Fingerprint


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneShape:
    """The numbers that a llama-like backbone is built from."""

    n_layers: int
    hidden_size: int
    n_heads: int
    n_kv_heads: int
    """Heads of keys and values; each is shared by `n_heads / n_kv_heads` queries."""

    ffn_size: int

    def __post_init__(self) -> None:
        numbers = (self.n_layers, self.n_kv_heads, self.n_heads, self.ffn_size)
        if min(numbers) < 1 or self.n_heads % self.n_kv_heads:
            raise FormatError(f"a backbone of the shape {self} does not exist")
        if self.hidden_size < 1 or self.hidden_size % (2 * self.n_heads):
            raise FormatError(
                f"a hidden size of {self.hidden_size} does not split into "
                f"{self.n_heads} heads of an even width"
            )

    @property
    def head_size(self) -> int:
        """Values of one head."""
        return self.hidden_size // self.n_heads
