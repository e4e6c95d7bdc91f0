"""A real probe of this computer, as short as it gets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engram_local.cli import main
from engram_local.probe.store import read_probe

pytestmark = pytest.mark.model


@pytest.mark.usefixtures("quantized")
def test_a_quick_probe_finds_rates_and_leaves_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "folder"
    folder.mkdir()
    assert main(["probe", "--quick", "--json", "--dir", str(folder)]) == 0
    out, err = capsys.readouterr()
    assert list(folder.iterdir()) == []
    probe = read_probe(out.encode())
    assert probe.quick
    assert probe.memory is not None and probe.memory.buffer_bytes > 0
    # The tests' folder may be in RAM, and noise may contradict itself: both are notes.
    for part, what in ((probe.drive, "the drive"), (probe.cpu, "the processor")):
        assert (part is None) == any(note.startswith(what) for note in probe.notes)
    if probe.cpu is not None:
        assert [rate.name for rate in probe.cpu.types] == ["Q4_0", "Q8_0", "Q4_1"]
    (stored,) = (tmp_path / "cache" / "engram-local" / "probe").iterdir()
    assert json.loads(stored.read_text("utf-8")) == json.loads(out)
    assert f"stored in {stored}" in err
