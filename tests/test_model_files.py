"""Files that may be models: found where they lie, whatever else lies there."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from engram_local import model_files
from engram_local.errors import FileError
from engram_local.model_files import (
    ModelFile,
    find_model_files,
    resolve_name,
    shown_name,
)
from tests.model_folders import (
    move_home,
    put,
    put_hugging_face,
    put_manifest,
    put_ollama,
    put_split,
)

LIBRARY = "registry.ollama.ai/library"
DIGEST = "sha256:" + "0" * 64


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return move_home(tmp_path, monkeypatch)


def names(files: list[ModelFile]) -> list[str]:
    return [file.name for file in files]


def problems(files: list[ModelFile]) -> dict[str, str | None]:
    return {file.name: file.problem for file in files}


def model_layer(digest: object) -> str:
    layer = {"mediaType": "application/vnd.ollama.image.model", "digest": digest}
    return json.dumps({"layers": [layer]})


def test_an_empty_computer_has_none() -> None:
    assert find_model_files() == []


def test_files_of_all_programs_are_found_in_order(home: Path) -> None:
    put(Path("elsewhere/given.gguf"))
    put(Path("models/sub/own.gguf"))
    link = put_hugging_face(home / ".cache/huggingface/hub", "a/b", "hf.Q4_K_M.gguf")
    put(home / ".cache/llama.cpp/old.gguf")
    put(home / ".lmstudio/models/maker/repo/studio.gguf")
    put_ollama(home / ".ollama/models", f"{LIBRARY}/llama3.2/1b")
    files = find_model_files([Path("elsewhere")])
    assert [(file.name, file.source) for file in files] == [
        ("elsewhere/given.gguf", "folder"),
        ("own", "./models"),
        ("hf.Q4_K_M", "Hugging Face"),
        ("old", "llama.cpp"),
        ("studio", "LM Studio"),
        ("llama3.2:1b", "Ollama"),
    ]
    assert files[2].path == link
    assert not any(problems(files).values())


@pytest.mark.parametrize(
    "variable", ["LLAMA_CACHE", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"]
)
def test_variables_name_the_hugging_face_cache(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_hugging_face(tmp_path / "hub", "a/b", "m.gguf")
    monkeypatch.setenv(variable, str(tmp_path / "hub"))
    assert names(find_model_files()) == ["m"]


@pytest.mark.parametrize(
    ("variable", "below"), [("HF_HOME", "hub"), ("XDG_CACHE_HOME", "huggingface/hub")]
)
def test_variables_name_the_folder_above_it(
    variable: str, below: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_hugging_face(tmp_path / "x" / below, "a/b", "m.gguf")
    monkeypatch.setenv(variable, str(tmp_path / "x"))
    assert names(find_model_files()) == ["m"]


def test_a_variable_may_begin_with_a_tilde(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_ollama(home / "mine", f"{LIBRARY}/m/latest")
    monkeypatch.setenv("OLLAMA_MODELS", "~/mine")
    assert names(find_model_files()) == ["m:latest"]


def test_ollama_names_are_those_that_it_shows(home: Path) -> None:
    store = home / ".ollama/models"
    blob = put_ollama(store, f"{LIBRARY}/llama3.2/latest")
    for name in ("registry.ollama.ai/anna/m/q4", "hf.co/anna/m-GGUF/Q4_K_M"):
        put_ollama(store, name)
    assert find_model_files() == [
        ModelFile(
            name="hf.co/anna/m-GGUF:Q4_K_M",
            aliases=("anna/m:q4", "llama3.2:latest"),
            path=blob,
            source="Ollama",
        )
    ]


def test_a_file_with_two_names_is_one_model(home: Path) -> None:
    first = put(Path("models/a.gguf"))
    os.link(first, "models/b.gguf")
    Path("models/c.gguf").symlink_to("a.gguf")
    (file,) = find_model_files()
    assert (file.name, file.aliases) == ("a", ("b", "c"))


def test_a_split_model_is_its_first_part() -> None:
    paths = put_split(Path("models"), "big", n_parts=3)
    (file,) = find_model_files()
    assert (file.name, file.path) == ("big", paths[0])
    paths[0].unlink()
    assert find_model_files()[0].path == paths[1]


def test_models_of_the_same_name_in_two_folders_are_two() -> None:
    put_split(Path("models/a"), "big")
    put_split(Path("models/b"), "big")
    assert names(find_model_files()) == ["big", "big"]


def test_links_in_a_circle_end() -> None:
    put(Path("models/a/m.gguf"))
    Path("models/a/up").symlink_to("..")
    Path("models/loop.gguf").symlink_to("loop.gguf")
    files = find_model_files()
    assert names(files) == ["m", "loop"]
    assert "symbolic links" in str(files[1].problem)


def test_folders_are_followed_to_a_depth_only() -> None:
    deep = "/".join(["d"] * model_files.MOST_DEPTH)
    put(Path("models") / deep / "in.gguf")
    put(Path("models") / deep / "d" / "out.gguf")
    assert names(find_model_files()) == ["in"]


def test_a_folder_with_too_many_entries_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put(Path("models/a.gguf"))
    for number in range(9):
        put(Path(f"models/z/{number}.gguf"))
    monkeypatch.setattr(model_files, "MOST_ENTRIES", 5)
    assert problems(find_model_files()) == {
        "a": None,
        "models/z": "has more than 5 entries; not all were looked at",
    }


def test_what_is_no_ordinary_file_is_not_opened() -> None:
    put(Path("models/a.gguf"))
    os.mkfifo("models/pipe.gguf")
    Path("models/gone.gguf").symlink_to("nothing")
    assert problems(find_model_files()) == {
        "a": None,
        "gone": "is a link to nothing",
        "pipe": "is no ordinary file",
    }


def test_a_folder_called_like_a_model_is_a_folder() -> None:
    put(Path("models/x.gguf/m.gguf"))
    assert names(find_model_files()) == ["m"]


def test_hidden_folders_are_left_out() -> None:
    put(Path("models/.trash/m.gguf"))
    assert find_model_files() == []


def test_a_folder_that_may_not_be_read_is_said(
    as_nobody: Callable[[], AbstractContextManager[None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put(Path("models/open/m.gguf"))
    Path("models/closed").mkdir(mode=0)
    monkeypatch.setenv("HOME", "nowhere")
    with as_nobody():
        found = problems(find_model_files())
    assert found == {"models/closed": "cannot be read: Permission denied", "m": None}


def test_a_given_folder_that_is_not_there_is_said() -> None:
    (file,) = find_model_files([Path("nowhere")])
    assert (file.name, file.problem) == ("nowhere", "is no folder")


def test_a_folder_that_disappears_meanwhile_is_passed_over() -> None:
    put(Path("models/a/m.gguf"))
    put(Path("models/b/n.gguf"))

    def look(folder: Path) -> None:
        if folder == Path("models/a"):
            shutil.rmtree(folder)

    assert names(find_model_files(look=look)) == ["n"]


def test_look_may_end_the_search() -> None:
    put(Path("models/a/m.gguf"))

    def look(folder: Path) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        find_model_files(look=look)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON",
        "[]",
        "null",
        '{"layers": 5}',
        "[" * 100_000,
        '{"layers": [' + "7," * 2_000_000 + "7]}",
        model_layer(7),
        model_layer("sha256:" + "../" * 21 + "x"),
        model_layer("../../../../etc/passwd"),
        model_layer(f"{DIGEST}\n"),
    ],
)
def test_a_manifest_that_lies_is_listed_with_a_sentence(home: Path, text: str) -> None:
    put_manifest(home / ".ollama/models", f"{LIBRARY}/m/1b", text)
    assert problems(find_model_files()) == {
        "m:1b": "has a manifest that cannot be read"
    }


def test_a_manifest_without_a_gguf_is_passed_over(home: Path) -> None:
    store = home / ".ollama/models"
    put_manifest(store, f"{LIBRARY}/m/1b", '{"layers": [7, {"mediaType": []}]}')
    put_manifest(store, "stray", "{}")
    assert find_model_files() == []


def test_a_manifest_that_is_a_pipe_is_not_opened(home: Path) -> None:
    folder = home / ".ollama/models/manifests" / LIBRARY / "m"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "1b")
    assert names(find_model_files()) == ["m:1b"]


def test_a_missing_blob_is_said(home: Path) -> None:
    put_manifest(home / ".ollama/models", f"{LIBRARY}/m/1b", model_layer(DIGEST))
    expected = {"m:1b": "is listed, but its file is missing"}
    assert problems(find_model_files()) == expected


def test_a_name_finds_its_file(home: Path) -> None:
    path = put(Path("models/SmolLM2-135M-Instruct.Q4_1.gguf"))
    blob = put_ollama(home / ".ollama/models", f"{LIBRARY}/Llama3.2/latest")
    files = find_model_files()
    for name in ("smollm2-135m-instruct.q4_1", "SmolLM2-135M-Instruct.Q4_1.gguf"):
        assert resolve_name(name, files) == path
    for name in ("llama3.2", "llama3.2:latest"):
        assert resolve_name(name, files) in (blob, path)
    Path("models/other.gguf").write_bytes(b"other")
    assert resolve_name("other", find_model_files()) == Path("models/other.gguf")


def test_a_name_of_several_files_lists_them() -> None:
    Path("models/a").mkdir(parents=True)
    Path("models/b").mkdir()
    for folder in "ab":
        Path(f"models/{folder}/m.gguf").write_text(folder)
    with pytest.raises(FileError, match=r"m may be models/a/m\.gguf, models/b/m\.gguf"):
        resolve_name("m", find_model_files())


def test_an_unknown_name_is_answered_with_close_ones() -> None:
    put(Path("models/SmolLM2-135M.gguf"))
    with pytest.raises(FileError) as caught:
        resolve_name("smollm2", find_model_files())
    assert "did you mean SmolLM2-135M?" in str(caught.value.hint)
    with pytest.raises(FileError) as caught:
        resolve_name("x", find_model_files())
    assert "did you mean" not in str(caught.value.hint)


def test_a_loaded_model_is_called_like_its_file() -> None:
    name = "Smollm2 135M 8k Lc100K Mix1 Ep2"
    assert shown_name(Path("a/SmolLM2.Q4_1.gguf"), name) == "SmolLM2.Q4_1"
    assert shown_name(Path("big-00001-of-00003.gguf"), name) == "big"


def test_a_file_named_by_its_hash_is_called_as_it_says() -> None:
    assert shown_name(Path(f"blobs/sha256-{64 * 'a'}"), "Llama 3.2") == "Llama 3.2"
