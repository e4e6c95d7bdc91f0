"""Numbers that say where they come from. Imports nothing of ours."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Source(StrEnum):
    """Where a number comes from, best first."""

    EXACT = "exact"
    """Follows from a file's header, or from llama.cpp's own arithmetic."""

    MEASURED = "measured"
    """On this machine."""

    GIVEN = "given"
    """By a flag."""

    PUBLISHED = "published"
    """By the maker of a model."""

    DATASHEET = "datasheet"
    """By the maker of a part."""

    ESTIMATED = "estimated"
    """By a formula whose error is stated in docs/accuracy.md."""

    UNKNOWN = "unknown"


_ORDER = tuple(Source)


def weakest(*sources: Source) -> Source:
    """Return the source of a number that was computed from others."""
    return max(sources, key=_ORDER.index)


@dataclass(frozen=True, slots=True)
class Figure:
    """A number and its source; the unit is in the name of what holds it."""

    value: float
    source: Source


@dataclass(frozen=True, slots=True)
class Interval:
    """A number, the range that should hold it, and its source."""

    low: float
    value: float
    high: float
    source: Source


@dataclass(frozen=True, slots=True)
class Term:
    """A part of a memory: "KV cache", its bytes, and where they come from."""

    name: str
    n_bytes: int
    source: Source
