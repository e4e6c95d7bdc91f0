"""What a word on the command line may be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from engram_local import catalog
from engram_local.errors import FileError, FormatError, MismatchError, UsageError
from engram_local.figures import Source
from engram_local.memory.module import MemoryModule
from engram_local.sizing.sources import open_spec
from tests.fakes import (
    HIDDEN_SIZE,
    INT32,
    UINT16,
    UINT32,
    File,
    backbone_file,
    make_memory,
)

LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
    "max_position_embeddings": 512,
}


def model_file() -> File:
    file = backbone_file()
    file.keys["llama.attention.head_count"] = (UINT32, 2)
    return file


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A GGUF without a memory beside it."""
    return model_file().write(tmp_path / "tiny.gguf")


@pytest.fixture
def memory(written: Callable[..., MemoryModule], tmp_path: Path) -> Path:
    """A memory of that model, in another folder."""
    folder = tmp_path / "memories"
    folder.mkdir()
    return written(make_memory(folder / "memory.gguf")).path


def test_a_gguf_is_read(model: Path) -> None:
    spec = open_spec(str(model))
    assert (spec.name, spec.origin) == ("tiny", str(model))
    assert spec.source is Source.EXACT
    assert not spec.attached


def test_any_part_of_a_split_model_is_the_model(tmp_path: Path) -> None:
    whole = model_file()
    name = "tiny-{:05d}-of-00002.gguf"
    split = {
        "split.count": (UINT16, 2),
        "split.tensors.count": (INT32, len(whole.tensors)),
    }
    first = File(whole.keys | split | {"split.no": (UINT16, 0)})
    first.write(tmp_path / name.format(1))
    second = File(split | {"split.no": (UINT16, 1)}, whole.tensors)
    second.write(tmp_path / name.format(2))
    specs = [open_spec(str(tmp_path / name.format(number))) for number in (1, 2)]
    assert specs[0] == specs[1]
    assert specs[0].origin == str(tmp_path / name.format(1))
    assert (
        specs[0].n_params
        == open_spec(str(whole.write(tmp_path / "whole.gguf"))).n_params
    )


def test_the_memory_beside_a_model_is_attached(model: Path, memory: Path) -> None:
    assert not open_spec(str(model)).attached
    beside = model.parent / "beside.gguf"
    beside.write_bytes(memory.read_bytes())
    spec = open_spec(str(model))
    assert spec.attached and len(spec.tables) == 2
    assert spec == open_spec(str(model), memory=memory)
    assert not open_spec(str(model), memory=None).attached


def test_a_memory_of_another_model_is_refused(tmp_path: Path, memory: Path) -> None:
    wider = backbone_file(hidden_size=2 * HIDDEN_SIZE)
    wider.keys["llama.attention.head_count"] = (UINT32, 2)
    path = wider.write(tmp_path / "wider.gguf")
    assert not open_spec(str(path)).attached
    with pytest.raises(MismatchError, match="embedding_length 8, this one has 16"):
        open_spec(str(path), memory=memory)


def test_a_model_without_vocabulary_has_no_memory(tmp_path: Path, memory: Path) -> None:
    file = model_file()
    del file.keys["tokenizer.ggml.tokens"]
    path = file.write(memory.parent / "tiny.gguf")
    assert not open_spec(str(path)).attached


def test_a_memory_belongs_to_a_gguf(memory: Path) -> None:
    assert catalog.find_card("Qwen3-8B") is not None
    with pytest.raises(UsageError, match="'Qwen3-8B' is none"):
        open_spec("Qwen3-8B", memory=memory)


@pytest.mark.parametrize("given", ["config.json", ".", "renamed.json"])
def test_a_config_or_its_folder_is_read(tmp_path: Path, given: str) -> None:
    for name in ("config.json", "renamed.json"):
        (tmp_path / name).write_text(json.dumps(LLAMA))
    spec = open_spec(str(tmp_path / given))
    assert spec.architecture == "llama"
    assert spec.n_layers == 2
    assert spec.source is Source.PUBLISHED


@pytest.mark.parametrize("word", ["Qwen3-8B", "qwen3-8b", "Qwen/Qwen3-8B"])
def test_a_known_name_is_a_card(word: str) -> None:
    spec = open_spec(word)
    assert spec.name == "Qwen3-8B"
    assert len(spec.weights) > 1


def test_a_card_wins_over_a_folder_that_has_no_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Qwen3-8B").mkdir()
    assert open_spec("Qwen3-8B").origin == "Qwen3-8B"


def test_an_unknown_name_gets_the_closest_first_and_all() -> None:
    with pytest.raises(FileError, match="'DeepSeek-V41-Flash' is no file") as caught:
        open_spec("DeepSeek-V41-Flash")
    hint = caught.value.hint or ""
    assert hint.startswith("did you mean DeepSeek-V4.1-Flash?")
    known = hint.partition("known are ")[2]
    assert all(name in known for name in catalog.card_names())
    assert len(catalog.card_names()) > 10


@pytest.mark.parametrize("word", ["", "zzzzzz"])
def test_where_nothing_is_close_nothing_is_meant(word: str) -> None:
    with pytest.raises(FileError, match=f"'{word}' is no file") as caught:
        open_spec(word)
    assert (caught.value.hint or "").startswith("known are ")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("none.gguf", "does not exist"),
        ("none.json", "does not exist"),
        ("folder.gguf", "is a folder"),
        ("folder", "is a folder without a config.json"),
        ("empty", "it is empty"),
        ("text", "it starts with b'# A '"),
    ],
)
def test_what_is_no_model_is_named(tmp_path: Path, name: str, sentence: str) -> None:
    for folder in ("folder", "folder.gguf"):
        (tmp_path / folder).mkdir()
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("# A model\n")
    with pytest.raises(FileError, match=sentence) as caught:
        open_spec(str(tmp_path / name))
    assert str(tmp_path / name) in caught.value.message
    assert caught.value.hint


def test_a_broken_gguf_is_a_format_error(model: Path) -> None:
    model.write_bytes(model.read_bytes()[:200])
    with pytest.raises(FormatError, match=str(model)):
        open_spec(str(model))
