"""A model's keys, `{architecture}.*`, with llama.cpp's rules and defaults."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engram_local.errors import FormatError
from engram_local.formats.architectures import MAX_LAYERS
from engram_local.formats.header import Header
from engram_local.units import escape_control, format_count

_MAX_VALUES = 65_536  # of an array; hash constants have 48 to some hundreds
_MAX_VALUE = 2**32 - 1  # llama.cpp keeps sizes in uint32


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelKeys:
    """Reads the keys of one model; a FormatError says what is wrong with one."""

    header: Header
    prefix: str
    """What keys start with: `general.architecture`."""

    rules: str
    """The architecture whose rules hold: `prefix`, or the one that it is built on."""

    @classmethod
    def of(cls, header: Header, *, rules: str | None = None) -> ModelKeys:
        """Return the keys of the header's own architecture."""
        prefix = escape_control(header.architecture)  # keys are escaped, too
        return cls(header=header, prefix=prefix, rules=rules or prefix)

    def has(self, key: str) -> bool:
        """Return whether the file has a key."""
        return self._name(key) in self.header.metadata

    def integer(self, key: str, default: int | None = None) -> int:
        """Return a number of 0 .. 2^32 - 1."""
        return self._checked(key, self.header.integer(self._name(key), default))

    def integers(self, key: str) -> tuple[int, ...]:
        """Return an array of integers or truth values of any length."""
        return tuple(self._checked(key, number) for number in self.words(key))

    def words(self, key: str) -> tuple[int, ...]:
        """Return an array as `integers` does, of numbers of up to 64 bits."""
        value = self.header.metadata.get(self._name(key))
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "iub":
            raise self.wrong(key, "should be an array of integers")
        if len(value) > _MAX_VALUES:
            raise self.wrong(key, f"has {format_count(len(value))} values")
        return tuple(int(number) for number in value)

    def is_array(self, key: str) -> bool:
        """Return whether a key holds more than one number."""
        return isinstance(self.header.metadata.get(self._name(key)), np.ndarray)

    def per_block(
        self, key: str, default: int = 0, n: int | None = None
    ) -> tuple[int, ...]:
        """Return a number for each block, from one for all or an array of them."""
        n = self.n_blocks if n is None else n
        if not self.is_array(key):
            return (self.integer(key, default),) * n
        numbers = self.integers(key)
        if len(numbers) != n:
            raise self.wrong(key, f"has {len(numbers)} values, {n} are needed")
        return numbers

    def largest(self, key: str, default: int = 0) -> int:
        """Return the largest number of a key that may be one per block."""
        return max(self.per_block(key, default))

    @property
    def n_blocks(self) -> int:
        """Blocks in the file, with those of draft heads."""
        n_blocks = self.integer("block_count")
        if not 1 <= n_blocks <= MAX_LAYERS:
            raise self.wrong(
                "block_count", f"is {format_count(n_blocks)}, 1 to {MAX_LAYERS} can be"
            )
        return n_blocks

    @property
    def n_layers(self) -> int:
        """Layers that compute text: blocks without draft heads."""
        n_drafts = self.integer("nextn_predict_layers", 0)
        if n_drafts > self.n_blocks:
            raise self.wrong("nextn_predict_layers", f"is {format_count(n_drafts)}")
        if self.rules == "deepseek4" and not self._has_drafts(n_drafts):
            return self.n_blocks
        return self.n_blocks - n_drafts or self.n_blocks

    def _has_drafts(self, n_drafts: int) -> bool:
        name = f"blk.{self.n_blocks - n_drafts}.nextn.eh_proj.weight"
        return name in self.header.tensors

    def _checked(self, key: str, number: int) -> int:
        if not 0 <= number <= _MAX_VALUE:
            raise self.wrong(key, f"is {format_count(number)}")
        return number

    def _name(self, key: str) -> str:
        return f"{self.prefix}.{key}"

    def wrong(self, key: str, what: str) -> FormatError:
        """Return the error for a key's value: "... has 3 values, 4 are needed"."""
        return FormatError(f"{self.header.path}: {self._name(key)} {what}")
