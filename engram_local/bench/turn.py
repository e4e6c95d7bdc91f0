"""What one turn cost: a prompt, and tokens after it. As values, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from engram_local.events import Timing


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The prompt of a turn, or the tokens after it. None = the system does not tell."""

    n_tokens: int
    elapsed_s: float
    rows_read: int
    useful_bytes: int
    """Of the rows that were asked for; a drive reads whole blocks for them."""

    stall: Timing | None
    """Per decode call; None without a memory."""

    drive_bytes: int | None
    n_major_faults: int | None
    resident_before_bytes: int | None
    """Of the memory's tables; None also without a memory."""

    resident_after_bytes: int | None

    @property
    def tokens_per_s(self) -> float:
        """Tokens per second."""
        return self.n_tokens / self.elapsed_s

    @property
    def rows_per_s(self) -> float:
        """Rows per second, of the time that the whole part took."""
        return self.rows_read / self.elapsed_s

    @property
    def amplification(self) -> float | None:
        """Bytes that came from the drive for each byte of the rows."""
        if self.drive_bytes is None or not self.useful_bytes:
            return None
        return self.drive_bytes / self.useful_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One turn of one arm, as its worker measured it."""

    prompt: Part
    decode: Part
    rss_anon_bytes: int | None
    """The most that was seen after the prompt and after the tokens."""

    rss_file_bytes: int | None
    peak_rss_bytes: int | None
    """Of both together, since the worker began; the system's own count."""


def most(counts: Iterable[int | None]) -> int | None:
    """Return the largest; None if one of them is unknown."""
    known = list(counts)
    return None if None in known else max(count or 0 for count in known)


def read_turn(values: Mapping[str, Any]) -> Turn:
    """Return a turn from its `asdict`."""
    parts = {name: _read_part(values[name]) for name in ("prompt", "decode")}
    return Turn(**{**values, **parts})


def _read_part(values: Mapping[str, Any]) -> Part:
    stall = values["stall"]
    return Part(**{**values, "stall": None if stall is None else Timing(**stall)})
