"""A file of named values (JSON, TOML), read without trusting it.

Every value is checked where it is asked for, and the error names file and key. Keys
that nobody asked for can be refused, so that a misspelled one is no silent default.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from engram_local.errors import FormatError
from engram_local.formats.header import open_error
from engram_local.units import escape_control, format_count

MOST = 2**50
"""No count and no size is larger: a petabyte, a thousand times the largest model."""


class Fields:
    """The named values of one section of a file."""

    def __init__(self, values: object, path: Path, section: str = "") -> None:
        """Take over `values`; FormatError where they have no names."""
        self._path = path
        self._section = section
        if not isinstance(values, Mapping):
            raise self._error(section or "the file", values, "a list of named values")
        self._values: Mapping[Any, Any] = values
        self._asked: set[str] = set()

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    def __contains__(self, key: str) -> bool:
        """Return whether the key is there and not null."""
        self._asked.add(key)
        return self._values.get(key) is not None

    def integer(
        self, key: str, low: int = 0, high: int = MOST, default: int | None = None
    ) -> int:
        """Return an integer within bounds; FormatError without one nor a default."""
        value = self._get(key, default)
        # JSON writes 16384 as 16384.0 now and then; a bool is no number here.
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if type(value) is not int or not low <= value <= high:
            needed = f"an integer from {low} to {format_count(high)}"
            raise self._error(key, value, needed)
        return value

    def number(self, key: str, high: float = MOST) -> float:
        """Return a number from 0 to `high`; FormatError without one."""
        value = self._get(key, None)
        if type(value) not in (int, float) or not 0 <= value <= high:
            raise self._error(key, value, f"a number from 0 to {high:g}")
        return float(value)

    def text(self, key: str, default: str | None = None) -> str:
        """Return a text that can be printed; FormatError without one nor a default."""
        value = self._get(key, default)
        if not isinstance(value, str):
            raise self._error(key, value, "a text")
        return escape_control(value)

    def flag(self, key: str, default: bool) -> bool:
        """Return true or false; FormatError for anything else."""
        value = self._get(key, default)
        if type(value) is not bool:
            raise self._error(key, value, "true or false")
        return value

    def integers(self, key: str, low: int = 0, high: int = MOST) -> tuple[int, ...]:
        """Return a list of integers within bounds; FormatError for anything else."""
        needed = f"a list of integers from {low} to {format_count(high)}"

        def fits(value: object) -> bool:
            return type(value) is int and low <= value <= high

        return tuple(self._list(key, fits, needed))

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of texts, () where there is none."""
        if key not in self:
            return ()
        values = self._list(
            key, lambda value: isinstance(value, str), "a list of texts"
        )
        return tuple(escape_control(value) for value in values)

    def section(self, key: str) -> Fields:
        """Return the values below a key; none where the key is not there."""
        return Fields(self._get(key, {}), self._path, self._full(key))

    def sections(self, key: str) -> list[Fields]:
        """Return every section of a list of them; none where there is no list."""
        if key not in self:
            return []
        values = self._list(key, lambda value: isinstance(value, Mapping), "sections")
        return [
            Fields(value, self._path, f"{self._full(key)}[{number}]")
            for number, value in enumerate(values)
        ]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all values."""
        return tuple(escape_control(str(key)) for key in self._values)

    def refuse_unknown(self) -> None:
        """Raise FormatError where there is a key that nobody asked for."""
        unknown = sorted(set(self.names) - self._asked)
        if unknown:
            raise FormatError(f"{self._path}: {self._full(unknown[0])} is not known")

    def refuse(self, sentence: str) -> FormatError:
        """Return the error that says what is wrong with this section."""
        where = f"{self._path}: {self._section}".removesuffix(": ")
        return FormatError(f"{where}: {sentence}")

    def _list(self, key: str, fits: Callable[[Any], bool], needed: str) -> list[Any]:
        values = self._get(key, None)
        if not isinstance(values, list) or not all(map(fits, values)):
            raise self._error(key, values, needed)
        return values

    def _get(self, key: str, default: object) -> Any:
        return self._values[key] if key in self else default

    def _full(self, key: str) -> str:
        return f"{self._section}.{key}" if self._section else key

    def _error(self, key: str, value: object, needed: str) -> FormatError:
        name = key if key == self._section else self._full(key)
        if value is None:
            return FormatError(f"{self._path}: {name} is missing, {needed} is needed")
        found = escape_control(reprlib.repr(value))  # short, however deep it is
        return FormatError(f"{self._path}: {name} is {found}, {needed} is needed")


def read_limited(path: Path, most_bytes: int) -> bytes:
    """Return a file's bytes; FileError where it cannot be read or is larger."""
    try:
        with open(path, "rb") as file:
            data = file.read(most_bytes + 1)
    except OSError as error:
        raise open_error(path, error) from error
    if len(data) > most_bytes:
        raise FormatError(
            f"{path} is larger than {format_count(most_bytes)} bytes",
            hint="such files are much smaller: name another one",
        )
    return data
