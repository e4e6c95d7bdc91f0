"""The keys `*.engram.*` of a DeepSeek V4.1, by any of the names that they have.

deepseek41.py says who writes which.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engram_local.errors import FormatError
from engram_local.formats.header import Header
from engram_local.formats.model_keys import ModelKeys
from engram_local.memory.constants import offsets_of
from engram_local.spec import Boundary, HashSpec, Window
from engram_local.units import format_count

_NAMES = {
    "layer_ids": ("layer_ids", "layers"),
    "max_ngram": ("max_ngram_size", "ngram_size"),
    "width": ("key_length", "head_dim"),
    "multipliers": ("multipliers", "hash_multipliers"),
    "sizes": ("primes", "head_bucket_sizes"),
    "offsets": ("offsets", "head_offsets"),
    "pad_id": ("pad_id", "pad_token_id"),
    "token_map": ("token_map",),
}
"""What a number is called, in all dialects."""

_CONSTANTS = ("multipliers", "sizes", "pad_id", "token_map")
_PUBLISHED_ORDERS, _PUBLISHED_HEADS = 4, 8
_MAX_NGRAM = 64  # as in memory files


@dataclass(frozen=True, slots=True)
class EngramKeys:
    """Reads them; a FormatError says what is wrong with one."""

    keys: ModelKeys

    @classmethod
    def of(cls, header: Header) -> EngramKeys:
        """Return the keys of a header, under the prefix that it uses."""
        prefix = "deepseek41"
        if not any(key.startswith("deepseek41.engram.") for key in header.metadata):
            prefix = "deepseek4"
        return cls(ModelKeys(header=header, prefix=prefix, rules="deepseek41"))

    def name(self, what: str) -> str | None:
        """Return what a number of `_NAMES` is called in this file; None without it."""
        names = (f"engram.{name}" for name in _NAMES[what])
        return next((name for name in names if self.keys.has(name)), None)

    def number(self, what: str, default: int | None = None) -> int:
        """Return a number of `_NAMES`; FormatError without one nor a default."""
        return self.keys.integer(self._needed(what, default), default)

    def numbers(self, what: str) -> tuple[int, ...]:
        """Return numbers of `_NAMES`; FormatError where they are missing."""
        return self.keys.words(self._needed(what))

    def text(self, key: str) -> str:
        """Return a text; empty where there is none."""
        return self.keys.header.text(f"{self.keys.prefix}.engram.{key}", "")

    @property
    def missing(self) -> list[str]:
        """The hash constants that are not in the file, by their first names."""
        return [_NAMES[what][0] for what in _CONSTANTS if self.name(what) is None]

    @property
    def max_ngram(self) -> int:
        """The longest n-gram; FormatError for one that is impossible."""
        longest = self.number("max_ngram", _PUBLISHED_ORDERS)
        if not 2 <= longest <= _MAX_NGRAM:
            name = self._needed("max_ngram", longest)
            raise self.keys.wrong(name, f"is {format_count(longest)}")
        return longest

    @property
    def n_heads(self) -> int:
        """The heads of one order, from their own key or from all sizes."""
        default = _PUBLISHED_HEADS
        if self.name("sizes") and self.name("layer_ids"):
            n_orders = len(self.numbers("layer_ids")) * (self.max_ngram - 1)
            default = len(self.numbers("sizes")) // max(n_orders, 1)
        return self.keys.integer("engram.head_count", default)

    def token_map(self) -> list[int]:
        """Return the canonical id of each token; at least one."""
        name = self._needed("token_map")
        values = self.keys.header.integers(f"{self.keys.prefix}.{name}")
        if len(values) == 0 or int(np.min(values)) < 0:
            raise self.keys.wrong(name, "has no ids, or ids below zero")
        return [int(value) for value in values]

    def pad_id(self, token_map: list[int]) -> int:
        """Return the canonical pad id."""
        pad_id = self.number("pad_id")
        if self.name("pad_id") == "engram.pad_id":
            return pad_id
        if pad_id >= len(token_map):
            raise self.keys.wrong("engram.pad_token_id", f"is {format_count(pad_id)}")
        return token_map[pad_id]

    def hash(self, line: int, fill_id: int) -> HashSpec:
        """Return the hash of one memory layer, by its place in the file's lists."""
        n_slots = (self.max_ngram - 1) * self.n_heads
        sizes = self._of_layer("sizes", line, n_slots)
        return HashSpec(
            multipliers=self._of_layer("multipliers", line, self.max_ngram),
            sizes=sizes,
            offsets=self._of_layer("offsets", line, n_slots)
            if self.name("offsets")
            else offsets_of(sizes),
            n_heads=self.n_heads,
            window=Window.NEWEST_FIRST,
            boundary=Boundary.PAD,
            fill_id=fill_id,
        )

    def rows(self, line: int) -> int | None:
        """Return the rows that a layer's sizes add up to; None without sizes."""
        if self.name("sizes") is None:
            return None
        n_slots = (self.max_ngram - 1) * self.n_heads
        return sum(self._of_layer("sizes", line, n_slots))

    def _of_layer(self, what: str, line: int, n: int) -> tuple[int, ...]:
        numbers, n_layers = self.numbers(what), len(self.numbers("layer_ids"))
        if len(numbers) != n_layers * n:
            raise self.keys.wrong(
                self._needed(what),
                f"has {len(numbers)} values, {n_layers} layers of {n} are needed",
            )
        return numbers[line * n : (line + 1) * n]

    def _needed(self, what: str, default: int | None = None) -> str:
        name = self.name(what) or f"engram.{_NAMES[what][0]}"
        if default is None and not self.keys.has(name):
            raise FormatError(
                f"{self.keys.header.path} has no {self.keys.prefix}.{name}",
                hint="it is an early file without hash constants: get a newer one",
            )
        return name
