"""Models in several files: found, checked, merged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engram_local.errors import FileError, FormatError
from engram_local.formats.header import read_header
from engram_local.formats.split import read_model_header
from tests.fakes import INT32, STRING, UINT16, UINT32, File, Tensor

N_PARTS = 3


def parts(folder: Path, n_parts: int = N_PARTS) -> list[tuple[Path, File]]:
    """Return the parts of a model with two tensors each, not yet written."""
    made = []
    for number in range(n_parts):
        keys = {
            "split.no": (UINT16, number),
            "split.count": (UINT16, n_parts),
            "split.tensors.count": (INT32, 2 * n_parts),
        }
        if number == 0:
            keys["general.architecture"] = (STRING, "llama")
        tensors = {
            f"blk.{number}.{name}": Tensor.of(np.zeros(length))
            for name, length in (("a", 5 + number), ("b", 8))
        }
        name = f"model-{number + 1:05d}-of-{n_parts:05d}.gguf"
        made.append((folder / name, File(keys, tensors)))
    return made


def write(made: list[tuple[Path, File]]) -> list[Path]:
    return [file.write(path) for path, file in made]


@pytest.mark.parametrize("given", range(N_PARTS))
def test_any_part_leads_to_the_whole_model(tmp_path: Path, given: int) -> None:
    paths = write(parts(tmp_path))
    header = read_model_header(paths[given])
    assert header.path == paths[0]
    assert header.architecture == "llama"
    assert header.file_bytes == sum(path.stat().st_size for path in paths)
    assert list(header.tensors) == [f"blk.{n}.{x}" for n in range(3) for x in "ab"]
    for number, path in enumerate(paths):
        tensor = header.tensor(f"blk.{number}.b")
        assert tensor.path == path
        assert tensor == read_header(path).tensor(f"blk.{number}.b")


def test_a_whole_file_is_read_as_it_is(tmp_path: Path) -> None:
    keys = {"general.architecture": (STRING, "llama"), "split.count": (UINT16, 1)}
    path = File(keys, {"a": Tensor.of(np.zeros(3))}).write(tmp_path / "model.gguf")
    assert read_model_header(path) == read_header(path)


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    paths = write(parts(tmp_path))
    paths[1].unlink()
    with pytest.raises(FileError, match="has 3 parts") as caught:
        read_model_header(paths[2])
    assert str(paths[1]) in caught.value.message
    assert "one folder" in (caught.value.hint or "")


def test_a_renamed_part_cannot_find_the_others(tmp_path: Path) -> None:
    paths = write(parts(tmp_path))
    renamed = paths[0].rename(tmp_path / "model.gguf")
    with pytest.raises(FileError, match="is one of 3 parts, but") as caught:
        read_model_header(renamed)
    assert "00001-of-00003" in (caught.value.hint or "")


def test_a_part_under_anothers_name_is_refused(tmp_path: Path) -> None:
    paths = write(parts(tmp_path))
    paths[2].write_bytes(paths[1].read_bytes())
    with pytest.raises(FormatError, match=r"00003-of-00003\.gguf is part 2 by"):
        read_model_header(paths[0])


def test_parts_of_two_models_are_refused(tmp_path: Path) -> None:
    made = parts(tmp_path)
    made[1][1].keys["split.count"] = (UINT16, 4)
    paths = write(made)
    with pytest.raises(FormatError, match=r"00002-of-00003\.gguf is one of 4 parts"):
        read_model_header(paths[0])
    with pytest.raises(FormatError, match=r"00002-of-00003\.gguf is one of 4 parts"):
        read_model_header(paths[1])


def test_a_tensor_in_two_parts_is_refused(tmp_path: Path) -> None:
    made = parts(tmp_path)
    made[2][1].tensors["blk.0.a"] = Tensor.of(np.zeros(1))
    paths = write(made)
    with pytest.raises(FormatError, match=r"has the tensor blk\.0\.a, .*00001-of"):
        read_model_header(paths[0])


def test_a_wrong_number_of_tensors_is_refused(tmp_path: Path) -> None:
    made = parts(tmp_path)
    made[0][1].keys["split.tensors.count"] = (INT32, 7)
    paths = write(made)
    with pytest.raises(FormatError, match="have 6 tensors, 7 are expected"):
        read_model_header(paths[0])


def test_a_part_without_its_number_is_refused(tmp_path: Path) -> None:
    made = parts(tmp_path)
    del made[1][1].keys["split.no"]
    paths = write(made)
    with pytest.raises(FormatError, match=r"split\.no should be an integer"):
        read_model_header(paths[0])


@pytest.mark.parametrize("count", [10**9, 2**32 - 1])
def test_an_absurd_count_is_refused_at_once(tmp_path: Path, count: int) -> None:
    made = parts(tmp_path)
    made[0][1].keys["split.count"] = (UINT32, count)
    paths = write(made)
    with pytest.raises(FormatError, match=f"is one of {count:,} parts by its header"):
        read_model_header(paths[0])
