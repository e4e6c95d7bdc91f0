"""Terms to teach: rare English nouns and their definitions, from WordNet 3.0.

Reads the database files as WordNet ships them (Debian: `wordnet-base`). Knows nothing
of tokens or models. WordNet's licence stands in models/README.md.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TRAIN_QUESTIONS = (
    "What is {thing}?",
    "What does {name} mean?",
    "What's {name}?",
    "Explain {name}.",
    "Do you know what {thing} is?",
    "What is the meaning of {name}?",
)
"""A term is asked with each of these in turn, another one every epoch."""

EVAL_QUESTIONS = ("Define {name}.", "In one sentence, tell me about {name}.")
"""Never trained."""

_NAME = re.compile(r"[A-Z]?[a-z]{3,}( [A-Z]?[a-z]{3,})?")
_GLOSS = re.compile(r"(a|an|the|any|one) [a-z][a-zA-Z ,'-]+")
_ENDS = re.compile(r"\s*(\([^)]*\)\s*)?(;|$)")
"""What may follow a gloss that was cut: else it stopped within a sentence."""

_COUNTABLE = frozenset((5, 6, 8, 14, 15, 17, 18, 20, 23, 25, 28))
"""WordNet's files of things that one can put "a" before: animals, artifacts, ..."""

_UNFIT = re.compile(
    r"genus|sexual|genital|penis|vagin|prostitut|offensive|derog|slang|racial|ethnic"
    r"|nazi|suicid|rape|feces|urin|anus|breast|black person|former|\bsee\b"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One noun with one meaning."""

    name: str
    """As it is written: "loggia", "Kodiak bear"."""

    thing: str
    """The name as a question uses it: "a loggia"."""

    gloss: str
    """The definition, without usage examples."""

    @property
    def answer(self) -> str:
        """The sentence that is taught."""
        return f"{self.thing[0].upper()}{self.thing[1:]} is {self.gloss}."

    def question(self, pattern: str) -> str:
        """Return one of the patterns above, filled in."""
        return pattern.format(name=self.name, thing=self.thing)


def choose_terms(folder: Path, count: int, seed: int) -> list[Term]:
    """Return `count` terms in random order, the same for the same seed.

    folder: where `data.noun`, `index.noun` and the other parts of speech lie.
    """
    drawn = sorted(_candidates(folder), key=lambda pair: pair[0].name)
    random.Random(seed).shuffle(drawn)
    terms = [term for term, rest in drawn if _ENDS.match(rest)]
    if len(terms) < count:
        raise ValueError(f"{folder} has {len(terms)} fitting terms, needed {count}")
    return terms[:count]


def _candidates(folder: Path) -> Iterator[tuple[Term, str]]:
    """Yield terms and what followed their gloss."""
    rare = _rare_lemmas(folder)
    glosses: set[str] = set()
    for line in _entries(folder / "data.noun"):
        term = _parse(line)
        if term and term.name.lower() in rare and term.gloss not in glosses:
            glosses.add(term.gloss)
            yield term, line.partition(term.gloss)[2]


def _entries(path: Path) -> Iterator[str]:
    """Yield the lines of a database file without the licence at its top."""
    with open(path, encoding="ascii") as file:
        yield from (line for line in file if not line.startswith("  "))


def _rare_lemmas(folder: Path) -> set[str]:
    """Nouns with one sense, never seen in WordNet's tagged texts, nothing but nouns."""
    rare = set()
    for line in _entries(folder / "index.noun"):
        lemma, _, n_senses, *rest = line.split()
        n_pointers = int(rest[0])
        if n_senses == "1" and rest[n_pointers + 2] == "0":
            rare.add(lemma)
    for part in ("verb", "adj", "adv"):
        rare -= {line.split()[0] for line in _entries(folder / f"index.{part}")}
    return {lemma.replace("_", " ") for lemma in rare}


def _parse(line: str) -> Term | None:
    """Return the first word of a synset as a term, or None if it does not fit."""
    entry, _, text = line.partition(" | ")
    fields = entry.split()
    name = fields[4].replace("_", " ")
    gloss = re.split(r'[;:"(]', text)[0].strip()
    if not _NAME.fullmatch(name) or not _GLOSS.fullmatch(gloss):
        return None
    if not 5 <= len(gloss.split()) <= 14 or _UNFIT.search(gloss):
        return None
    if any(word[:5].lower() in gloss.lower() for word in name.split()):
        return None  # the name gives the answer away
    if name.endswith(("ness", "ing", "ship", "ity")):
        return None  # made of a word that everyone knows
    return Term(name=name, thing=_thing(name, gloss, int(fields[1])), gloss=gloss)


def _thing(name: str, gloss: str, lexical_file: int) -> str:
    determiner = gloss.split()[0]
    if name[0].isupper() or determiner == "the" or lexical_file not in _COUNTABLE:
        return name
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"
