"""What a bench measures: a model, where its rows lie, and how it is run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engram_local.bench.eviction import Region
from engram_local.formats.engram_gguf import read_memory
from engram_local.formats.header import read_header
from engram_local.formats.native import read_native
from engram_local.formats.split import read_model_header
from engram_local.memory.module import NativeModule
from engram_local.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The rows of a memory, or of a model's own table."""

    memory: Path | Literal["auto"]
    """A file; or what is a part of the model, in the words of `Engine.open`."""

    region: Region
    """Where they lie; of a memory, its whole file."""

    table_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is measured."""

    model: Path
    rows: Rows
    settings: Settings
    text: str | None = None
    """None = drawn tokens."""


def find_rows(model: Path, memory: Path | None) -> Rows:
    """Return where rows lie: in the memory, or with None in the model's own table.

    Raises FileError for a file that cannot be read or is no such.
    """
    if memory is not None:
        spec = read_memory(read_header(memory)).spec
        region = Region(path=memory)
        return Rows(memory=memory, region=region, table_bytes=spec.table_bytes)
    native = native_of(model)
    assert native is not None
    table = native.spec.layers[0].table
    region = Region(
        path=native.path,
        begin_bytes=table.offset_bytes,
        end_bytes=table.offset_bytes + table.n_bytes,
    )
    return Rows(memory="auto", region=region, table_bytes=table.n_bytes)


def native_of(model: Path) -> NativeModule | None:
    """Return the table that is a part of the model, if it has one."""
    return read_native(read_model_header(model))
