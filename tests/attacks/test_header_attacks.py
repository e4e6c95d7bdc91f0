"""GGUF files that lie about their sizes: a sentence each time, and no allocation."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest

from engram_local.errors import FileError, FormatError
from engram_local.formats.header import read_header
from tests.fakes import (
    ARRAY,
    BOOL,
    FLOAT32,
    INT32,
    STRING,
    UINT8,
    UINT32,
    UINT64,
    File,
    Tensor,
    gguf,
    key,
    string,
    tensor,
    u32,
    u64,
)

ENORMOUS = 2**60
ENORMOUS_TEXT = "1,152,921,504,606,846,976"


def empty_array(element: int, count: int) -> bytes:
    """Return the entry of an array that claims `count` values and has none."""
    return string("k") + u32(ARRAY) + u32(element) + u64(count)


HOSTILE = {
    "no gguf": (b"MZ\x90\x00" * 10, FileError, ["b'MZ", "b'GGUF'"]),
    "empty": (b"", FileError, ["is empty", "b'GGUF'"]),
    "three bytes": (b"GGU", FileError, ["b'GGU'", "b'GGUF'"]),
    "escape codes for a magic": (b"\x1b[2J" * 9, FileError, ["\\x1b[2J"]),
    "magic only": (b"GGUF", FormatError, ["is 4 bytes", "at byte 4 needs 4"]),
    "version 1": (gguf(version=1), FormatError, ["version 1", "2 and 3"]),
    "version 4": (gguf(version=4), FormatError, ["version 4", "2 and 3"]),
    "big endian": (
        b"GGUF" + (3).to_bytes(4, "big") + bytes(16),
        FormatError,
        ["version 50331648", "2 and 3"],
    ),
    "2^63 tensors": (
        gguf(n_tensors=2**63),
        FormatError,
        ["claims 9,223,372,036,854,775,808 tensors", "24 bytes"],
    ),
    "2^63 keys": (
        gguf(n_keys=2**63),
        FormatError,
        ["claims 9,223,372,036,854,775,808 metadata keys", "24 bytes"],
    ),
    "one tensor too many": (
        gguf(n_tensors=1),
        FormatError,
        ["claims 1 tensors", "hold 0 at most"],
    ),
    "enormous key": (
        gguf([u64(ENORMOUS) + bytes(20)]),
        FormatError,
        [f"a key of {ENORMOUS_TEXT} bytes", "65,535"],
    ),
    "key longer than allowed": (
        gguf([key("k" * 65_536, UINT32, 1)]),
        FormatError,
        ["a key of 65,536 bytes", "65,535"],
    ),
    "enormous string": (
        gguf([string("k") + u32(STRING) + u64(ENORMOUS) + bytes(20)]),
        FormatError,
        ["is 65 bytes", f"needs {ENORMOUS_TEXT}"],
    ),
    "enormous tensor name": (
        gguf(tensors=[u64(ENORMOUS) + bytes(40)]),
        FormatError,
        [f"a tensor name of {ENORMOUS_TEXT} bytes", "65,535"],
    ),
    "enormous array": (
        gguf([empty_array(UINT64, ENORMOUS)]),
        FormatError,
        [f"claims {ENORMOUS_TEXT} values in k", "49 bytes"],
    ),
    "array whose bytes overflow": (
        gguf([empty_array(UINT64, 2**61 + 1)]),
        FormatError,
        ["claims 2,305,843,009,213,693,953 values"],
    ),
    "array a little too long": (
        gguf([empty_array(UINT32, 9) + bytes(35)]),
        FormatError,
        ["is 84 bytes", "needs 36"],
    ),
    "enormous array of strings": (
        gguf([empty_array(STRING, ENORMOUS)]),
        FormatError,
        [f"claims {ENORMOUS_TEXT} strings in k", "49 bytes"],
    ),
    "nested arrays": (
        gguf([empty_array(ARRAY, 1) + (u32(ARRAY) + u64(1)) * 1000]),
        FormatError,
        ["k has the unknown type 9"],
    ),
    "unknown value type": (
        gguf([string("k") + u32(77) + bytes(8)]),
        FormatError,
        ["k has the unknown type 77"],
    ),
    "unknown element type": (
        gguf([empty_array(13, 1) + bytes(8)]),
        FormatError,
        ["k has the unknown type 13"],
    ),
    "key twice": (
        gguf([key("k", UINT32, 1), key("k", UINT32, 2)]),
        FormatError,
        ["the key k twice"],
    ),
    "key twice in disguise": (
        gguf([key("k\x1b", UINT32, 1), key(r"k\x1b", UINT32, 2)]),
        FormatError,
        [r"the key k\x1b twice"],
    ),
    "tensor twice": (
        gguf(tensors=[tensor("t", (1,)), tensor("t", (1,), offset=32)], data=bytes(64)),
        FormatError,
        ["the tensor t twice"],
    ),
    "tensors overlap": (
        gguf(tensors=[tensor("a", (9,)), tensor("b", (8,), offset=32)], data=bytes(64)),
        FormatError,
        ["tensors a and b overlap"],
    ),
    "a tensor within another": (
        gguf(tensors=[tensor("a", (2,), offset=8), tensor("b", (8,))], data=bytes(32)),
        FormatError,
        ["tensors b and a overlap"],
    ),
    "tensor past the end": (
        gguf(tensors=[tensor("t", (9,))], data=bytes(35)),
        FormatError,
        ["is 99 bytes", "t ends at byte 100"],
    ),
    "offset past the end": (
        gguf(tensors=[tensor("t", (1,), offset=ENORMOUS)], data=bytes(32)),
        FormatError,
        ["is 96 bytes", "t ends at byte 1,152,921,504,606,847,044"],
    ),
    "offset past the end, unknown type": (
        gguf(tensors=[tensor("t", (1,), 9999, offset=2**64 - 1)], data=bytes(32)),
        FormatError,
        ["is 96 bytes", "18,446,744,073,709,551,679"],
    ),
    "shape that overflows": (
        gguf(tensors=[tensor("t", (2**32, 2**32, 2**32, 2**32))], data=bytes(32)),
        FormatError,
        ["is 128 bytes", "t ends at byte 1,361,129,467,683,753"],
    ),
    "five dimensions": (
        gguf(tensors=[tensor("t", (1, 1, 1, 1, 1))], data=bytes(4)),
        FormatError,
        ["t has 5 dimensions", "1 to 4"],
    ),
    "no dimensions": (
        gguf(tensors=[tensor("t", ()) + bytes(8)], data=bytes(4)),
        FormatError,
        ["t has 0 dimensions", "1 to 4"],
    ),
    "2^32 dimensions": (
        gguf(tensors=[string("t") + u32(2**32 - 1) + bytes(64)]),
        FormatError,
        ["t has 4294967295 dimensions"],
    ),
    "zero alignment": (
        gguf([key("general.alignment", UINT32, 0)]),
        FormatError,
        ["general.alignment is 0", "16777216"],
    ),
    "enormous alignment": (
        gguf([key("general.alignment", UINT64, ENORMOUS)]),
        FormatError,
        [f"general.alignment is {ENORMOUS}", "16777216"],
    ),
    "negative alignment": (
        gguf([key("general.alignment", INT32, -32)]),
        FormatError,
        ["general.alignment is -32"],
    ),
    "alignment that is a float": (
        gguf([key("general.alignment", FLOAT32, 32.0)]),
        FormatError,
        ["general.alignment is 32.0"],
    ),
    "alignment that is a bool": (
        gguf([key("general.alignment", BOOL, True)]),
        FormatError,
        ["general.alignment is True"],
    ),
    "alignment that is an array": (
        gguf([key("general.alignment", ARRAY, (UINT8, [32]))]),
        FormatError,
        ["general.alignment is"],
    ),
    "escape codes in a tensor that does not fit": (
        gguf(tensors=[tensor("\x1b]0;owned\x07", (9,))], data=bytes(4)),
        FormatError,
        [r"\x1b]0;owned\x07"],
    ),
}


@pytest.mark.parametrize("name", list(HOSTILE))
def test_a_hostile_file_ends_in_a_sentence(tmp_path: Path, name: str) -> None:
    raw, kind, fragments = HOSTILE[name]
    path = tmp_path / "hostile.gguf"
    path.write_bytes(raw)
    tracemalloc.start()
    try:
        with pytest.raises(FileError) as caught:
            read_header(path)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert type(caught.value) is kind
    assert caught.value.exit_code == 3
    assert str(path) in caught.value.message
    for fragment in fragments:
        assert fragment in caught.value.message
    assert "\x1b" not in caught.value.message
    assert peak_bytes < 1 << 20


def small_file(path: Path) -> bytes:
    """Write a sound file with a bit of everything; it ends with its last tensor."""
    keys = {
        "general.architecture": (STRING, "llama"),
        "general.alignment": (UINT32, 32),
        "llama.context_length": (UINT32, 128),
        "tokenizer.ggml.tokens": (ARRAY, (STRING, ["a", "Ġb", "<|end|>"])),
        "tokenizer.ggml.token_type": (ARRAY, (INT32, [1, 1, 3])),
    }
    tensors = {
        "a": Tensor.of(np.arange(21).reshape(3, 7)),
        "b": Tensor.of(np.arange(5)),
    }
    return File(keys, tensors).write(path).read_bytes()


def test_the_small_file_is_sound(tmp_path: Path) -> None:
    path = tmp_path / "small.gguf"
    small_file(path)
    assert list(read_header(path).tensors) == ["a", "b"]


def test_a_file_cut_anywhere_ends_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "small.gguf"
    whole = small_file(path)
    lengths = [*range(0, len(whole), 7), len(whole) - 1]
    for length in lengths:
        path.write_bytes(whole[:length])
        with pytest.raises(FileError) as caught:
            read_header(path)
        assert caught.value.exit_code == 3
        assert str(path) in caught.value.message
        assert isinstance(caught.value, FormatError) or length < 4


@pytest.mark.parametrize("seed", range(8))
def test_a_file_with_changed_bytes_ends_in_a_sentence_or_is_read(
    tmp_path: Path, seed: int
) -> None:
    path = tmp_path / "small.gguf"
    whole = np.frombuffer(small_file(path), np.uint8)
    random = np.random.default_rng(seed)
    outcomes = {"read": 0, "refused": 0}
    for _ in range(60):
        damaged = whole.copy()
        places = random.integers(4, len(whole) - 120, 3)  # most of it is header
        damaged[places] = random.integers(0, 256, 3)
        path.write_bytes(damaged.tobytes())
        try:
            read_header(path)
            outcomes["read"] += 1
        except FileError as error:
            assert str(path) in error.message
            outcomes["refused"] += 1
    assert outcomes["refused"] > 0


def test_a_file_that_may_not_be_read_is_a_sentence(
    tmp_path: Path, as_nobody: Callable[[], AbstractContextManager[None]]
) -> None:
    path = tmp_path / "secret.gguf"
    path.write_bytes(gguf())
    path.chmod(0)
    relative = Path("secret.gguf")
    with as_nobody(), pytest.raises(FileError) as caught:
        read_header(relative)
    assert caught.value.message == "secret.gguf cannot be read: permission denied"
    assert caught.value.hint == "change its permissions, or run as its owner"
    assert caught.value.exit_code == 3
