"""Finding an entry by what people and drivers call it: "4090", "NVIDIA RTX4090"."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import NamedTuple

_MAKERS = {"nvidia", "amd", "intel", "radeon", "geforce", "tesla"}
_FILLERS = {"graphics", "gpu", "dual", "channel", "channels"}
_GLUED = re.compile(
    r"(?<![a-z0-9])(rtx|rx|arc|pcie|gen)(?=\d)|(?<=\d)(ti|super|xtx?|pro|max|ultra)\b"
)
_ASIDE = re.compile(r"\([^)]*\)")
"""What drivers add: "(R)", "(TM)", the chip's name."""

_SIZE = re.compile(r"\b(\d{1,4})\s*gi?b?\b")


class Words(NamedTuple):
    """What tells one name from another."""

    words: frozenset[str]
    size_gib: int | None
    """As the name says it: "16GB"."""


def words_of(name: str) -> Words:
    """Return a name's words without case, makers and what is glued together."""
    text = _GLUED.sub(lambda match: f" {match[0]} ", _ASIDE.sub(" ", name.lower()))
    size = _SIZE.search(text)
    words = frozenset(re.findall(r"[a-z0-9+]+", _SIZE.sub(" ", text)))
    return Words(words - _MAKERS - _FILLERS or words, int(size[1]) if size else None)


def best_matches(asked: str, entries: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the entries that have all words of what was asked, and fewest beside.

    entries: by name, all that each is called. Several mean that the name is ambiguous.
    """
    extras = {
        name: min(_extra(words_of(asked), words_of(one)) for one in called)
        for name, called in entries.items()
    }
    fewest = min(extras.values(), default=_NO_MATCH)
    if fewest == _NO_MATCH:
        return []
    return [name for name, extra in extras.items() if extra == fewest]


def closest(asked: str, entries: Mapping[str, Sequence[str]]) -> list[str]:
    """Return up to three entries that may have been meant, best first."""
    plain = {_plain(one): name for name, called in entries.items() for one in called}
    found = get_close_matches(_plain(asked), plain, n=3, cutoff=0.5)
    return list(dict.fromkeys(plain[one] for one in found))


_NO_MATCH = 1000


def _extra(asked: Words, entry: Words) -> int:
    """Return how many words the entry has beside, _NO_MATCH if it lacks one."""
    if not asked.words or not asked.words <= entry.words:
        return _NO_MATCH
    if asked.size_gib and entry.size_gib not in (None, asked.size_gib):
        return _NO_MATCH
    return len(entry.words - asked.words)


def _plain(name: str) -> str:
    return " ".join(sorted(words_of(name).words))
