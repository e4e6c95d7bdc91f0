"""The memory file: what is written is read, what contradicts itself is refused."""

from __future__ import annotations

import errno
import math
import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engram_local.errors import FileError, FormatError
from engram_local.formats import engram_writer, pieces
from engram_local.formats.engram_gguf import matches, read_fingerprint, read_memory
from engram_local.formats.engram_writer import StoredRows, write_memory
from engram_local.formats.header import Header, read_header
from engram_local.memory.module import FusionWeights, MemoryModule
from engram_local.memory.rows import decode_rows, encode_rows
from engram_local.memory.table import open_table
from engram_local.spec import MEMORY_TYPES, Boundary, RowType, Window
from tests.fakes import (
    ARRAY,
    BOOL,
    FLOAT32,
    FLOAT64,
    GGML_F32,
    INT32,
    INT64,
    STRING,
    TOKENS,
    UINT32,
    UINT64,
    File,
    Memory,
    Tensor,
    Typed,
    make_memory,
    memory_file,
)

F32 = NDArray[np.float32]
Write = Callable[[Memory], MemoryModule]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "memory.gguf"


def assert_same_memory(found: MemoryModule, wanted: MemoryModule) -> None:
    """Compare all but where the rows lie."""
    assert [layer.layer_id for layer in found.spec.layers] == [
        layer.layer_id for layer in wanted.spec.layers
    ]
    for one, other in zip(found.spec.layers, wanted.spec.layers, strict=True):
        assert one.hash == other.hash
        assert replace(one.table, offset_bytes=0) == other.table
    assert found.spec.n_canonical == wanted.spec.n_canonical
    assert found.fusion == wanted.fusion
    assert found.fingerprint == wanted.fingerprint
    np.testing.assert_array_equal(found.token_map, wanted.token_map)
    assert found.token_map.dtype == np.int32
    for left, right in zip(found.weights, wanted.weights, strict=True):
        for field in fields(FusionWeights):
            ours, theirs = getattr(left, field.name), getattr(right, field.name)
            if theirs is None:
                assert ours is None
            else:
                assert ours.dtype == np.float32
                np.testing.assert_array_equal(ours, theirs)


def read_rows(module: MemoryModule, line: int) -> F32:
    spec = module.spec.layers[line].table
    table = open_table(module.path, spec, "mmap")
    out = np.empty((spec.n_rows, spec.width), np.float32)
    table.gather(np.arange(spec.n_rows), out)
    table.close()
    return out


def as_stored(rows: F32, row_type: RowType) -> F32:
    """Return rows after a way through their format."""
    raw = encode_rows(rows, row_type)
    starts = np.arange(len(rows), dtype=np.int64) * raw.shape[1]
    return decode_rows(raw.reshape(-1), starts, row_type, np.empty_like(rows))


# --- there and back -------------------------------------------------------------------


@pytest.mark.parametrize("row_type", MEMORY_TYPES)
def test_a_written_memory_is_read_back_whole(
    path: Path, written: Write, row_type: RowType
) -> None:
    memory = make_memory(path, row_type=row_type, width=64)
    found = written(memory)
    assert found.path == path
    assert_same_memory(found, memory.module)
    for line, rows in enumerate(memory.rows):
        np.testing.assert_array_equal(read_rows(found, line), as_stored(rows, row_type))


@pytest.mark.parametrize("window", list(Window))
@pytest.mark.parametrize("boundary", list(Boundary))
def test_hash_dialects_are_read_back(
    path: Path, written: Write, window: Window, boundary: Boundary
) -> None:
    memory = make_memory(path, window=window, boundary=boundary)
    assert_same_memory(written(memory), memory.module)


@pytest.mark.parametrize("biases", [False, True])
@pytest.mark.parametrize("conv_kernel", [0, 1, 4])
@pytest.mark.parametrize("n_branches", [1, 4])
def test_fusion_shapes_are_read_back(
    path: Path, written: Write, n_branches: int, conv_kernel: int, biases: bool
) -> None:
    memory = make_memory(
        path, n_branches=n_branches, conv_kernel=conv_kernel, biases=biases
    )
    assert_same_memory(written(memory), memory.module)


