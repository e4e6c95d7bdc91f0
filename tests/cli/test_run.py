"""`run`: what goes to which stream, and with which exit code."""

from __future__ import annotations

import io
import json
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from engram_local.chat.sessions import default_path
from engram_local.cli import main
from engram_local.errors import FitError
from tests.cli.fakes import STATS, FakeEngine, Open, terminal


def test_answer_goes_to_stdout_and_timing_to_stderr(
    fake: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = fake()
    assert main(["run", "-p", "Hi"]) == 0
    out, err = capsys.readouterr()
    assert out == "Hello world\n"
    assert "2 tokens at 4.0/s" in err
    assert "first 0.60 s" in err
    assert "memory mmap, 48 rows" in err
    assert engine.prompts == [[{"role": "user", "content": "Hi"}]]
    assert engine.closed


def test_json_is_the_only_thing_on_stdout(
    fake: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    fake()
    assert main(["run", "-p", "Hi", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["text"] == "Hello world"
    assert answer["token_ids"] == [0, 1]
    assert answer["finish_reason"] == "stop"
    assert answer["prompt"] == {"n_tokens": 3, "tokens_per_s": 6.0}
    assert answer["decode"]["tokens_per_s"] == 4.0
    assert set(answer["decode"]["ms_per_token"]) == {"p50", "p95", "max"}
    assert answer["resources"]["rss_anon_bytes"] > 0
    assert answer["resources"]["vram_bytes"] is None


def test_a_models_own_table_has_pages_read_ahead_and_no_stall(
    fake: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    table = SimpleNamespace(resident_bytes=4096)
    native = replace(STATS, kind="native", stall=None, pages_ahead=40)
    fake(memory=table, stats=native)
    main(["run", "-p", "Hi"])
    assert "memory mmap, 48 rows, 40 pages read ahead]" in capsys.readouterr().err
    main(["run", "-p", "Hi", "--json"])
    memory = json.loads(capsys.readouterr().out)["memory"]
    assert (memory["kind"], memory["pages_ahead"]) == ("native", 40)
    assert memory["stall_ms"] is memory["prefetch"] is None
    fake(memory=table)
    main(["run", "-p", "Hi", "--json"])
    memory = json.loads(capsys.readouterr().out)["memory"]
    assert memory["prefetch"] == {"submitted": 6, "ready": 5, "late": 1}
    assert memory["pages_ahead"] is None


def test_raw_prompt_has_no_template(fake: Open) -> None:
    engine = fake()
    main(["run", "-p", "Once upon", "--raw"])
    assert engine.prompts == ["Once upon"]


def test_system_prompt_comes_first(fake: Open) -> None:
    engine = fake()
    main(["run", "-p", "Hi", "--system", "Be brief."])
    assert engine.prompts[0][0] == {"role": "system", "content": "Be brief."}


def test_piped_text_is_the_prompt(fake: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = fake()
    monkeypatch.setattr("sys.stdin", io.StringIO("from a pipe"))
    assert main(["run"]) == 0
    assert engine.prompts == [[{"role": "user", "content": "from a pipe"}]]


def test_a_file_follows_the_prompt(
    fake: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = fake()
    (tmp_path / "text.txt").write_text("a long text")
    monkeypatch.setattr("sys.stdin", io.StringIO("from a pipe"))
    main(["run", "-p", "Sum it up:", "-f", str(tmp_path / "text.txt")])
    main(["run", "-p", "Sum it up:", "-f", "-"])
    said = [prompt[-1]["content"] for prompt in engine.prompts]
    assert said == ["Sum it up:\n\na long text", "Sum it up:\n\nfrom a pipe"]


def test_a_prompt_leaves_stdin_to_whoever_called(
    fake: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake()
    stdin = io.StringIO("the next question")
    monkeypatch.setattr("sys.stdin", stdin)
    main(["run", "-p", "Hi"])
    assert stdin.read() == "the next question"


@pytest.mark.parametrize("words", [["-f", "none.txt"], ["-f", "binary.txt"]])
def test_a_prompt_file_that_cannot_be_read_exits_3(
    words: list[str], fake: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    assert main(["run", *words]) == 3


@pytest.mark.parametrize("flag", ["--raw", "--json"])
def test_a_chat_has_no_raw_and_no_json(
    flag: str, fake: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake()
    terminal(monkeypatch, "never read")
    assert main(["run", flag]) == 2


@pytest.mark.parametrize("words", [["run"], ["run", "-p", " "]])
def test_empty_prompt_exits_2(
    words: list[str], fake: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = fake()
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    assert main(words) == 2
    assert engine.prompts == []


def test_text_of_a_model_cannot_drive_the_terminal(
    fake: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    fake(words=["red \x1b[31m alert\n"])
    main(["run", "-p", "Hi"])
    assert capsys.readouterr().out == "red \\x1b[31m alert\n\n"


def test_ctrl_c_keeps_the_text_and_exits_130(
    fake: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = fake(words=["one", " two", " three"], interrupt_after=2)
    before = signal.getsignal(signal.SIGINT)
    assert main(["run", "-p", "Count"]) == 130
    out, err = capsys.readouterr()
    assert out == "one two\n"
    assert "ended: cancelled" in err
    assert engine.closed
    assert signal.getsignal(signal.SIGINT) is before


def test_second_ctrl_c_quits(
    fake: Open, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = fake(words=["one", " two"], interrupt_after=1)
    monkeypatch.setattr(FakeEngine, "cancel", lambda self: self._press_ctrl_c())
    assert main(["run", "-p", "Count"]) == 130
    assert capsys.readouterr().out == "one"
    assert engine.closed


def test_error_is_one_sentence_with_a_hint(
    fake: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    fake(error=FitError("the prompt is 9 tokens, the context holds 8", hint="use -c"))
    assert main(["run", "-p", "Hi"]) == 4
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "error[does-not-fit]: the prompt is 9 tokens, the context holds 8\n"
        "hint: use -c\n"
    )


def test_debug_shows_the_traceback_and_keeps_the_exit_code(
    fake: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    fake(error=FitError("too long"))
    assert main(["--debug", "run", "-p", "Hi"]) == 4
    assert "Traceback" in capsys.readouterr().err


def test_one_shot_use_leaves_sessions_alone(
    fake: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake()
    assert main(["run", "-p", "Hi"]) == 0
    monkeypatch.setattr("sys.stdin", io.StringIO("from a pipe"))
    assert main(["run"]) == 0
    assert not default_path().exists()


@pytest.mark.parametrize("flags", [["-C"], ["--session", "12"]])
def test_a_session_is_gone_on_with_in_a_chat_only(
    flags: list[str], fake: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = fake()
    assert main(["run", "-p", "Hi", *flags]) == 2
    monkeypatch.setattr("sys.stdin", io.StringIO("from a pipe"))
    assert main(["run", *flags]) == 2
    assert engine.prompts == []
