"""The program as a user runs it, in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from engram_local.formats.engram_gguf import read_memory
from engram_local.formats.engram_writer import write_memory
from engram_local.formats.header import read_header
from tests.conftest import GOLDEN

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def memory(adapter: Callable[[str], Path]) -> Path:
    """A memory for the default backbone."""
    return adapter("peft_a")


def command(words: Sequence[str | Path]) -> list[str]:
    """Return a command line that runs the program."""
    return [sys.executable, "-m", "engram_local", *map(str, words)]


def execute(*words: str | Path, text: str | None = None) -> tuple[int, str, str]:
    """Run the program; return exit code, stdout and stderr."""
    done = subprocess.run(
        command(words),
        input=text,
        stdin=None if text is not None else subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr


def start(*words: str | Path) -> subprocess.Popen[bytes]:
    """Start the program and wait for the first bytes of its answer."""
    process = subprocess.Popen(
        command(words),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Unbuffered, so that the first read returns with the first token.
        bufsize=0,
    )
    assert process.stdout is not None and process.stdout.read(1)
    return process


def test_run_answers_with_memory(memory: Path) -> None:
    code, out, err = execute(
        "run", "--memory", memory, "-p", "Say hello.", "-n", "8", "--temp", "0"
    )
    assert code == 0
    assert out.strip()
    assert "memory mmap" in err


def test_run_json_has_every_number(memory: Path) -> None:
    code, out, _ = execute(
        *("run", "--memory", memory, "--json", "-n", "4"), text="What is a whale?"
    )
    answer = json.loads(out)
    assert code == 0
    assert answer["memory"]["kind"] == "attached"
    assert answer["memory"]["prefetch"]["submitted"] == 2 * (1 + 3)
    assert 0 < answer["memory"]["gate"]["2"] < 1
    assert answer["memory"]["resident_bytes"] > 0
    assert answer["ttft_s"] > 0


def test_no_memory_and_prefetch_flags(memory: Path) -> None:
    words = ("run", "-p", "Hi", "-n", "2", "--json")
    plain = json.loads(execute(*words, "--no-memory")[1])
    assert plain["memory"] is None
    late = json.loads(execute(*words, "--memory", memory, "--no-prefetch")[1])
    assert late["memory"]["prefetch"]["ready"] == 0
    ram = json.loads(execute(*words, "--memory", memory, "--memory-tier", "ram")[1])
    assert ram["memory"]["tier"] == "ram"


def test_perplexity_agrees_with_engram_peft_on_the_quantized_model(
    memory: Path,
) -> None:
    code, out, _ = execute(
        *("perplexity", GOLDEN / "text_a.txt", "--memory", memory),
        *("--json", "--per-token"),
    )
    result = json.loads(out)
    assert code == 0
    assert result["n_tokens"] == 191
    assert len(result["token_nll"]) == 190
    # The references were computed on the float32 weights.
    assert result["mean_nll"] == pytest.approx(3.24804, abs=0.05)
    assert result["mean_nll_no_memory"] == pytest.approx(3.22470, abs=0.05)
    assert result["mean_nll"] - result["mean_nll_no_memory"] > 0.01


def test_bench_measures_warm_and_cold_arms(memory: Path, tmp_path: Path) -> None:
    copy = tmp_path / "memory.gguf"
    shutil.copyfile(memory, copy)
    code, out, _ = execute(
        *("bench", "--memory", copy, "-r", "1", "-p", "16", "-n", "4", "--json"),
        *("--arms", "mmap,mmap cold"),
    )
    result = json.loads(out)
    assert code == 0
    warm = result["groups"][0]["arms"]
    assert [arm["arm"] for arm in warm] == ["none", "none again", "mmap"]
    assert all(arm["decode"]["tokens_per_s"]["median"] > 0 for arm in warm)
    assert all(arm["rss_anon_bytes"] > 1 << 20 for arm in warm)
    turns = {run["arm"]: run["turn"] for run in result["runs"]}
    assert turns["mmap"]["prompt"]["rows_read"] == 16 * 16
    assert turns["mmap"]["decode"]["rows_read"] == 4 * 16
    assert turns["none"]["decode"]["stall"] is None
    if result["notes"]:  # where files live in memory, nothing is cold
        assert result["notes"][0].startswith("mmap cold was left out: ")
        return
    cold = turns["mmap cold"]["prompt"]
    assert cold["resident_before_bytes"] < cold["resident_after_bytes"]
    assert cold["drive_bytes"] >= cold["useful_bytes"]


def test_bench_ends_with_the_words_and_the_code_of_a_worker(
    memory: Path, tmp_path: Path
) -> None:
    text = tmp_path / "short.txt"
    text.write_text("Too short.", "utf-8")
    code, out, err = execute("bench", "--memory", memory, "--text", text)
    assert (code, out) == (2, "")
    assert "error[usage]: the text is" in err
    code, out, err = execute("bench", "--memory", memory, "-p", "600", "-c", "256")
    assert (code, out) == (4, "")
    assert err.startswith("error[does-not-fit]: 664 tokens were asked for")


def test_prompt_longer_than_the_context_exits_4(memory: Path) -> None:
    code, _, err = execute("run", "--memory", memory, "-c", "256", text="word " * 400)
    assert code == 4
    assert "the context holds" in err


def test_ctrl_c_keeps_what_was_said(memory: Path) -> None:
    process = start("run", "--memory", memory, "-p", "Tell a long story.", "-n", "900")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130
    assert out.endswith(b"\n")
    assert b"ended: cancelled" in err


def test_memory_truncated_while_generating_ends_in_a_sentence(
    memory: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "memory.gguf"
    shutil.copyfile(memory, copy)
    process = start("run", "--memory", copy, "-p", "Tell a long story.", "-n", "900")
    os.truncate(copy, 4096)
    _, err = process.communicate()
    assert process.returncode == 1
    assert err.startswith(b"error[")
    assert b"hint: " in err
    assert b"Traceback" not in err


def test_model_truncated_while_generating_ends_in_a_sentence(
    quantized: Path, memory: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "model.gguf"
    shutil.copyfile(quantized, copy)
    process = start(
        *("run", copy, "--memory", memory, "-p", "Tell a long story.", "-n", "900")
    )
    os.truncate(copy, 3_000_000)
    _, err = process.communicate()
    assert process.returncode == 1
    assert err.startswith(b"error[file-lost]: ")


def test_rows_with_nan_exit_3(memory: Path, tmp_path: Path) -> None:
    copy = tmp_path / "nan.gguf"
    module = read_memory(read_header(memory))
    shutil.copyfile(memory, copy)
    table = module.spec.layers[0].table
    with open(copy, "rb+") as file:
        file.seek(table.offset_bytes)
        file.write(b"\xff" * table.n_bytes)
    code, out, err = execute("run", "--memory", copy, "-p", "Hi", "-n", "4")
    assert code == 3
    assert out == ""
    assert "of memory layer 2 holds NaN" in err


def test_truncated_model_exits_3(quantized: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.gguf"
    short.write_bytes(quantized.read_bytes()[:5_000_000])
    code, _, err = execute("run", short, "-p", "Hi")
    assert code == 3
    assert "is 5,000,000 bytes" in err


def test_memory_of_another_backbone_exits_3(
    quantized: Path, memory: Path, tmp_path: Path
) -> None:
    from dataclasses import replace

    import numpy as np

    module = read_memory(read_header(memory))
    other = replace(
        module, fingerprint=replace(module.fingerprint, tokens_sha256="0" * 64)
    )
    rows = [
        np.zeros((layer.table.n_rows, layer.table.width), np.float32)
        for layer in module.spec.layers
    ]
    path = tmp_path / "other.gguf"
    write_memory(path, other, rows, architecture="llama")
    code, _, err = execute("run", quantized, "--memory", path, "-p", "Hi")
    assert code == 3
    assert err.startswith("error[wrong-backbone]: ")


def test_ctrl_c_ends_a_long_computation(memory: Path, tmp_path: Path) -> None:
    text = tmp_path / "long.txt"
    text.write_text((GOLDEN / "text_a.txt").read_text("utf-8") * 200, "utf-8")
    process = subprocess.Popen(
        command(["perplexity", text, "--memory", memory]),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with pytest.raises(subprocess.TimeoutExpired):
        process.communicate(timeout=5)  # 38,000 tokens take longer anywhere
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130
    assert out == b""
    assert b"Traceback" not in err
    assert b"Exception ignored" not in err


def test_the_number_of_compiled_functions_is_the_one_progress_counts_with(
    memory: Path,
) -> None:
    script = (
        "import sys; from pathlib import Path; from engram_local import kernels\n"
        "from engram_local.engine import Engine\n"
        "Engine.open(memory=Path(sys.argv[1])).close()\n"
        "print(kernels._n_ready, kernels.N_KERNELS)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(memory)],
        capture_output=True,
        text=True,
        check=True,
    )
    found, wanted = done.stdout.split()
    assert found == wanted
