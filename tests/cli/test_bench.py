"""`engram-local bench`: its flags, and what it prints; nothing is measured here."""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from engram_local.bench import runner, synthetic, synthetic_llama
from engram_local.bench.arms import ATTACHED, Arm, Suite
from engram_local.bench.runner import Result
from engram_local.bench.subject import Subject
from engram_local.bench.synthetic import MemoryShape
from engram_local.bench.tokens import Plan
from engram_local.cli import main
from engram_local.cli.options import command_line
from engram_local.errors import BenchError
from engram_local.formats.engram_gguf import read_memory
from engram_local.formats.header import read_header
from engram_local.spec import RowType
from tests.bench.test_summary import native_runs, runs
from tests.fakes import backbone_file, make_memory, memory_file
from tests.native_models import fake_default_model, tiny_gemma4


class FakeBench:
    """Takes the place of `run_arms`."""

    def __init__(self) -> None:
        self.arms: list[str] = []
        self.subject: Subject
        self.plan: Plan
        self.error: Exception | None = None
        self.shape: MemoryShape | None = None
        self.files: list[Path] = []

    def run(
        self,
        suite: Suite,
        arms: Sequence[Arm],
        subject: Subject,
        plan: Plan,
        **_: object,
    ) -> Result:
        """Remember what was asked for."""
        self.arms = [arm.name for arm in arms]
        self.subject, self.plan = subject, plan
        self.files = [subject.model, subject.rows.region.path]
        assert all(path.exists() for path in self.files)
        if self.error is not None:
            raise self.error
        measured = runs() if suite is ATTACHED else native_runs()
        return Result(runs=measured, notes=["ram was left out: no"])


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> FakeBench:
    """A bench that is over at once."""
    bench = FakeBench()
    monkeypatch.setattr(runner, "run_arms", bench.run)
    return bench


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """A model and its memory, as words of a command."""
    model = backbone_file().write(tmp_path / "tiny.gguf")
    memory = memory_file(make_memory(tmp_path / "m.gguf")).write(tmp_path / "m.gguf")
    return [str(model), "--memory", str(memory)]


