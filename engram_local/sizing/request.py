"""What is asked of a model: how long a context, which quantization, how it is cut."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from engram_local.errors import UsageError
from engram_local.model_spec import ModelSpec, Weights
from engram_local.settings import CACHE_TYPES

DEFAULT_CONTEXT = 8192
"""Tokens, where nothing is said; never more than the model was trained for."""

CELL = 256
"""llama.cpp rounds a context up to this many tokens (llama-context.cpp)."""


_ALL_LAYERS = 2**31 - 1
"""More than any model has."""


class Tier(StrEnum):
    """Where rows are read from."""

    RAM = "ram"
    """All of the table is in RAM before the first token."""

    MMAP = "mmap"
    """On the drive; RAM that nobody else needs keeps what was read."""

    DIRECT = "direct"
    """On the drive, past the page cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The flags that change how much memory a model takes."""

    n_ctx: int | None = None
    """Tokens; None = DEFAULT_CONTEXT, 0 = as trained."""

    n_ubatch: int = 512
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"
    flash_attention: bool = True
    quantization: str | None = None
    """Name of one of the model's weights; None = the plan chooses."""

    tier: Tier | None = None
    """Of the n-gram table; None = as `run` takes it: RAM for a table of the model's
    own that fits, else mmap."""

    n_sequences: int = 1
    """Computed side by side; each has its part of the context."""

    unified: bool = False
    """Whether sequences share one cache, as in llama.cpp's server by default."""

    n_outputs: int | None = None
    """Tokens of a micro-batch that get logits; None = all, as `run` asks for.
    llama.cpp's server asks for one per sequence, which takes less memory."""

    n_gpu_layers: int | None = None
    """As -ngl, the output counts as one; None = as many as fit."""

    n_cpu_moe: int = 0
    """As -ncmoe: layers, from the first on, whose experts stay in RAM; counts where
    `n_gpu_layers` is given."""

    def __post_init__(self) -> None:
        if not 0 <= (self.n_ctx or 0) < 2**31:
            raise UsageError(
                f"a context of {self.n_ctx} tokens is not possible",
                hint="-c takes 1 and more; 0 is what the model was trained for",
            )
        if not 1 <= self.n_ubatch <= 2**20:
            raise UsageError(
                f"batches of {self.n_ubatch} tokens are not possible",
                hint="-ub takes 1 to 1,048,576",
            )
        for name in (self.cache_type_k, self.cache_type_v):
            if name not in CACHE_TYPES:
                raise UsageError(
                    f"{name!r} is no type of a KV cache",
                    hint=f"possible are {', '.join(CACHE_TYPES)}",
                )
        if self.n_gpu_layers is not None and self.n_gpu_layers < 0:
            raise UsageError(
                f"{self.n_gpu_layers} layers on a GPU are not possible",
                hint="-ngl takes 0 and more; without it as many as fit are taken",
            )

    @property
    def quantizes_cache(self) -> bool:
        """Whether keys or values are kept in fewer than 16 bits."""
        return "q" in self.cache_type_k + self.cache_type_v

    def context_of(self, spec: ModelSpec) -> int:
        """Return the tokens of context for this model, as llama.cpp rounds them."""
        asked = DEFAULT_CONTEXT if self.n_ctx is None else self.n_ctx
        n_ctx = min(asked or spec.context_length, spec.context_length)
        return round_context(n_ctx)


def gpu_layers(asked: int | None) -> int | None:
    """Return -ngl as a number of layers: below zero it means all, as for llama.cpp."""
    return asked if asked is None or asked >= 0 else _ALL_LAYERS


def round_context(n_tokens: int) -> int:
    """Return the tokens or cells that llama.cpp makes of so many."""
    return -(-n_tokens // CELL) * CELL


def choose_weights(spec: ModelSpec, name: str) -> Weights:
    """Return the weights called `name`, whatever its case; UsageError if none is."""
    for weights in spec.weights:
        if weights.name.lower() == name.lower():
            return weights
    raise UsageError(
        f"no weights of {spec.name} are called {name!r}",
        hint=f"known are {', '.join(one.name for one in spec.weights)}",
    )
