"""The command line as a whole: help, usage, files that are not there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engram_local import __version__
from engram_local.cli import COMMANDS, main
from tests.fakes import (
    STRING,
    UINT16,
    UINT32,
    File,
    Tensor,
    backbone_file,
    make_memory,
    memory_file,
)


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    out = capsys.readouterr().out
    assert all(f"    {name}" in out for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    assert end.value.code == 0
    assert f"engram-local {name}" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["--help", *COMMANDS])
def test_help_imports_nothing_heavy(name: str) -> None:
    code = (
        "import sys; from engram_local.cli import make_parser;"
        f"make_parser(['{name}']);"
        "print([m for m in ('numpy', 'numba', 'llama_cpp', 'textual') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_ctrl_c_while_a_command_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("engram_local.cli.import_module", interrupted)
    assert main(["run"]) == 130


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.strip() == __version__


@pytest.mark.parametrize(
    "words",
    [
        ["dance"],
        ["run", "--top-q", "3"],
        ["run", "--no-mem", "-p", "Hi"],
        ["perplexity", "text.txt", "-n", "5"],
        ["convert"],
    ],
)
def test_usage_errors_exit_2(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    assert capsys.readouterr().out == ""


def test_setting_out_of_range_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "-p", "Hi", "--top-p", "1.5"]) == 2
    assert "top_p is 1.5, 0 to 1 are possible" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["run", "show"])
def test_missing_file_exits_3(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [command, str(tmp_path / "none.gguf")]
    assert main([*words, "-p", "Hi"] if command == "run" else words) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error[bad-file]: ")
    assert "does not exist" in err


def test_file_that_is_no_gguf_exits_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"PK\x03\x04 and more")
    assert main(["run", str(path), "-p", "Hi"]) == 3
    assert "is not a GGUF file" in capsys.readouterr().err


def test_a_memory_in_place_of_a_model_exits_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = memory_file(make_memory(tmp_path / "m.gguf")).write(tmp_path / "m.gguf")
    assert main(["run", str(path), "-p", "Hi"]) == 3
    assert "a model is needed" in capsys.readouterr().err


def test_deepseek41_is_refused_with_a_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = backbone_file()
    file.keys["general.architecture"] = (8, "deepseek41")
    path = file.write(tmp_path / "v41.gguf")
    assert main(["run", str(path), "-p", "Hi"]) == 3
    err = capsys.readouterr().err
    assert err.startswith("error[unsupported]: ")
    assert "deepseek41" in err and "llama.cpp" in err


def test_show_a_model_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = backbone_file().write(tmp_path / "tiny.gguf")
    assert main(["show", str(path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["type"] == "model"
    assert (facts["architecture"], facts["n_layers"]) == ("llama", 6)
    assert facts["native_tables"] == []


def test_show_a_split_model_with_its_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = backbone_file(), File()
    for number, part in enumerate((first, second)):
        part.keys["split.no"] = (UINT16, number)
        part.keys["split.count"] = (UINT16, 2)
    second.tensors["per_layer_token_embd.weight"] = Tensor.of(np.zeros((5, 4)))
    first.write(tmp_path / "m-00001-of-00002.gguf")
    path = second.write(tmp_path / "m-00002-of-00002.gguf")
    assert main(["show", str(path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["n_tensors"], facts["n_params"]) == (2, 24 * 8 + 20)
    table = facts["native_tables"][0]
    assert (table["name"], table["n_bytes"]) == ("per_layer_token_embd.weight", 80)
    assert main(["show", str(path)]) == 0
    place = f"at byte {table['offset_bytes']} of m-00002-of-00002.gguf"
    assert f"5 rows of 4 f32, 80 B, {place}" in capsys.readouterr().out


def test_show_a_table_of_a_type_that_only_llama_cpp_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = backbone_file()
    file.keys = {
        name.replace("llama.", "gemma4."): typed for name, typed in file.keys.items()
    }
    file.keys["general.architecture"] = (STRING, "gemma4")
    file.keys["gemma4.embedding_length_per_layer_input"] = (UINT32, 4)
    float64 = Tensor((4, 24), 28, bytes(4 * 24 * 8))
    file.tensors["per_layer_token_embd.weight"] = float64
    assert main(["show", str(file.write(tmp_path / "m.gguf"))]) == 0
    out = capsys.readouterr().out
    assert "24 rows of 4 f64, 768 B" in out
    assert "per token" not in out


def test_show_a_memory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = memory_file(make_memory(tmp_path / "m.gguf")).write(tmp_path / "m.gguf")
    assert main(["show", str(path)]) == 0
    out = capsys.readouterr().out
    assert "layer 1" in out and "layer 4" in out
    assert "newest_first, pad" in out
    assert "made for       6 layers of width 8, 24 tokens" in out


def test_names_in_files_are_escaped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = backbone_file()
    file.keys["general.name"] = (8, "evil \x1b]0;title\x07")
    main(["show", str(file.write(tmp_path / "tiny.gguf"))])
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "evil \\x1b]0;title\\x07" in out


def test_a_usage_error_shows_the_usage_of_the_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["show", "x.gguf", "--foo"])
    assert "usage: engram-local show" in capsys.readouterr().err


def test_a_prompt_in_place_of_a_model_gets_a_hint(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["run", "What is a lemur?", "-p", "x"]) == 2
    assert "a prompt is given with -p" in capsys.readouterr().err