@pytest.mark.parametrize("row_type", [RowType.F16, RowType.BF16])
def test_projections_may_be_stored_in_16_bits(path: Path, row_type: RowType) -> None:
    memory = make_memory(path, biases=True)
    write_memory(
        path,
        memory.module,
        memory.rows,
        architecture="llama",
        matrix_type=row_type,
    )
    found = read_memory(read_header(path))
    for left, right in zip(found.weights, memory.module.weights, strict=True):
        np.testing.assert_array_equal(left.key, as_stored(right.key, row_type))
        np.testing.assert_array_equal(left.value, as_stored(right.value, row_type))
        np.testing.assert_array_equal(left.query_norm, right.query_norm)


def test_a_file_spelled_out_by_hand_is_read(path: Path) -> None:
    memory = make_memory(path, n_branches=2, biases=True)
    header = read_header(memory_file(memory).write(path))
    found = read_memory(header)
    assert_same_memory(found, memory.module)
    for line, rows in enumerate(memory.rows):
        np.testing.assert_array_equal(read_rows(found, line), rows)


def test_the_writer_uses_the_documented_keys_and_tensors(path: Path) -> None:
    memory = make_memory(path, n_branches=2, biases=True)
    by_hand = memory_file(memory)
    write_memory(path, memory.module, memory.rows, architecture="llama")
    header = read_header(path)
    assert set(header.metadata) == set(by_hand.keys)
    assert set(header.tensors) == set(by_hand.tensors)
    for name, part in by_hand.tensors.items():
        assert header.tensor(name).shape == part.shape
        assert header.tensor(name).type_id == part.kind
    for name in ("multipliers", "primes", "offsets"):
        assert header.integers(f"llama.engram.{name}").dtype == np.uint64


def test_gguf_py_reads_what_we_write(path: Path) -> None:
    from gguf import GGUFReader

    memory = make_memory(path)
    write_memory(path, memory.module, memory.rows, architecture="llama")
    reader = GGUFReader(path)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    for layer, rows in zip(memory.module.spec.layers, memory.rows, strict=True):
        found = tensors[f"blk.{layer.layer_id}.engram_embd.weight"].data
        np.testing.assert_array_equal(found, rows)


def stored(raw: NDArray[np.uint8], *ends: int) -> StoredRows:
    """Return rows in chunks that end where they are told to, not between rows."""
    chunks = np.split(raw.reshape(-1), ends)
    return StoredRows(chunks=chunks, n_bytes=sum(chunk.nbytes for chunk in chunks))


def test_rows_that_are_encoded_already_are_written_as_they_are(path: Path) -> None:
    memory = make_memory(path, row_type=RowType.Q8_0)
    write_memory(path, memory.module, memory.rows, architecture="llama")
    expected = path.read_bytes()
    encoded = [encode_rows(rows, RowType.Q8_0) for rows in memory.rows]
    sources = [stored(encoded[0], 100, 101), stored(encoded[1])]
    write_memory(path, memory.module, sources, architecture="llama")
    assert path.read_bytes() == expected


def test_rows_that_are_not_stored_are_zeros(path: Path) -> None:
    memory = make_memory(path, row_type=RowType.Q8_0)
    encoded = [encode_rows(rows, RowType.Q8_0) for rows in memory.rows]
    sources = [stored(encoded[0][:5]), stored(encoded[1])]
    write_memory(path, memory.module, sources, architecture="llama")
    for layer, raw, n_rows in zip(
        read_memory(read_header(path)).spec.layers, encoded, (5, None), strict=True
    ):
        count, offset = layer.table.n_bytes, layer.table.offset_bytes
        found = np.fromfile(path, np.uint8, count=count, offset=offset)
        expected = raw.copy()
        if n_rows is not None:
            expected[n_rows:] = 0
        np.testing.assert_array_equal(found, expected.reshape(-1))


@pytest.mark.parametrize("n_bytes", [99, 101])
def test_a_source_of_another_length_is_refused(path: Path, n_bytes: int) -> None:
    """Its missing rows would read as zeros, its surplus lie in the next tensor."""
    memory = make_memory(path, row_type=RowType.Q8_0)
    wrong = StoredRows(chunks=[np.zeros(100, np.uint8)], n_bytes=n_bytes)
    with pytest.raises(FormatError, match=f"{n_bytes} bytes, its source gave 100"):
        write_memory(path, memory.module, [wrong, wrong], architecture="llama")
    assert_only(path, None)


def test_a_source_with_too_few_rows_is_refused(path: Path) -> None:
    memory = make_memory(path)
    with pytest.raises(FormatError, match="its source gave"):
        write_memory(
            path,
            memory.module,
            [memory.rows[0][:-1], memory.rows[1]],
            architecture="llama",
        )
    assert_only(path, None)


