"""Reading the header of a sound GGUF file."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from engram_local.errors import FileError, FormatError
from engram_local.formats.header import Header, read_header, tensor_bytes
from tests.fakes import (
    ARRAY,
    BOOL,
    FLOAT32,
    FLOAT64,
    GGML_F32,
    INT8,
    INT16,
    INT32,
    INT64,
    STRING,
    UINT8,
    UINT16,
    UINT32,
    UINT64,
    File,
    Tensor,
    gguf,
    key,
    tensor,
)

SCALARS = {
    "u8": (UINT8, 255),
    "i8": (INT8, -128),
    "u16": (UINT16, 65535),
    "i16": (INT16, -32768),
    "u32": (UINT32, 2**32 - 1),
    "i32": (INT32, -(2**31)),
    "u64": (UINT64, 2**64 - 1),
    "i64": (INT64, -(2**63)),
    "f32": (FLOAT32, 0.25),
    "f64": (FLOAT64, 0.1),
    "yes": (BOOL, True),
    "no": (BOOL, False),
    "text": (STRING, "Ġthé"),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file.gguf"


def read(path: Path, raw: bytes) -> Header:
    path.write_bytes(raw)
    return read_header(path)


def test_every_kind_of_value_is_read(path: Path) -> None:
    header = read_header(File(keys=dict(SCALARS)).write(path))
    found = dict(header.metadata)
    assert found == {name: content for name, (_, content) in SCALARS.items()}
    for name, (_, content) in SCALARS.items():
        assert type(found[name]) is type(content)


@pytest.mark.parametrize("kind", [UINT8, INT8, UINT16, INT16, UINT32, INT32, UINT64])
def test_arrays_of_integers_keep_their_type(path: Path, kind: int) -> None:
    header = read(path, gguf([key("k", ARRAY, (kind, [1, 2, 100]))]))
    found = header.integers("k")
    assert found.tolist() == [1, 2, 100]
    assert found.dtype.kind == ("i" if kind in (INT8, INT16, INT32) else "u")


def test_64_bit_constants_are_not_cut(path: Path) -> None:
    numbers = [2**64 - 1, 2**63 + 1, 76632096046245]
    header = read(path, gguf([key("k", ARRAY, (UINT64, numbers))]))
    assert [int(number) for number in header.integers("k")] == numbers


def test_arrays_of_strings_keep_bytes_that_are_no_text(path: Path) -> None:
    tokens = ["a", b"\xff\xfe", b"\xff", ""]
    header = read(path, gguf([key("k", ARRAY, (STRING, tokens))]))
    assert header.texts("k") == ["a", "\udcff\udcfe", "\udcff", ""]


def test_an_empty_array_is_an_array(path: Path) -> None:
    header = read(path, gguf([key("k", ARRAY, (INT32, []))]))
    assert header.integers("k").tolist() == []


def test_tensors_are_found_where_they_lie(path: Path) -> None:
    first = Tensor.of(np.arange(6).reshape(2, 3))
    second = Tensor.of(np.arange(5) + 100)
    header = read_header(File(tensors={"a": first, "b": second}).write(path))
    raw = path.read_bytes()
    assert header.file_bytes == len(raw)
    assert header.tensor("a").shape == (3, 2)
    assert header.tensor("a").n_elements == 6
    for name, part in (("a", first), ("b", second)):
        info = header.tensor(name)
        assert info.offset_bytes % 32 == 0
        assert info.n_bytes == len(part.raw)
        end = info.offset_bytes + info.n_bytes
        assert raw[info.offset_bytes : end] == part.raw


@pytest.mark.parametrize("alignment", [1, 8, 32, 256])
def test_the_alignment_of_the_file_is_used(path: Path, alignment: int) -> None:
    keys = [key("general.alignment", UINT32, alignment)]
    entry = tensor("t", (4,))
    header = read(path, gguf(keys, [entry], b"x" * 16, alignment=alignment))
    assert header.tensor("t").offset_bytes == len(path.read_bytes()) - 16


@pytest.mark.parametrize("version", [2, 3])
def test_versions_2_and_3_are_read(path: Path, version: int) -> None:
    header = read(path, gguf([key("k", UINT32, 7)], version=version))
    assert header.integer("k") == 7


def test_nothing_of_a_large_tensor_is_read(path: Path) -> None:
    n_bytes = 1 << 31  # a hole: it takes no room on the disk
    path.write_bytes(gguf(tensors=[tensor("t", (n_bytes // 4,))], data=b"x"))
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size - 1 + n_bytes)
    tracemalloc.start()
    header = read_header(path)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert header.tensor("t").n_bytes == n_bytes
    assert peak_bytes < 1 << 22


def test_names_with_escape_codes_come_out_escaped(path: Path) -> None:
    raw = gguf(
        [key("k\x1b[31m", UINT32, 1)], [tensor("t\x07\x9b", (1,))], data=bytes(4)
    )
    header = read(path, raw)
    assert list(header.metadata) == [r"k\x1b[31m"]
    assert list(header.tensors) == [r"t\x07\x9b"]


def test_names_that_are_no_text_are_readable(path: Path) -> None:
    header = read(path, gguf([key(b"k\xff", UINT32, 1)]))
    assert list(header.metadata) == ["k\ufffd"]


# --- typed access ---------------------------------------------------------------------


@pytest.fixture
def typed(path: Path) -> Header:
    keys = dict(SCALARS) | {
        "ints": (ARRAY, (INT32, [1])),
        "floats": (ARRAY, (FLOAT32, [1.0])),
        "bools": (ARRAY, (BOOL, [True])),
        "texts": (ARRAY, (STRING, ["a"])),
    }
    return read_header(File(keys=keys).write(path))


ACCESS = {
    "integer": ("an integer", {"u8", "i8", "u16", "i16", "u32", "i32", "u64", "i64"}),
    "number": ("a float", {"f32", "f64"}),
    "text": ("a string", {"text"}),
    "integers": ("an array of integers", {"ints"}),
    "texts": ("an array of strings", {"texts"}),
}


@pytest.mark.parametrize("access", list(ACCESS))
def test_a_value_of_another_type_is_refused(typed: Header, access: str) -> None:
    """A bool is no integer, an integer no float, and nothing is converted."""
    kind, fitting = ACCESS[access]
    for name in [*typed.metadata, "absent"]:
        if name in fitting:
            getattr(typed, access)(name)
        else:
            with pytest.raises(FormatError, match=f"{name} should be {kind}, found"):
                getattr(typed, access)(name)


def test_an_absent_value_may_have_a_default(typed: Header) -> None:
    assert typed.integer("absent", 5) == 5
    assert typed.text("absent", "x") == "x"
    assert typed.number("absent", 0.5) == 0.5


def test_a_default_does_not_excuse_another_type(typed: Header) -> None:
    with pytest.raises(FormatError, match="yes should be an integer, found bool"):
        typed.integer("yes", 5)


def test_an_absent_tensor_is_named(typed: Header) -> None:
    with pytest.raises(FormatError, match=r"there is no tensor blk\.1\.x"):
        typed.tensor("blk.1.x")


@pytest.mark.parametrize(
    ("shape", "type_id", "n_bytes"),
    [
        ((6, 2), GGML_F32, 48),
        ((64, 3), 8, 2 * 34 * 3),  # q8_0
        ((64, 3), 2, 2 * 18 * 3),  # q4_0
        ((40, 1), 8, 2 * 34),  # a last block that is not full is stored whole
        ((5, 0), GGML_F32, 0),
        ((6, 2), 9999, None),
    ],
)
def test_bytes_of_a_tensor(
    shape: tuple[int, ...], type_id: int, n_bytes: int | None
) -> None:
    assert tensor_bytes(shape, type_id) == n_bytes


# --- files that cannot be opened ------------------------------------------------------


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"absent\.gguf does not exist") as caught:
        read_header(tmp_path / "absent.gguf")
    assert caught.value.exit_code == 3
    assert caught.value.hint == "check the path"


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="is a folder") as caught:
        read_header(tmp_path)
    assert caught.value.hint == "name the GGUF file in it"


def test_a_path_through_a_file_is_refused(path: Path) -> None:
    path.write_bytes(gguf())
    with pytest.raises(FileError, match="cannot be read: Not a directory"):
        read_header(path / "x.gguf")
