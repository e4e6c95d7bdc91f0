"""The numbers of a model like Qwen3.8-Flash-Next (`qwen4exp`), checked."""

from __future__ import annotations

from dataclasses import dataclass, replace

from engram_local.bench.random_bytes import RANDOM_TYPES
from engram_local.bench.synthetic_llama import key_heads
from engram_local.errors import UsageError
from engram_local.memory.constants import derive_sizes
from engram_local.spec import RowType
from engram_local.units import format_bytes, format_count

_MAX_ROWS = 2**31 - 1  # llama.cpp numbers rows with int32
_MAX_NGRAM = 8
_MAX_SLOTS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Qwen4ExpShape:
    """The numbers of a model; the defaults give one of a few megabytes.

    The hidden size follows from the table: all rows of a token side by side. Raises
    UsageError for what llama.cpp does not run, FormatError for a width that the row
    type does not allow.
    """

    row_width: int = 32
    rows_per_head: int = 1009
    """At least; each head has a prime of its own."""

    row_type: RowType = RowType.F16
    """One of random_bytes.RANDOM_TYPES."""

    padding_rows: int = 64
    """The table's rows are a multiple of this, as the real model's are of 128."""

    max_ngram: int = 3
    n_heads: int = 2
    """Rows gathered per n-gram order."""

    table_layer: int = 0
    conv_kernel: int = 4
    wide_multipliers: bool = False
    """Multipliers of 64 bits: products wrap. Released ones keep them below 2^63."""

    eos_token_id: int | None = None
    """What cuts the n-grams; None = the tokenizer's."""

    image_token_id: int | None = None

    n_layers: int = 2
    full_every: int = 2
    """Every so many layers one has full attention, the others a recurrent state."""

    n_attention_heads: int = 2
    n_kv_heads: int = 1
    head_size: int = 32
    n_rotated: int = 16
    state_size: int = 32
    """Of one head of linear attention: keys and values."""

    n_key_heads: int = 2
    n_value_heads: int = 2
    state_kernel: int = 4
    n_experts: int = 4
    n_experts_used: int = 2
    expert_size: int = 32
    shared_size: int = 32
    n_streams: int = 4
    stream_rank: int = 8
    n_indexer_heads: int = 2
    indexer_size: int = 32
    indexer_top_k: int = 4096
    indexer_block: int = 4
    """Tokens that the indexer scores together; 0 = attention to everything."""

    context_length: int = 4096
    n_tokens: int | None = None
    """Of the default model's vocabulary; None = all."""

    weight_type: RowType = RowType.F32
    tied_output: bool = False
    """The output matrix is the embedding: such noise says one token for ever."""

    seed: int = 0

    def __post_init__(self) -> None:
        if self.row_type not in RANDOM_TYPES:
            raise UsageError(
                f"rows may be {', '.join(RANDOM_TYPES)}, not {self.row_type}",
            )
        self._check_table()
        self._check_layers()

    @classmethod
    def scaled(
        cls, width: int, depth: int, row_type: RowType | None = None
    ) -> Qwen4ExpShape:
        """Return a shape of this size with the proportions of the released model.

        16 rows per token, four streams; 16 experts of which 4 are used, where that has
        512 and 10. Matrices are q4_0, heads 64 wide; rows are q8_0, unless they are too
        narrow for its blocks. Raises UsageError unless the width
        is a multiple of 128 and there are two layers.
        """
        if width < 1 or width % 128 or depth < 2:
            raise UsageError(
                f"a qwen4exp of {width}x{depth} is not made",
                hint="the width is a multiple of 128, the depth at least 2",
            )
        full_every = min(depth, 4)
        return cls(
            row_width=width // 16,
            row_type=row_type or (RowType.F16 if width % 512 else RowType.Q8_0),
            padding_rows=128,
            n_heads=8,
            table_layer=min(1, full_every - 2),
            n_layers=depth,
            full_every=full_every,
            n_attention_heads=width // 64,
            n_kv_heads=key_heads(width // 64, n_queries=4),
            head_size=64,
            n_rotated=32,
            state_size=64,
            n_key_heads=width // 128,
            n_value_heads=width // 64,
            n_experts=16,
            n_experts_used=4,
            expert_size=width // 4,
            shared_size=width // 4,
            stream_rank=width // 8,
            indexer_size=64,
            weight_type=RowType.Q4_0,
        )

    @property
    def n_slots(self) -> int:
        """Rows gathered for one token."""
        return (self.max_ngram - 1) * self.n_heads

    @property
    def hidden_size(self) -> int:
        """Values of one stream."""
        return self.row_width * self.n_slots

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.row_type.row_bytes(self.row_width)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Rows of each slot: primes, no two alike."""
        starts = [self.rows_per_head] * (self.max_ngram - 1)
        return derive_sizes(starts, n_layers=1, n_heads=self.n_heads)[0]

    @property
    def n_rows(self) -> int:
        """Rows of the table, with those that no hash reaches."""
        return -(-sum(self.sizes) // self.padding_rows) * self.padding_rows

    def is_linear(self, layer_id: int) -> bool:
        """Return whether a layer keeps a recurrent state instead of a cache."""
        return (layer_id + 1) % self.full_every != 0

    def with_table(self, table_bytes: int) -> Qwen4ExpShape:
        """Return the same shape with a table of about so many bytes.

        Raises UsageError if that is no row per head.
        """
        rows = table_bytes // (self.n_slots * self.row_bytes)
        if rows < 1:
            raise UsageError(
                f"a table of {format_bytes(table_bytes)} has no row for each of its "
                f"{self.n_slots} slots"
            )
        return replace(self, rows_per_head=rows)

    def _check_table(self) -> None:
        if not 2 <= self.max_ngram <= _MAX_NGRAM or self.n_heads < 1:
            raise UsageError(f"n-grams have 2 to {_MAX_NGRAM} tokens and a head")
        if self.n_slots > _MAX_SLOTS:
            raise UsageError(f"{self.n_slots} rows per token, {_MAX_SLOTS} are allowed")
        if min(self.rows_per_head, self.padding_rows) < 1 or self.conv_kernel < 2:
            # llama.cpp crashes where there is no past to keep.
            raise UsageError("a table needs rows, and its convolution two taps")
        if self.n_slots * self.rows_per_head > _MAX_ROWS or self.n_rows > _MAX_ROWS:
            raise UsageError(
                f"{format_count(self.n_slots * self.rows_per_head)} rows, llama.cpp "
                f"numbers {format_count(_MAX_ROWS)}"
            )
        self.row_bytes  # noqa: B018 - raises where the width does not fit

    def _check_layers(self) -> None:
        if not 0 <= self.table_layer < self.n_layers:
            raise UsageError(f"there is no layer {self.table_layer}")
        if self.full_every < 1 or not self.is_linear(self.table_layer):
            raise UsageError("the table's layer needs linear attention")
        if self.full_every > self.n_layers:
            raise UsageError("one layer needs full attention")
        if self.n_streams < 2 or self.stream_rank < 1:
            raise UsageError("a model needs two streams, and a rank to mix them")
        if self.n_value_heads % self.n_key_heads:
            raise UsageError("value heads are shared by a whole number of key heads")
        if self.n_attention_heads % self.n_kv_heads:
            raise UsageError("queries share a whole number of keys")
        if self.n_rotated % 2 or not 0 < self.n_rotated <= self.indexer_size:
            raise UsageError("rotated values are even, and fit the indexer's keys")
        if not 0 < self.n_experts_used <= self.n_experts:
            raise UsageError("a token uses at least one expert, at most all")