def test_rows_are_written_in_chunks(
    path: Path, written: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engram_writer, "_CHUNK_ROWS", 7)
    memory = make_memory(path)
    asked: list[slice] = []

    class Source:
        def __init__(self, rows: F32) -> None:
            self._rows = rows

        def __getitem__(self, rows: slice) -> F32:
            asked.append(rows)
            return self._rows[rows]

    sources = tuple(Source(rows) for rows in memory.rows)
    found = written(Memory(memory.module, sources))  # type: ignore[arg-type]
    np.testing.assert_array_equal(read_rows(found, 1), memory.rows[1])
    assert {part.stop - part.start for part in asked[:-1]} <= {7, 1, 2, 3, 4, 5, 6}
    n_rows = [layer.table.n_rows for layer in memory.module.spec.layers]
    assert len(asked) == sum(math.ceil(count / 7) for count in n_rows)


def test_progress_ends_with_all_bytes(path: Path) -> None:
    memory = make_memory(path)
    calls: list[tuple[int, int]] = []
    write_memory(
        path,
        memory.module,
        memory.rows,
        architecture="llama",
        progress=lambda *call: calls.append(call),
    )
    done = [done for done, _ in calls]
    assert done == sorted(done)
    assert calls[-1][0] == calls[-1][1] > memory.module.spec.table_bytes


def test_the_fingerprint_is_read_alone(path: Path) -> None:
    memory = make_memory(path)
    file = memory_file(memory)
    file.tensors.clear()
    header = read_header(file.write(path))
    assert read_fingerprint(header) == memory.module.fingerprint


def test_another_gguf_is_no_memory(backbone: Header) -> None:
    assert not matches(backbone)
    with pytest.raises(FileError, match="not an Engram memory") as caught:
        read_memory(backbone)
    assert type(caught.value) is FileError
    assert caught.value.exit_code == 3


# --- contradictions -------------------------------------------------------------------

N = len(TOKENS)
EMBD, K = "blk.1.engram_embd.weight", "blk.1.engram_k.weight"
N_SIZES = 8  # two layers, two orders, two heads

