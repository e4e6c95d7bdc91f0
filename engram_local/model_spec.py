"""What a model is made of, as far as its size and speed depend on it.

The same type from a GGUF's header, a Hugging Face config and a card in `models/`. Knows
no file and no key name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from engram_local.errors import FormatError
from engram_local.figures import Source


class Part(StrEnum):
    """What weights are for; it decides where they lie and how often they are read."""

    EMBEDDING = "token embedding"
    """One row per token; llama.cpp keeps it in RAM. Also read as the output where the
    model has no output matrix (`tied_output`)."""

    OUTPUT = "output"
    """Logits, all of it for every token."""

    LAYERS = "layers"
    """What every token reads in the decoder layers: attention, norms, dense or shared
    feed-forward."""

    EXPERTS = "experts"
    """Of which each token reads `n_experts_used` of `n_experts`."""

    TABLE = "n-gram table"
    UNUSED = "not loaded"
    """In the file, but not loaded for text: draft heads, vision."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """One set of weights: a file, or what a maker publishes under one name."""

    name: str
    """The quantization as people say it: "Q4_K_M", "FP8"."""

    file_bytes: int
    parts: dict[Part, int]
    """Bytes; without rounding their sum is `file_bytes` less the header."""

    source: Source
    table_row_bytes: int = 0
    """Of the n-gram table; 0 = there is none, or it is not known."""

    native: bool = False
    """Whether it is the maker's own checkpoint, which servers load."""

    url: str = ""
    """Where a published number stands."""

    def __post_init__(self) -> None:
        if self.file_bytes < 0 or min(self.parts.values(), default=0) < 0:
            raise FormatError(f"{self.name}: a size below zero")

    def part(self, part: Part) -> int:
        """Return the bytes of a part; 0 where it has none."""
        return self.parts.get(part, 0)


INDEXER = "indexer"
"""Kind of a cache whose keys only choose which tokens attention looks at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheGroup:
    """Layers that keep keys and values of the same shape for every token."""

    kind: str
    """In a report: "attention", "sliding window", "indexer", "compressed"."""

    n_layers: int
    """Layers with a cache of their own; those that share another's do not count."""

    key_size: int
    """Values of a token's key in one layer: heads times width, or the latent."""

    value_size: int
    """The same of its value; 0 where the key serves as both (MLA)."""

    window: int = 0
    """Tokens that are kept; 0 = all of the context."""

    ratio: int = 1
    """Tokens of one entry; more than 1 where the cache is compressed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StateGroup:
    """Layers that keep a state of fixed size per sequence (linear attention)."""

    n_layers: int
    n_bytes: int
    """Of one layer and one sequence, as llama.cpp keeps it (float32)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableShape:
    """One n-gram table."""

    layer_id: int
    """Decoder layer that first needs its rows; 0 = before all layers."""

    n_rows: int
    width: int
    rows_per_token: int
    orders: tuple[int, ...]
    """Lengths of the n-grams; (1,) is an embedding per token id (Gemma)."""

    n_heads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A model: its sizes, what it keeps per token, its tables and its weights."""

    name: str
    architecture: str
    """llama.cpp's name where it has one, else the maker's."""

    source: Source
    """Of all numbers in here that have none of their own."""

    origin: str
    """Where it was found: a path, or the name of a card."""

    n_params: int
    """All of them; tables included."""

    n_active_params: int
    """Read for one token; neither the token embedding nor tables."""

    context_length: int
    """As trained."""

    vocab_size: int
    hidden_size: int
    n_layers: int
    n_heads: int
    ffn_size: int
    """Widest feed-forward that one token computes, summed over its experts; 0 = it is
    not known."""

    caches: tuple[CacheGroup, ...]
    weights: tuple[Weights, ...]
    """At least one; cards list several, smallest first."""

    states: tuple[StateGroup, ...] = ()
    tables: tuple[TableShape, ...] = ()
    n_experts: int = 0
    n_experts_used: int = 0
    tied_output: bool = False
    head_size: int = 0
    """Values of one query head, the widest; 0 = not known."""

    n_drafts: int = 0
    """Blocks of draft heads behind the layers. llama.cpp does not load them, but counts
    them in -ngl."""

    n_streams: int = 1
    """Residual streams (hyper-connections); activations are that many times wider."""

    runs_here: bool = True
    """Whether the pinned llama.cpp knows the architecture."""

    attached: bool = False
    """Whether this package gathers the rows of its tables, and not llama.cpp."""

    loads_table: bool = False
    """Whether llama.cpp loads its table like any weight (Gemma 3n), not row by row."""

    repository: str = ""
    """Where its maker publishes it: "deepseek-ai/DeepSeek-V4.1-Flash"."""

    notes: tuple[str, ...] = ()
    """Sentences for the report: what is special, what is not known."""

    urls: dict[str, str] = field(default_factory=dict)
    """Where the numbers of a card stand, by what they are."""

    def __post_init__(self) -> None:
        numbers = (self.n_params, self.context_length, self.vocab_size)
        shape = (self.hidden_size, self.n_layers, self.n_heads)
        if min(*numbers, *shape) < 1:
            raise FormatError(f"{self.name}: a size is missing or not above zero")
        if not self.weights:
            raise FormatError(f"{self.name}: no weights are listed")
        if self.n_experts_used > self.n_experts:
            raise FormatError(
                f"{self.name}: {self.n_experts_used} of {self.n_experts} experts"
            )

    @property
    def chooses_tier(self) -> bool:
        """Whether its table may lie in RAM or in its file, as llama.cpp is told."""
        return bool(self.tables) and not self.attached and not self.loads_table

    @property
    def rows_per_token(self) -> int:
        """Rows gathered for one token, all tables."""
        return sum(table.rows_per_token for table in self.tables)

    @property
    def table_params(self) -> int:
        """Values of all tables."""
        return sum(table.n_rows * table.width for table in self.tables)
