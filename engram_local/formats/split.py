"""A model in several GGUF files -> one header.

The parts are called `NAME-00001-of-00003.gguf`, as llama.cpp requires. The first has
the metadata, each has tensors of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from engram_local.errors import FileError, FormatError
from engram_local.formats.header import (
    MAX_HEADER_BYTES,
    Header,
    TensorInfo,
    read_header,
)
from engram_local.units import format_count

_NAME = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitName:
    """What the name of a part says: `STEM-00001-of-00003.gguf`."""

    stem: str
    number: int
    """From 1."""

    count: int


def split_name(path: Path) -> SplitName | None:
    """Return what the name of a part says; None for a file that is none."""
    match = _NAME.fullmatch(path.name)
    if match is None:
        return None
    return SplitName(stem=match[1], number=int(match[2]), count=int(match[3]))


def read_model_header(path: Path, max_bytes: int = MAX_HEADER_BYTES) -> Header:
    """Return the header of a model, given any one of its files.

    max_bytes: of each file's header.

    Of a split model: the metadata of the first part and the tensors of all, each with
    the `path` of its part, from whose start its offset counts.

    Raises FileError if a part is missing, FormatError if the parts contradict each
    other, and what `read_header` raises.
    """
    header = read_header(path, max_bytes)
    if header.integer("split.count", 1) <= 1:
        return header
    parts = list(_parts(header, max_bytes))
    return replace(
        parts[0],
        file_bytes=sum(part.file_bytes for part in parts),
        tensors=_merge(parts),
    )


def _parts(given: Header, max_bytes: int) -> Iterator[Header]:
    """Yield all parts in order; `given` is not read again."""
    count = given.integer("split.count")
    name = split_name(given.path)
    if name is None:
        raise FileError(
            f"{given.path} is one of {format_count(count)} parts, but is not called so",
            hint="parts are found by their names: NAME-00001-of-00003.gguf",
        )
    if name.count != count:
        raise _contradiction(given, f"is one of {format_count(count)} parts")
    for number in range(1, count + 1):
        path = given.path.with_name(f"{name.stem}-{number:05d}-of-{count:05d}.gguf")
        part = given if path == given.path else _read_part(path, count, max_bytes)
        _check(part, number, count)
        yield part


def _read_part(path: Path, count: int, max_bytes: int) -> Header:
    if not path.exists():
        raise FileError(
            f"{path} is missing: the model has {format_count(count)} parts",
            hint="put all parts into one folder, under the names they had",
        )
    return read_header(path, max_bytes)


def _check(part: Header, number: int, count: int) -> None:
    if part.integer("split.count") != count:
        raise _contradiction(part, f"is one of {part.integer('split.count')} parts")
    if part.integer("split.no") + 1 != number:
        raise _contradiction(part, f"is part {part.integer('split.no') + 1}")


def _contradiction(part: Header, what: str) -> FormatError:
    return FormatError(
        f"{part.path} {what} by its header",
        hint="give the file the name that it had, or download it again",
    )


def _merge(parts: list[Header]) -> dict[str, TensorInfo]:
    tensors: dict[str, TensorInfo] = {}
    for part in parts:
        for name, tensor in part.tensors.items():
            if name in tensors:
                raise FormatError(
                    f"{part.path} has the tensor {name}, {tensors[name].path} too"
                )
            tensors[name] = tensor
    expected = parts[0].integer("split.tensors.count", len(tensors))
    if expected != len(tensors):
        raise FormatError(
            f"{parts[0].path}: its parts have {format_count(len(tensors))} tensors, "
            f"{format_count(expected)} are expected",
            hint="the parts are of different models: download them again",
        )
    return tensors
