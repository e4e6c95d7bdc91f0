"""`engram-local size`: exit codes, and errors that say what to do.

What the report looks like is tested with its renderers.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from engram_local.cli import main
from engram_local.memory.module import MemoryModule
from engram_local.sizing import machine
from tests.fakes import UINT16, UINT32, File, backbone_file, make_memory
from tests.sizing.samples import DESKTOP

ROOT = Path(__file__).parents[2]
LARGE = "Qwen3.8-Flash-Next"


@pytest.fixture(autouse=True)
def desktop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A computer that nobody has measured; files are in the current folder."""
    monkeypatch.setattr(machine, "look", lambda path=None: replace(DESKTOP))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def files(tmp_path: Path) -> None:
    """A sound model, and what a user may name by mistake."""
    model = model_file()
    data = model.write(tmp_path / "tiny.gguf").read_bytes()
    (tmp_path / "truncated.gguf").write_bytes(data[:300])
    (tmp_path / "empty.gguf").touch()
    (tmp_path / "binary").write_bytes(bytes(range(1, 256)) * 40)
    (tmp_path / "folder").mkdir()
    split = File(model.keys | {"split.count": (UINT16, 2), "split.no": (UINT16, 0)})
    split.write(tmp_path / "part-00001-of-00002.gguf")
    nonsense = {
        "large": "[" + "7," * 2_500_000 + "7]",
        "deep": "[" * 100_000,
        "text": "not JSON at all",
        "other": '{"model_type": 5}',
        "negative": '{"model_type": "llama", "hidden_size": -64}',
    }
    for name, text in nonsense.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(text)


def model_file() -> File:
    file = backbone_file()
    file.keys["llama.attention.head_count"] = (UINT32, 2)
    return file


