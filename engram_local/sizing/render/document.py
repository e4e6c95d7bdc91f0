"""A report as plain tables and sentences: what text, Markdown and HTML draw.

Text that is put into these types is made harmless for a terminal and fits on one line.
What else a format needs to escape, it escapes itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from engram_local.figures import Source
from engram_local.sizing.report import ModelReport
from engram_local.units import escape_control

MARKS = {
    Source.EXACT: "=",
    Source.MEASURED: "m",
    Source.GIVEN: "g",
    Source.PUBLISHED: "p",
    Source.DATASHEET: "d",
    Source.ESTIMATED: "~",
    Source.UNKNOWN: "?",
}
"""What stands behind a number."""

MEANINGS = {
    Source.EXACT: "exact: follows from a file's header or llama.cpp's arithmetic",
    Source.MEASURED: "measured or found on this machine",
    Source.GIVEN: "given by a flag",
    Source.PUBLISHED: "published by the model's maker",
    Source.DATASHEET: "datasheet of the part's maker",
    Source.ESTIMATED: "estimated by a formula",
    Source.UNKNOWN: "unknown: neither measured nor listed",
}


class Topic(StrEnum):
    """What a section is about; its title."""

    MODELS = "Side by side"
    COMPUTER = "Computer"
    INPUTS = "Inputs"
    MEMORY = "Memory"
    TABLE = "N-gram table"
    SPEED = "Speed"
    WHAT_IF = "What if"
    COMMANDS = "To run it"
    NOTES = "Notes"


def harmless(text: str) -> str:
    """Return `text` on one line, without control characters."""
    return escape_control(" ".join(text.split()))


@dataclass(frozen=True, slots=True)
class Value:
    """A cell: a number with its source, or a word without one."""

    text: str
    source: Source | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", harmless(self.text))

    @property
    def mark(self) -> str:
        """The source as one character; empty without one."""
        return MARKS[self.source] if self.source else ""


@dataclass(frozen=True, slots=True)
class Column:
    """The head of a column."""

    title: str
    is_number: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "title", harmless(self.title))


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of as many cells as there are columns; the first names its row."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Value, ...], ...]
    n_last: int = 0
    """Rows at the end that sum up the others: below a line."""

    title: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "title", harmless(self.title))
        assert all(len(row) == len(self.columns) for row in self.rows)


@dataclass(frozen=True, slots=True)
class Sentence:
    """One line of prose."""

    text: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", harmless(self.text))


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLine:
    """A command to copy."""

    title: str
    line: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "title", harmless(self.title))
        object.__setattr__(self, "line", escape_control(self.line).replace("\n", " "))


Block = Table | Sentence | CommandLine


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """What is said about one topic."""

    topic: Topic
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPart:
    """What is said about one model."""

    report: ModelReport
    """For what only one format has: charts."""

    name: str
    verdict: str
    outcome: str
    binding: str
    key_values: tuple[tuple[str, Value], ...]
    """The numbers that most people came for, by name."""

    sections: tuple[Section, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A whole report."""

    title: str
    origin: str
    """Date, version and command."""

    command: str
    common: tuple[Section, ...]
    """Of all models: side by side, if there are several, and the computer."""

    models: tuple[ModelPart, ...]

    @property
    def sources(self) -> tuple[Source, ...]:
        """Those that stand behind a number in here, best first."""
        found = {value.source for value in self._values()}
        return tuple(source for source in Source if source in found)

    def _values(self) -> Iterator[Value]:
        sections = list(self.common)
        for model in self.models:
            yield from (value for _, value in model.key_values)
            sections += model.sections
        blocks = [block for section in sections for block in section.blocks]
        for table in blocks:
            if isinstance(table, Table):
                yield from (value for row in table.rows for value in row)
