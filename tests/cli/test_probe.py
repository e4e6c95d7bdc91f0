"""`engram-local probe`: its flags, and what it prints; nothing is measured here."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from engram_local import catalog
from engram_local.cli import main
from engram_local.errors import FileError
from engram_local.probe import runner
from engram_local.probe.result import Identity, Probe
from engram_local.probe.runner import Scope
from engram_local.probe.store import as_json, find_probe, read_probe
from engram_local.sizing import machine
from tests.probe.fakes import PROBE
from tests.sizing.samples import DESKTOP


class FakeProbe:
    """Takes the place of `run_probe`."""

    def __init__(self) -> None:
        self.scope: Scope
        self.identity: Identity
        self.probe = PROBE
        self.signal: int | None = None

    def run(self, identity: Identity, scope: Scope, **_: object) -> Probe:
        """Remember what was asked for."""
        self.identity, self.scope = identity, scope
        if self.signal is not None:
            signal.raise_signal(self.signal)
        return replace(self.probe, identity=identity)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeProbe:
    """A probe that is over at once, and a cache folder of our own."""
    fake = FakeProbe()
    monkeypatch.setattr(runner, "run_probe", fake.run)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return fake


def test_the_result_is_printed_and_stored(
    fake: FakeProbe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["probe", "--dir", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert "2 threads; 2026-11-22\n" in out
    for line in (
        "RAM, 2 threads              70.0 GB/s in a row",
        "drive, 1 at once            12,000 reads of 4 KiB/s, 80 us",
        "drive, 64 at once           400,000 reads of 4 KiB/s",
        "drive, in a row             2.00 GB/s",
        "processor, Q4_0             decode 36.0 GB/s of weights, prompt 450 GFLOP/s",
        "processor, Q4_1             decode 20.0 GB/s of weights, prompt 90 GFLOP/s",
        "processor, each layer       0 us per step",
        "GPU, attention              decode 28.0, prompt 90.0 GFLOP/s",
    ):
        assert line in out.splitlines()
    assert "156.2 of 64 B" in out
    assert "note: the other thing was not measured" in err
    stored, note = find_probe(fake.identity)
    assert note is None
    assert stored == replace(PROBE, identity=fake.identity)
    assert "stored in " + str(tmp_path / "cache") in err


def test_json_is_what_is_stored(
    fake: FakeProbe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["probe", "--dir", str(tmp_path), "--json", "--quick", "-t", "5"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values == json.loads(
        json.dumps(as_json(replace(PROBE, identity=fake.identity)))
    )
    assert read_probe(json.dumps(values).encode()).memory == PROBE.memory
    scope = fake.scope
    assert (scope.folder, scope.file) == (tmp_path, None)
    assert (scope.quick, scope.gpu, scope.n_threads) == (True, False, 5)


def test_what_was_not_measured_is_left_out(
    fake: FakeProbe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.probe = replace(PROBE, memory=None, drive=None, cpu=None, gpu=None)
    assert main(["probe", "--dir", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "RAM," not in out.split("\n", 1)[1]
    assert "at once" not in out and "processor" not in out


def test_files_are_made_beside_the_default_model(
    fake: FakeProbe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "default_model", lambda: tmp_path / "model.gguf")
    assert main(["probe", "--gpu"]) == 0
    assert fake.scope.folder == tmp_path and fake.scope.gpu

    def missing() -> Path:
        raise FileError("not installed")

    monkeypatch.setattr(catalog, "default_model", missing)
    assert main(["probe", "--file", str(tmp_path / "large")]) == 0
    assert fake.scope.folder == Path.home()
    assert fake.scope.file == tmp_path / "large"


def test_a_folder_that_is_none_exits_3(
    fake: FakeProbe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["probe", "--dir", str(tmp_path / "none")]) == 3
    assert "is no folder" in capsys.readouterr().err


def test_file_and_folder_exclude_each_other(fake: FakeProbe) -> None:
    with pytest.raises(SystemExit) as end:
        main(["probe", "--dir", ".", "--file", "x"])
    assert end.value.code == 2


def test_a_signal_unwinds(fake: FakeProbe, tmp_path: Path) -> None:
    fake.signal = signal.SIGTERM
    with pytest.raises(SystemExit) as end:
        main(["probe", "--dir", str(tmp_path)])
    assert end.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_probe_is_of_these_gpus(
    fake: FakeProbe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "look", lambda path: DESKTOP)
    assert main(["probe", "--dir", str(tmp_path)]) == 0
    assert fake.identity.gpus == ("RTX 4090",)
