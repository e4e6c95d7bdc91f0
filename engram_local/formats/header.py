"""The header of a GGUF file, read without trusting it.

Sizes, counts and offsets are checked against the file before they are used, so a
hostile or damaged file ends in a FormatError, not in a huge allocation. Nothing of the
tensors is read. (`gguf.GGUFReader` maps everything and builds two numpy views per
vocabulary entry: 2.4 s and 157 MiB on a 92 MB file.)

Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from engram_local.errors import FileError, FormatError
from engram_local.units import MIB, escape_control, format_count

MAX_HEADER_BYTES = 512 * MIB
"""A vocabulary of a million tokens with merges takes about 40 MB."""

MAX_NAME_BYTES = 65_535  # the specification's limit for keys
MAX_DIMS = 4  # GGML_MAX_DIMS
DEFAULT_ALIGNMENT = 32
MAX_ALIGNMENT = 1 << 24

Value = int | float | bool | str | NDArray[np.generic] | list[str]

_SCALARS = {
    0: "<u1",
    1: "<i1",
    2: "<u2",
    3: "<i2",
    4: "<u4",
    5: "<i4",
    6: "<f4",
    7: "?",
    10: "<u8",
    11: "<i8",
    12: "<f8",
}
_STRING = 8
_ARRAY = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorInfo:
    """One tensor: where it lies and what it is. Nothing of it has been read."""

    name: str
    shape: tuple[int, ...]
    """ggml order: the first number is the contiguous one."""

    type_id: int
    """ggml's number of the element type."""

    offset_bytes: int
    """From the start of the file."""

    n_bytes: int | None
    """None where the element type is unknown to gguf-py."""

    room_bytes: int
    """From its start to the next tensor, or to the end of the file."""

    path: Path
    """The file that holds it: one of several where a model is split."""

    @property
    def stored_bytes(self) -> int:
        """Its bytes; where the type is unknown, with the padding behind it."""
        return self.room_bytes if self.n_bytes is None else self.n_bytes

    @property
    def n_elements(self) -> int:
        """Product of the shape."""
        count = 1
        for length in self.shape:
            count *= length
        return count


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Metadata and tensor list of one GGUF file, or of a split model's parts."""

    path: Path
    """The file; of a split model, its first part."""

    file_bytes: int
    """Of all parts."""

    metadata: Mapping[str, Value]
    tensors: Mapping[str, TensorInfo]

    @property
    def architecture(self) -> str:
        """`general.architecture`."""
        return self.text("general.architecture")

    def text(self, key: str, default: str | None = None) -> str:
        """Return a string; raise FormatError if it is absent or another type."""
        value = self.metadata.get(key, default)
        if not isinstance(value, str):
            raise self._wrong(key, "a string")
        return value

    def integer(self, key: str, default: int | None = None) -> int:
        """Return an integer; raise FormatError if it is absent or another type."""
        value = self.metadata.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._wrong(key, "an integer")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """Return a float; raise FormatError if it is absent or another type."""
        value = self.metadata.get(key, default)
        if not isinstance(value, float):
            raise self._wrong(key, "a float")
        return value

    def integers(self, key: str) -> NDArray[Any]:
        """Return an array of integers, as stored; raise FormatError otherwise."""
        value = self.metadata.get(key)
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "iu":
            raise self._wrong(key, "an array of integers")
        return value

    def texts(self, key: str) -> list[str]:
        """Return an array of strings; raise FormatError otherwise."""
        value = self.metadata.get(key)
        if not isinstance(value, list):
            raise self._wrong(key, "an array of strings")
        return value

    def tensor(self, name: str) -> TensorInfo:
        """Return the tensor called `name`; raise FormatError if there is none."""
        if name not in self.tensors:
            raise FormatError(f"{self.path}: there is no tensor {name}")
        return self.tensors[name]

    def _wrong(self, key: str, kind: str) -> FormatError:
        value = self.metadata.get(key)
        found = "nothing" if value is None else type(value).__name__
        return FormatError(f"{self.path}: {key} should be {kind}, found {found}")


def read_header(path: Path, max_bytes: int = MAX_HEADER_BYTES) -> Header:
    """Read metadata and tensor list of the GGUF at `path`.

    max_bytes: a longer header is refused; a hostile one takes 0.1 s per MiB.

    Raises FileError if it cannot be opened or is no GGUF, FormatError if a number in
    it is impossible.
    """
    try:
        seen = path.stat()
        return _read(path, max_bytes, seen.st_size, seen.st_mtime_ns)
    except OSError as error:
        raise open_error(path, error) from error