@pytest.fixture
def synthetic_files(bench: FakeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small files in place of large ones."""

    def write_backbone(path: Path, *_: object, **__: object) -> None:
        backbone_file().write(path)

    def write_memory(path: Path, _: Path, shape: MemoryShape, **__: object) -> None:
        bench.shape = shape
        memory_file(make_memory(path)).write(path)

    monkeypatch.setattr(synthetic_llama, "write_backbone", write_backbone)
    monkeypatch.setattr(synthetic, "write_synthetic_memory", write_memory)


def test_the_plan_and_the_subject_are_what_was_asked_for(
    bench: FakeBench, files: list[str]
) -> None:
    words = ["-p", "100", "-n", "20", "-r", "7", "-t", "1"]
    assert main(["bench", *files, *words]) == 0
    assert bench.plan == Plan(n_prompt=100, n_decode=20, n_repetitions=7)
    subject = bench.subject
    assert (subject.model.name, subject.rows.memory.name) == ("tiny.gguf", "m.gguf")
    spec = read_memory(read_header(subject.rows.memory)).spec
    assert subject.rows.table_bytes == spec.table_bytes > 0
    assert subject.settings.n_ctx == 120  # as long as is needed
    assert (subject.settings.n_threads, subject.settings.temperature) == (1, 0.0)
    assert subject.text is None


def test_defaults_are_five_repetitions_of_the_warm_arms(
    bench: FakeBench, files: list[str]
) -> None:
    main(["bench", *files])
    assert bench.plan == Plan(n_prompt=512, n_decode=64, n_repetitions=5)
    assert bench.arms == ["mmap", "mmap no prefetch", "ram", "direct", "reference"]


def test_arms_are_chosen(bench: FakeBench, files: list[str]) -> None:
    main(["bench", *files, "--arms", "ram, mmap no prefetch"])
    assert bench.arms == ["ram", "mmap no prefetch"]
    main(["bench", *files, "--arms", "ram", "--cold"])
    assert bench.arms == ["ram", "mmap cold", "mmap cold no prefetch", "direct cold"]


def test_a_text_is_read(bench: FakeBench, files: list[str], tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("once upon", "utf-8")
    main(["bench", *files, "--text", str(text)])
    assert bench.subject.text == "once upon"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["-r", "0"], "at least 1"),
        (["-n", "0"], "at least 1"),
        (["--no-memory"], "the arms of a bench say"),
        (["--no-prefetch"], "the arms of a bench say"),
        (["--memory-tier", "ram"], "the arms of a bench say"),
        (["--mlock"], "the arms of a bench say"),
        (["--reference"], "the arms of a bench say"),
        (["--arms", "tape"], "no arm 'tape'"),
        (["--table", "1M", "--memory", "m.gguf"], "--memory names a memory"),
        (["--synthetic", "0.5B", "model.gguf"], "a model was named"),
        (["--synthetic", "0.5B", "-m", "model.gguf"], "a model was named"),
        (["--synthetic", "huge"], "no shape"),
        (["--table", "1M", "--sparse", "--cold"], "a hole is not read"),
        (["--table", "1M", "--sparse", "--arms", "mmap cold"], "a hole is not read"),
        (["--memory-layers", "2"], "need --table"),
        (["--dir", "."], "need --table"),
        (["--rows", "q4_0"], "need --table"),
        (["--table", "1M", "--rows", "q4_k"], "synthetic rows may be"),
        (["--synthetic", "qwen4exp:99x9"], "is not made"),
        (["--synthetic", "gemma4:64"], "no shape"),
        (["--synthetic", "qwen4exp", "--sparse"], "memories in a file"),
        (["--synthetic", "gemma4", "--memory-layers", "2"], "memories in a file"),
        (["--synthetic", "qwen4exp", "--arms", "direct"], "no arm 'direct'"),
    ],
)
def test_what_does_not_go_together_exits_2(
    bench: FakeBench, words: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert reason in err
    assert bench.files == []


def test_a_size_that_is_none_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["bench", "--table", "much"])
    assert end.value.code == 2
    assert "'much' is no size" in capsys.readouterr().err


@pytest.mark.usefixtures("synthetic_files")
def test_made_files_are_gone_at_the_end(bench: FakeBench, tmp_path: Path) -> None:
    words = ["--synthetic", "64x6", "--table", "3M", "--memory-layers", "3"]
    assert main(["bench", *words, "--rows", "q4_0", "--dir", str(tmp_path)]) == 0
    assert bench.shape is not None
    assert bench.shape.row_type is RowType.Q4_0
    assert bench.shape.layer_ids == (2, 3, 4)
    assert (bench.shape.table_bytes, bench.shape.real_bytes) == (3 << 20, None)
    assert bench.files and not any(path.exists() for path in bench.files)
    assert list(tmp_path.iterdir()) == []


def test_a_model_with_a_table_of_its_own_is_made(
    bench: FakeBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fake_default_model(tmp_path, monkeypatch)
    words = ["--synthetic", "qwen4exp:128x2", "--table", "1M", "--rows", "F16"]
    assert main(["bench", *words, "--dir", str(tmp_path)]) == 0
    assert bench.arms == ["llama.cpp lazy", "mmap"]
    rows = bench.subject.rows
    assert rows.memory == "auto"
    assert rows.table_bytes == pytest.approx(1 << 20, rel=0.02)
    assert list(tmp_path.iterdir()) == [path]


def test_a_model_with_a_table_gets_no_other(
    bench: FakeBench,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake_default_model(tmp_path, monkeypatch)
    model = tiny_gemma4(tmp_path / "native.gguf", n_tokens=10)
    assert main(["bench", str(model), "--table", "1M"]) == 2
    assert "--table would make another" in capsys.readouterr().err
    assert bench.files == []


def test_a_type_of_rows_that_is_none_exits_2(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["bench", "--table", "1M", "--rows", "q9"])
    assert end.value.code == 2
    assert "'q9' is no type of rows" in capsys.readouterr().err


@pytest.mark.usefixtures("synthetic_files")
def test_made_files_are_gone_after_an_error(
    bench: FakeBench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.error = BenchError("a worker died")
    assert main(["bench", "--synthetic", "64x6", "--dir", str(tmp_path)]) == 1
    assert "error[bench-failed]: a worker died" in capsys.readouterr().err
    assert bench.files and list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("synthetic_files")
def test_made_files_are_gone_after_sigterm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        runner, "run_arms", lambda *_, **__: signal.raise_signal(signal.SIGTERM)
    )
    with pytest.raises(SystemExit) as end:
        main(["bench", "--synthetic", "64x6", "--dir", str(tmp_path)])
    assert end.value.code == 143
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.usefixtures("synthetic_files")
def test_a_made_memory_for_a_model_of_the_user(
    bench: FakeBench, tmp_path: Path
) -> None:
    model = backbone_file().write(tmp_path / "mine.gguf")
    words = [str(model), "--table", "1M", "--sparse", "--dir", str(tmp_path)]
    assert main(["bench", *words]) == 0
    assert bench.subject.model == model
    assert bench.shape is not None and bench.shape.real_bytes == 64 << 20
    assert model.exists()


def printed(capsys: pytest.CaptureFixture[str], words: list[str]) -> tuple[str, str]:
    """Run a bench and return stdout and stderr."""
    capsys.readouterr()
    assert main(["bench", *words]) == 0
    out, err = capsys.readouterr()
    return out, err


def test_the_report_is_the_only_thing_on_stdout(
    bench: FakeBench, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    text, err = printed(capsys, files)
    assert "warm: median" in text and "noise floor" in text
    assert "ram was left out: no" in text
    assert err == ""
    markdown, _ = printed(capsys, [*files, "--markdown"])
    assert markdown.startswith("`engram-local ")
    assert "| arm | decode tok/s |" in markdown


def test_json_is_one_object(
    bench: FakeBench, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    values: dict[str, Any] = json.loads(printed(capsys, [*files, "--json"])[0])
    assert values["model"] == "tiny.gguf"
    assert values["memory"] == "m.gguf"
    assert [group["group"] for group in values["groups"]] == ["warm"]
    assert values["n_threads"] >= 1


def test_the_command_line_names_no_folders(tmp_path: Path) -> None:
    model = tmp_path / "a model.gguf"
    model.touch()
    line = command_line(["bench", str(model), "--arms", "ram,mmap cold", "-r", "5"])
    assert line == "engram-local bench 'a model.gguf' --arms 'ram,mmap cold' -r 5"
    line = command_line(["bench", f"--memory={model}"])
    assert line == "engram-local bench '--memory=a model.gguf'"