BROKEN_KEYS: dict[str, tuple[str, Typed, str]] = {
    "a size past the table": (
        "primes",
        (ARRAY, (UINT64, [11, 13, 23, 29 + 4, 17, 19, 31, 37])),
        "layer 1: the hash reaches 80 rows, the table has 79",
    ),
    "an offset past the table": (
        "offsets",
        (ARRAY, (UINT64, [0, 11, 24, 2**63, 0, 17, 36, 67])),
        "the table has 79",
    ),
    "a size of zero": (
        "primes",
        (ARRAY, (UINT64, [0] * N_SIZES)),
        r"outside 0 \.\. 2\^64 - 1",
    ),
    "a negative size": (
        "primes",
        (ARRAY, (INT64, [-11] * N_SIZES)),
        r"outside 0 \.\. 2\^64 - 1",
    ),
    "a negative multiplier": (
        "multipliers",
        (ARRAY, (INT64, [-1] * 6)),
        r"outside 0 \.\. 2\^64 - 1",
    ),
    "too few sizes": (
        "primes",
        (ARRAY, (UINT64, [11] * 7)),
        "has 7 values, 2 layers of 4 need 8",
    ),
    "too many offsets": (
        "offsets",
        (ARRAY, (UINT64, [0] * 9)),
        "has 9 values, 2 layers of 4 need 8",
    ),
    "too few multipliers": (
        "multipliers",
        (ARRAY, (UINT64, [1] * 5)),
        "has 5 values, 2 layers of 3 need 6",
    ),
    "sizes that are floats": (
        "primes",
        (ARRAY, (FLOAT32, [11.0] * N_SIZES)),
        "should be an array of integers",
    ),
    "no layers": ("layer_ids", (ARRAY, (INT32, [])), r"memory layers \[\]"),
    "a layer past the backbone": (
        "layer_ids",
        (ARRAY, (INT32, [1, 6])),
        r"memory layers \[1, 6\] do not fit a backbone of 6 layers",
    ),
    "a negative layer": ("layer_ids", (ARRAY, (INT32, [-1, 4])), "engram_embd"),
    "a layer twice": ("layer_ids", (ARRAY, (INT32, [1, 1])), "the table has"),
    "layers that descend": ("layer_ids", (ARRAY, (INT32, [4, 1])), "the table has"),
    "a short token map": (
        "token_map",
        (ARRAY, (INT32, [0] * (N - 1))),
        f"has {N - 1} entries, the vocabulary {N}",
    ),
    "a token map past the vocabulary": (
        "token_map",
        (ARRAY, (INT32, [*range(N - 1), N])),
        f"has ids 0 to {N}, 0 to {N - 1} are possible",
    ),
    "a negative canonical id": (
        "token_map",
        (ARRAY, (INT32, [*range(N - 1), -1])),
        f"has ids -1 to {N - 2}",
    ),
    "a canonical id of 64 bits": (
        "token_map",
        (ARRAY, (UINT64, [*range(N - 1), 2**64 - 1])),
        "18446744073709551615",
    ),
    "an unknown window": (
        "window",
        (STRING, "sideways"),
        "window is sideways, known are newest_first, oldest_first",
    ),
    "an unknown boundary": (
        "boundary",
        (STRING, "bos\x1b[2J"),
        r"boundary is bos\\x1b\[2J, known are pad, eos",
    ),
    "no branches": ("branch_count", (UINT32, 0), "branch_count is 0, 1 to 256"),
    "too many branches": ("branch_count", (UINT32, 257), "branch_count is 257"),
    "branches that do not fit": ("branch_count", (UINT32, 2), r"\(16, 128\) is needed"),
    "branches that are a bool": ("branch_count", (BOOL, True), "an integer, found"),
    "a huge convolution": ("conv_kernel", (UINT32, 1025), "conv_kernel is 1025"),
    "a convolution that does not fit": (
        "conv_kernel",
        (UINT32, 4),
        r"\(8, 4\) is needed",
    ),
    "no dilation": ("conv_dilation", (UINT32, 0), "conv_dilation is 0"),
    "unigrams": ("max_ngram_size", (UINT32, 1), "max_ngram_size is 1, 2 to 64"),
    "long n-grams": ("max_ngram_size", (UINT32, 65), "max_ngram_size is 65"),
    "no heads": ("head_count", (UINT32, 0), "head_count is 0"),
    "heads that do not fit": ("head_count", (UINT32, 3), "2 layers of 6 need 12"),
    "a width that does not fit": (
        "key_length",
        (UINT32, 31),
        r"has the shape \(32, 79\), rows of width 31",
    ),
    "no width": ("key_length", (UINT32, 0), "key_length is 0"),
    "a negative pad id": ("pad_id", (INT32, -1), "pad_id is -1"),
    "epsilon NaN": ("norm_epsilon", (FLOAT32, math.nan), "norm_epsilon is nan"),
    "epsilon infinite": ("norm_epsilon", (FLOAT64, math.inf), "norm_epsilon is inf"),
    "epsilon negative": ("conv_norm_epsilon", (FLOAT32, -1.0), "is -1.0"),
    "epsilon zero": ("conv_norm_epsilon", (FLOAT32, 0.0), "conv_norm_epsilon is 0.0"),
    "epsilon an integer": ("norm_epsilon", (UINT32, 1), "should be a float, found int"),
    "a hash of another type": (
        "backbone.tokens_sha256",
        (UINT32, 1),
        "should be a string",
    ),
    "another hidden size": (
        "backbone.embedding_length",
        (UINT32, 9),
        r"\(9, 128\) is needed",
    ),
    "no blocks": ("backbone.block_count", (UINT32, 0), "block_count is 0"),
    "absurdly many blocks": ("backbone.block_count", (UINT32, 2**31), "1 to 4096"),
    "an empty vocabulary": ("backbone.vocab_size", (UINT32, 0), "vocab_size is 0"),
}


@pytest.mark.parametrize("name", list(BROKEN_KEYS))
def test_one_wrong_key_is_a_format_error(path: Path, name: str) -> None:
    key, typed, sentence = BROKEN_KEYS[name]
    file = memory_file(make_memory(path))
    assert f"llama.engram.{key}" in file.keys
    file.keys[f"llama.engram.{key}"] = typed
    assert_format_error(file, path, sentence)


def all_keys() -> list[str]:
    keys = memory_file(make_memory(Path("unused"))).keys
    return [key for key in keys if key.startswith("llama.engram.")]


@pytest.mark.parametrize("key", all_keys())
def test_every_key_is_needed(path: Path, key: str) -> None:
    file = memory_file(make_memory(path))
    del file.keys[key]
    assert_format_error(file, path, rf"{key} should be .*, found nothing")


def all_tensors() -> list[str]:
    return list(memory_file(make_memory(Path("unused"))).tensors)