@lru_cache(maxsize=2)
def _read(path: Path, max_bytes: int, _size_bytes: int, _changed_ns: int) -> Header:
    """A model is looked at before it is loaded: 0.08 s for each 50,000 tokens."""
    with open(path, "rb") as file:
        return _Parser(path, file, max_bytes).parse()


def open_error(path: Path, error: OSError) -> FileError:
    """Return the sentence for a file that cannot be opened or read."""
    if isinstance(error, FileNotFoundError):
        return FileError(f"{path} does not exist", hint="check the path")
    if isinstance(error, PermissionError):
        return FileError(
            f"{path} cannot be read: permission denied",
            hint="change its permissions, or run as its owner",
        )
    if isinstance(error, IsADirectoryError):
        return FileError(f"{path} is a folder", hint="name the GGUF file in it")
    return FileError(f"{path} cannot be read: {error.strerror or error}")


class _Parser:
    """One pass over the header. Every length is checked before it is used."""

    def __init__(self, path: Path, file: BinaryIO, max_bytes: int) -> None:
        self._path = path
        self._file = file
        self._max_bytes = max_bytes
        self._position = 0
        self._file_bytes = file.seek(0, 2)
        file.seek(0)

    def parse(self) -> Header:
        magic = self._file.read(4)
        if magic != b"GGUF":
            found = f"it starts with {magic!r}" if magic else "it is empty"
            raise FileError(
                f"{self._path} is not a GGUF file: {found}, a GGUF starts with b'GGUF'",
                hint="convert it first, or name another file",
            )
        self._position = 4
        version = self._number("<u4")
        if version not in (2, 3):
            raise FormatError(
                f"{self._path} has GGUF version {version}; 2 and 3 can be read"
            )
        n_tensors = self._count("tensors", least_bytes=24)
        n_keys = self._count("metadata keys", least_bytes=13)
        metadata = self._metadata(n_keys)
        tensors = self._tensors(n_tensors, metadata)
        return Header(
            path=self._path,
            file_bytes=self._file_bytes,
            metadata=metadata,
            tensors=tensors,
        )

    def _take(self, n_bytes: int, what: str) -> bytes:
        end = self._position + n_bytes
        if self._file_bytes >= end > self._max_bytes:
            raise FormatError(
                f"{self._path}: {what} ends {format_count(end)} bytes into the header, "
                f"{format_count(self._max_bytes)} are allowed"
            )
        if end > self._file_bytes:
            raise FormatError(
                f"{self._path} is {format_count(self._file_bytes)} bytes, {what} at "
                f"byte {format_count(self._position)} needs {format_count(n_bytes)}",
                hint="the file is damaged or was cut off: download it again",
            )
        piece = self._file.read(n_bytes)
        if len(piece) != n_bytes:
            raise FormatError(f"{self._path} became shorter while it was read")
        self._position = end
        return piece

    def _number(self, dtype: str) -> int:
        size = np.dtype(dtype).itemsize
        return int.from_bytes(self._take(size, "a number"), "little")

    def _count(self, what: str, *, least_bytes: int) -> int:
        """Read a count of things that take at least `least_bytes` each."""
        count = self._number("<u8")
        most = (self._file_bytes - self._position) // least_bytes
        if count > most:
            raise FormatError(
                f"{self._path} claims {format_count(count)} {what}, its "
                f"{format_count(self._file_bytes)} bytes hold {format_count(most)} "
                "at most",
                hint="the file is damaged: download it again",
            )
        return count

    def _string(self, what: str) -> str:
        n_bytes = self._number("<u8")
        raw = self._take(n_bytes, what)
        # Tokens may hold bytes that are no UTF-8; escapes keep them apart.
        return raw.decode("utf-8", "surrogateescape")

    def _name(self, what: str) -> str:
        n_bytes = self._number("<u8")
        if n_bytes > MAX_NAME_BYTES:
            raise FormatError(
                f"{self._path} has {what} of {format_count(n_bytes)} bytes, "
                f"{format_count(MAX_NAME_BYTES)} are allowed",
                hint="the file is damaged: download it again",
            )
        raw = self._take(n_bytes, what)
        return escape_control(raw.decode("utf-8", "replace"))

    def _metadata(self, n_keys: int) -> dict[str, Value]:
        metadata: dict[str, Value] = {}
        for _ in range(n_keys):
            key = self._name("a key")
            if key in metadata:
                raise FormatError(f"{self._path} has the key {key} twice")
            metadata[key] = self._value(key, self._number("<u4"))
        return metadata

    def _value(self, key: str, type_id: int) -> Value:
        if type_id == _STRING:
            return self._string(key)
        if type_id == _ARRAY:
            return self._array(key)
        return self._scalars(key, type_id, 1)[0].item()  # type: ignore[no-any-return]

    def _array(self, key: str) -> Value:
        type_id = self._number("<u4")
        if type_id == _STRING:
            count = self._count(f"strings in {key}", least_bytes=8)
            return [self._string(key) for _ in range(count)]
        count = self._count(f"values in {key}", least_bytes=1)
        return self._scalars(key, type_id, count)

    def _scalars(self, key: str, type_id: int, count: int) -> NDArray[np.generic]:
        if type_id not in _SCALARS:
            raise FormatError(f"{self._path}: {key} has the unknown type {type_id}")
        dtype = np.dtype(_SCALARS[type_id])
        return np.frombuffer(self._take(count * dtype.itemsize, key), dtype)

    def _tensors(
        self, n_tensors: int, metadata: Mapping[str, Value]
    ) -> dict[str, TensorInfo]:
        entries = [self._tensor_entry() for _ in range(n_tensors)]
        data_start = _align(self._position, self._alignment(metadata))
        tensors: dict[str, TensorInfo] = {}
        for name, shape, type_id, offset in entries:
            if name in tensors:
                raise FormatError(f"{self._path} has the tensor {name} twice")
            tensors[name] = self._tensor(name, shape, type_id, data_start + offset)
        return self._with_room(tensors)

    def _tensor_entry(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self._name("a tensor name")
        n_dims = self._number("<u4")
        if not 1 <= n_dims <= MAX_DIMS:
            raise FormatError(
                f"{self._path}: tensor {name} has {n_dims} dimensions, "
                f"1 to {MAX_DIMS} are possible"
            )
        shape = tuple(self._number("<u8") for _ in range(n_dims))
        return name, shape, self._number("<u4"), self._number("<u8")

    def _alignment(self, metadata: Mapping[str, Value]) -> int:
        value = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
        if type(value) is not int or not 1 <= value <= MAX_ALIGNMENT:
            raise FormatError(
                f"{self._path}: general.alignment is {value!r}, "
                f"1 to {MAX_ALIGNMENT} are possible"
            )
        return value

    def _tensor(
        self, name: str, shape: tuple[int, ...], type_id: int, offset_bytes: int
    ) -> TensorInfo:
        n_bytes = tensor_bytes(shape, type_id)
        end = offset_bytes + (n_bytes or 0)
        if end > self._file_bytes:
            raise FormatError(
                f"{self._path} is {format_count(self._file_bytes)} bytes, tensor "
                f"{name} ends at byte {format_count(end)}",
                hint="the file is damaged or was cut off: download it again",
            )
        return TensorInfo(
            name=name,
            shape=shape,
            type_id=type_id,
            offset_bytes=offset_bytes,
            n_bytes=n_bytes,
            room_bytes=self._file_bytes - offset_bytes,
            path=self._path,
        )

    def _with_room(self, tensors: Mapping[str, TensorInfo]) -> dict[str, TensorInfo]:
        """Return the tensors with the room up to the next one; refuse overlaps."""
        room = dict(tensors)
        ordered = sorted(tensors.values(), key=lambda tensor: tensor.offset_bytes)
        for before, after in pairwise(ordered):
            room_bytes = after.offset_bytes - before.offset_bytes
            if (before.n_bytes or 0) > room_bytes:
                raise FormatError(
                    f"{self._path}: the tensors {before.name} and {after.name} overlap",
                    hint="the file is damaged: download it again",
                )
            room[before.name] = replace(before, room_bytes=room_bytes)
        return room


def tensor_bytes(shape: tuple[int, ...], type_id: int) -> int | None:
    """Return the bytes of a tensor, or None for a type that gguf-py does not know."""
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    try:
        block, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType(type_id)]
    except (ValueError, KeyError):
        return None
    n_bytes = -(-shape[0] // block) * block_bytes
    for length in shape[1:]:
        n_bytes *= length
    return n_bytes


def _align(position: int, alignment: int) -> int:
    return -(-position // alignment) * alignment
