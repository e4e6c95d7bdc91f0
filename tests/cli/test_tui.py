"""What `tui` makes of its flags; the app itself is replaced."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

import tui.app
from engram_local.chat.records import ChatSettings
from engram_local.chat.sessions import SessionStore, default_path
from engram_local.cli import main
from engram_local.cli import tui as command
from engram_local.errors import SessionError
from engram_local.settings import Settings
from tui.options import TuiOptions


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> list[TuiOptions]:
    """A terminal, and an app that ends at once with 7."""
    started: list[TuiOptions] = []

    def run_app(options: TuiOptions) -> int:
        started.append(options)
        return 7

    monkeypatch.setattr(tui.app, "run_app", run_app)
    on_terminal(monkeypatch, *STREAMS)
    return started


STREAMS = ("stdin", "stdout", "stderr")


def on_terminal(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let these streams be a terminal, and the others not."""
    streams = {
        name: SimpleNamespace(isatty=lambda name=name: name in names)
        for name in STREAMS
    }
    monkeypatch.setattr(command, "sys", SimpleNamespace(**streams))


def refuse(error: SessionError) -> None:
    raise AssertionError(error)


def make_session(model: Path, memory: Path | None = None) -> str:
    """Keep a session of one question; return its id."""
    with SessionStore(default_path(), on_lost=refuse) as store:
        session = store.create(
            model=str(model),
            memory=None if memory is None else str(memory),
            system=None,
            settings=ChatSettings.of(Settings()),
        )
        session.conversation.ask("hello")
        return session.id


def test_without_flags_everything_is_the_default(app: list[TuiOptions]) -> None:
    assert main(["tui"]) == 7
    assert app == [TuiOptions(model=None, memory="auto", settings=Settings())]


def test_flags_arrive(app: list[TuiOptions], tmp_path: Path) -> None:
    model = tmp_path / "a.gguf"
    model.touch()
    words = ["--no-memory", "--no-fit", "--theme", "nord", "--temp", "0", "-c", "512"]
    assert main(["tui", str(model), *words]) == 7
    assert app == [
        TuiOptions(
            model=model,
            memory=None,
            settings=replace(Settings(), temperature=0.0, n_ctx=512),
            fit=False,
            theme="nord",
            sampling={"temperature": 0.0},
        )
    ]


@pytest.mark.parametrize("flags", ["-C", "--session"])
def test_a_session_brings_its_model_and_memory(
    app: list[TuiOptions], tmp_path: Path, flags: str
) -> None:
    model, memory = tmp_path / "a.gguf", tmp_path / "b.gguf"
    model.touch()
    memory.touch()
    session = make_session(model, memory)
    words = [flags] if flags == "-C" else [flags, session[:6]]
    assert main(["tui", *words]) == 7
    (options,) = app
    assert (options.session, options.model, options.memory) == (session, model, memory)


def test_a_session_may_be_kept_by_nobody(app: list[TuiOptions]) -> None:
    assert main(["tui", "--no-save", "--system", "Be brief."]) == 7
    assert [(one.keep, one.system) for one in app] == [(False, "Be brief.")]


def test_another_model_can_go_on_with_a_session(
    app: list[TuiOptions], tmp_path: Path
) -> None:
    other = tmp_path / "other.gguf"
    other.touch()
    session = make_session(tmp_path / "gone.gguf")
    assert main(["tui", "-C"]) == 3
    assert main(["tui", "-C", "-m", str(other)]) == 7
    assert [(one.session, one.model) for one in app] == [(session, other)]


def test_there_may_be_no_session(
    app: list[TuiOptions], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tui", "-C"]) != 0
    assert "there is no session yet" in capsys.readouterr().err
    assert app == []


@pytest.mark.parametrize("name", STREAMS)
def test_it_needs_a_terminal(
    app: list[TuiOptions],
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    on_terminal(monkeypatch, *(one for one in STREAMS if one != name))
    assert main(["tui"]) == 2
    assert f"needs a terminal, and {name} is none" in capsys.readouterr().err
    assert app == []


def test_its_help_needs_no_textual() -> None:
    code = (
        "import sys\nfrom engram_local.cli import make_parser\n"
        "make_parser(['tui']).format_help()\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert "engram_local.cli.tui" in loaded
    assert loaded & {"textual", "tui", "numpy", "llama_cpp", "numba"} == set()