def fails(capsys: pytest.CaptureFixture[str], code: int, *words: str) -> str:
    """Return stderr of a command that ends with this code and prints nothing else."""
    assert main(["size", *words]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    first, *rest = err.splitlines()
    assert first.startswith("error[")
    assert all(line.startswith("hint: ") for line in rest)
    assert len(rest) <= 1
    return err


@pytest.mark.parametrize(
    ("words", "sentences"),
    [
        (["--ram=-5G"], ["--ram", "'-5G' is no size", "512M"]),
        (["--vram=-1"], ["--vram", "'-1' is no size"]),
        (["--ram", "1"], ["--ram is 1 bytes", "256.0 MiB to", "24G are 24 GiB"]),
        (["--vram", "9000T"], ["--vram is ", "are possible"]),
        (["--cores", "0"], ["--cores is 0", "1 to 1024"]),
        (["--ram-gbps", "nan"], ["--ram-gbps is nan"]),
        (["--disk-iops=-1"], ["--disk-iops is -1"]),
        (["--disk-gbps", "inf"], ["--disk-gbps is inf"]),
        (["--gpu", "RTX 9999"], ["'RTX 9999'", "names look like", "--vram 24G"]),
        (["--gpu", ""], ["'' is not among", "names look like"]),
        (["--gpu", "99x RTX 4090"], ["1 to 16 GPUs"]),
        (["--gpu", "none", "--vram", "8G"], ["--gpu none excludes", "leave one out"]),
        (["--what-if", "nonsense"], ["'nonsense' is not among", "names look like"]),
        (["--ram-kind", "DDR9"], ["'DDR9'", "DDR4-2400", "--ram-gbps"]),
        (["--disk-kind", "floppy"], ["'floppy'", "SATA SSD", "--disk-iops"]),
        (["-c", "-5"], ["a context of -5 tokens", "-c takes 1"]),
        (["-c", "5000000000"], ["a context of 5000000000 tokens", "-c takes 1"]),
        (["-ub", "0"], ["batches of 0 tokens", "-ub takes 1 to"]),
        (["--quant", "nope"], ["called 'nope'", "known are Q4_K_M, Q8_0"]),
        (["--memory", "m.gguf"], ["'Qwen3-8B' is none", "leave it out"]),
        (["Qwen3-30B-A3B", "--memory", "m.gguf"], ["belongs to one model"]),
    ],
    ids=lambda value: " ".join(value) if "-" in value[0][:1] else "",
)
def test_what_cannot_be_asked_exits_2(
    words: list[str], sentences: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    err = fails(capsys, 2, "Qwen3-8B", *words)
    assert err.startswith("error[usage]: ")
    assert [sentence for sentence in sentences if sentence not in err] == []


@pytest.mark.parametrize(
    "words",
    [["--ram", "-5G"], ["-c", "much"], ["--json", "--csv"], ["-ctk", "q3"], ["--foo"]],
)
def test_what_is_no_flag_exits_2_with_the_usage(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["size", "Qwen3-8B", *words])
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "engram-local size: error: " in err
    assert any(word in err.splitlines()[-1] for word in words)


@pytest.mark.parametrize(
    ("word", "sentences"),
    [
        ("truncated.gguf", ["truncated.gguf", "damaged", "download it again"]),
        ("empty.gguf", ["it is empty", "a GGUF starts with b'GGUF'"]),
        ("binary", [r"it starts with b'\x01\x02", "name another file"]),
        ("folder", ["is a folder without a config.json", "name a GGUF"]),
        (".", ["is a folder without a config.json"]),
        ("none.gguf", ["none.gguf does not exist", "check the path"]),
        ("config.json", ["config.json does not exist"]),
        (
            "part-00001-of-00002.gguf",
            ["part-00002-of-00002.gguf is missing: the model has 2", "one folder"],
        ),
        ("large", ["config.json is larger than 4,194,304 bytes", "name another one"]),
        ("deep", ["config.json is nested too deeply"]),
        ("text", ["config.json is no JSON"]),
        ("other", ["model_type is 5, a text is needed"]),
        ("negative", ["hidden_size is -64", "is needed"]),
        ("DeepSeek-V4-Flash", ["no known model", "mean DeepSeek-V4.1-Flash?"]),
        ("qwen3", ["'qwen3' is no file", "mean Qwen3-8B or", "Llama-3.1-8B"]),
        ("\x1b[2J", ["\\x1b[2J", "known are DeepSeek-V4.1-Flash, "]),
        ("", ["'' is no file and no known model"]),
        ("no\0name", ["is no file and no known model"]),
        ("x" * 5000, ["is no file and no known model"]),
    ],
)
def test_what_is_no_model_exits_3(
    word: str, sentences: list[str], files: None, capsys: pytest.CaptureFixture[str]
) -> None:
    err = fails(capsys, 3, word)
    assert [sentence for sentence in sentences if sentence not in err] == []
    assert "\x1b" not in err


def test_one_broken_model_of_two_is_named(
    files: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "truncated.gguf" in fails(capsys, 3, "tiny.gguf", "truncated.gguf")
    assert main(["size", "tiny.gguf", "Qwen3-8B"]) == 0


def test_a_memory_of_another_model_exits_3(
    files: None,
    tmp_path: Path,
    written: Callable[..., MemoryModule],
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = written(make_memory(tmp_path / "memory.gguf", hidden_size=16)).path
    err = fails(capsys, 3, "tiny.gguf", "--memory", str(path))
    assert "embedding_length 16, this one has 8" in err
    err = fails(capsys, 3, "tiny.gguf", "--memory", "tiny.gguf")
    assert "not an Engram memory" in err


def test_only_the_gate_makes_a_misfit_an_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    small = ["--gpu", "none", "--ram", "8G"]
    assert main(["size", LARGE, *small]) == 0
    assert main(["size", LARGE, *small, "--gate"]) == 4
    assert main(["size", "Qwen3-8B", LARGE, *small, "--gate"]) == 4
    out, _ = capsys.readouterr()
    assert out != ""
    assert main(["size", "Qwen3-8B", "--gate"]) == 0


@pytest.mark.parametrize("output", [[], ["--json"], ["--markdown"], ["--csv"]])
def test_the_report_is_all_that_stdout_has(
    output: list[str], files: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["size", "tiny.gguf", *output]) == 0
    out, err = capsys.readouterr()
    assert out.endswith("\n") and len(out) > 100
    assert err == ""
    if output == ["--json"]:
        assert json.loads(out)["models"]


def test_flags_reach_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    words = "-c 1000 -q q8_0 -ub 128 -ctk q8_0 -ctv q4_0 -ngl 5 --what-if none"
    assert main(["size", "Qwen3-8B", "--json", *words.split()]) == 0
    report = json.loads(capsys.readouterr().out)
    request = report["request"]
    assert (request["n_ctx"], request["n_ubatch"]) == (1000, 128)
    assert (request["cache_type_k"], request["cache_type_v"]) == ("q8_0", "q4_0")
    assert (request["quantization"], request["n_gpu_layers"]) == ("q8_0", 5)
    assert request["tier"] is None
    assert main(["size", LARGE, "--json", "--memory-tier", "ram", "--ram", "96G"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["request"]["tier"] == "ram"
    assert report["hardware"]["ram"]["total_bytes"] == 96 << 30


def test_a_page_that_cannot_be_written_exits_3(
    files: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    err = fails(capsys, 3, "tiny.gguf", "--html", "nowhere/page.html")
    assert "nowhere/page.html cannot be written" in err
    assert main(["size", "tiny.gguf", "--html", "page.html"]) == 0
    assert (tmp_path / "page.html").read_text().startswith("<!")


def test_declaring_flags_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from engram_local.cli import make_parser\n"
        "make_parser(['size'])\n"
        "print([m for m in ('numpy', 'llama_cpp', 'numba') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]"


def test_without_a_stdout_nothing_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)  # as Python sets it for `>&-`
    assert main(["size", "Qwen3-8B"]) == 0


def test_a_part_of_a_name_means_those_that_have_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["size", "qwen3.8"]) == 3
    assert "did you mean Qwen3.8-Flash-Next" in capsys.readouterr().err


@pytest.mark.parametrize("asked", ["-1", "33"])
def test_all_layers_are_asked_for_as_in_run(
    capsys: pytest.CaptureFixture[str], asked: str
) -> None:
    argv = ["size", "Llama-3.1-8B", "--gpu", "3090", "--ram", "64G", "--json"]
    assert main([*argv, "-ngl", asked]) == 0
    (model,) = json.loads(capsys.readouterr().out)["models"]
    assert model["plan"]["placement"]["n_gpu_layers"] == 33