@pytest.mark.parametrize("name", all_tensors())
def test_every_tensor_is_needed(path: Path, name: str) -> None:
    file = memory_file(make_memory(path))
    del file.tensors[name]
    assert_format_error(file, path, f"there is no tensor {name}")


@pytest.mark.parametrize("name", all_tensors())
def test_every_tensor_has_its_shape(path: Path, name: str) -> None:
    file = memory_file(make_memory(path))
    part = file.tensors[name]
    first, *rest = part.shape
    file.tensors[name] = replace(part, shape=(first + 1, *rest), raw=part.raw * 2)
    assert_format_error(file, path, rf"{name} has the shape \(")


def test_layers_out_of_order_are_refused(path: Path) -> None:
    """Both layers are of the same size here, so that only their order is wrong."""
    file = memory_file(make_memory(path))
    for name in ("multipliers", "primes", "offsets"):
        _, (kind, numbers) = file.keys[f"llama.engram.{name}"]
        half = numbers[: len(numbers) // 2]
        file.keys[f"llama.engram.{name}"] = (ARRAY, (kind, half * 2))
    file.keys["llama.engram.layer_ids"] = (ARRAY, (INT32, [4, 1]))
    assert_format_error(file, path, r"layers must ascend from 0 on, found \[4, 1\]")


def test_a_table_is_no_cube(path: Path) -> None:
    file = memory_file(make_memory(path))
    part = file.tensors[EMBD]
    file.tensors[EMBD] = replace(part, shape=(*part.shape, 1))
    assert_format_error(file, path, r"has the shape \(32, 79, 1\)")


def test_a_table_of_too_few_rows_is_refused(path: Path) -> None:
    file = memory_file(make_memory(path))
    file.tensors[EMBD] = replace(file.tensors[EMBD], shape=(32, 75))
    assert_format_error(file, path, "layer 1: the hash reaches 76 rows, .* has 75")


@pytest.mark.parametrize("type_id", [26, 9999])
def test_rows_of_an_unknown_type_are_refused(path: Path, type_id: int) -> None:
    file = memory_file(make_memory(path))
    file.tensors[EMBD] = replace(file.tensors[EMBD], kind=type_id)
    assert_format_error(file, path, rf"element type {type_id}, rows may be f32, f16")


@pytest.mark.parametrize("row_type_id", [8, 2])
def test_blocks_that_do_not_fill_a_row_are_refused(
    path: Path, row_type_id: int
) -> None:
    file = memory_file(make_memory(path, width=48))
    for layer_id in (1, 4):
        name = f"blk.{layer_id}.engram_embd.weight"
        file.tensors[name] = replace(file.tensors[name], kind=row_type_id)
    assert_format_error(file, path, "width divisible by 32, found 48")


@pytest.mark.parametrize("type_id", [8, 24, 9999])
def test_weights_of_another_type_are_refused(path: Path, type_id: int) -> None:
    file = memory_file(make_memory(path))
    file.tensors[K] = replace(file.tensors[K], kind=type_id)
    assert_format_error(file, path, f"element type {type_id}; f32, f16 and bf16")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "name", [name for name in all_tensors() if "embd" not in name and "blk.4" in name]
)
def test_weights_that_are_no_numbers_are_refused(
    path: Path, name: str, value: float
) -> None:
    file = memory_file(make_memory(path))
    part = file.tensors[name]
    array = np.frombuffer(part.raw, np.float32).copy()
    array[-1] = value
    file.tensors[name] = Tensor(part.shape, GGML_F32, array.tobytes())
    assert_format_error(file, path, f"{name} holds NaN or infinite values")


def test_only_the_shape_of_the_rows_is_read(path: Path) -> None:
    """NaN in the rows is found where they are used, not by reading 200 GB."""
    memory = make_memory(path)
    memory.rows[0][:] = np.nan
    module = read_memory(read_header(memory_file(memory).write(path)))
    assert module.spec.layers[0].table.n_rows == len(memory.rows[0])


def test_a_file_that_shrinks_after_its_header_was_read_is_refused(path: Path) -> None:
    header = read_header(memory_file(make_memory(path)).write(path))
    os.truncate(path, header.tensor(K).offset_bytes + 3)
    with pytest.raises(FormatError, match="became shorter"):
        read_memory(header)


def test_a_file_that_vanishes_after_its_header_was_read_is_refused(
    path: Path,
) -> None:
    header = read_header(memory_file(make_memory(path)).write(path))
    path.unlink()
    with pytest.raises(FileError, match="does not exist"):
        read_memory(header)


def assert_format_error(file: File, path: Path, sentence: str) -> None:
    with pytest.raises(FormatError, match=sentence) as caught:
        read_memory(read_header(file.write(path)))
    assert caught.value.exit_code == 3
    assert "\x1b" not in caught.value.message


# --- writing that fails ---------------------------------------------------------------


class Interrupted:
    """Rows whose reading fails half way."""

    def __init__(self, rows: F32, error: BaseException) -> None:
        self._rows, self._error = rows, error

    def __getitem__(self, rows: slice) -> F32:
        if rows.start > 0:
            raise self._error
        return self._rows[rows]


@pytest.mark.parametrize("old", [None, b"the file before"])
@pytest.mark.parametrize(
    "error",
    [KeyboardInterrupt(), FormatError("rows are broken"), MemoryError()],
)
def test_an_interrupted_write_leaves_what_was_there(
    path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, old: bytes | None
) -> None:
    monkeypatch.setattr(engram_writer, "_CHUNK_ROWS", 10)
    if old is not None:
        path.write_bytes(old)
    memory = make_memory(path)
    rows = [memory.rows[0], Interrupted(memory.rows[1], error)]
    with pytest.raises(type(error)):
        write_memory(path, memory.module, rows, architecture="llama")
    assert_only(path, old)


def test_a_file_gets_its_name_when_it_is_on_the_drive(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power failure there is the old file or the whole new one."""
    memory, steps = make_memory(path), list[str]()
    fsync, rename = os.fsync, os.replace

    def recording_fsync(descriptor: int) -> None:
        steps.append("on the drive")
        fsync(descriptor)

    def recording_replace(part: Path, whole: Path) -> None:
        steps.append("named")
        rename(part, whole)

    monkeypatch.setattr(os, "fsync", recording_fsync)
    monkeypatch.setattr(os, "replace", recording_replace)
    write_memory(path, memory.module, memory.rows, architecture="llama")
    assert steps == ["on the drive", "named"]


def test_a_full_disk_is_a_sentence_and_leaves_what_was_there(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_bytes(b"old")
    memory = make_memory(path)

    def no_space(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pieces, "_write_pieces", no_space)
    with pytest.raises(FileError, match="No space left on device") as caught:
        write_memory(path, memory.module, memory.rows, architecture="llama")
    assert caught.value.exit_code == 3
    assert_only(path, b"old")


def test_too_little_space_is_seen_before_writing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = make_memory(path)
    usage = shutil.disk_usage(path.parent)._replace(free=100)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(
        FileError, match=r"memory\.gguf needs 39.* 100 B free"
    ) as caught:
        write_memory(path, memory.module, memory.rows, architecture="llama")
    assert caught.value.hint is not None
    assert_only(path, None)


def test_a_missing_folder_is_a_sentence(path: Path) -> None:
    memory = make_memory(path)
    target = path.parent / "absent" / "memory.gguf"
    with pytest.raises(FileError, match="cannot be written: No such file"):
        write_memory(target, memory.module, memory.rows, architecture="llama")


def test_a_folder_that_is_a_file_is_a_sentence(path: Path) -> None:
    path.write_bytes(b"old")
    memory = make_memory(path)
    with pytest.raises(FileError, match="cannot be written: Not a directory"):
        write_memory(
            path / "memory.gguf", memory.module, memory.rows, architecture="llama"
        )
    assert_only(path, b"old")


def test_a_target_that_is_a_folder_is_a_sentence(path: Path) -> None:
    path.mkdir()
    memory = make_memory(path)
    with pytest.raises(FileError, match="cannot be written: Is a directory"):
        write_memory(path, memory.module, memory.rows, architecture="llama")
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_may_not_be_written_is_a_sentence(
    tmp_path: Path, as_nobody: Callable[[], AbstractContextManager[None]]
) -> None:
    folder = Path("closed")
    folder.mkdir(mode=0o500)
    memory = make_memory(folder / "memory.gguf")
    with as_nobody(), pytest.raises(FileError, match="Permission denied"):
        write_memory(
            folder / "memory.gguf", memory.module, memory.rows, architecture="llama"
        )
    assert list((tmp_path / folder).iterdir()) == []


def assert_only(path: Path, content: bytes | None) -> None:
    """Check that `path` holds `content`, and that nothing else lies beside it."""
    beside = list(path.parent.iterdir())
    assert beside == ([] if content is None else [path])
    if content is not None:
        assert path.read_bytes() == content
