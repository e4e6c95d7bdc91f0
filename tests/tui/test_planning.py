"""What is typed on the size screen becomes a report and a file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from engram_local.errors import FileError, UsageError
from engram_local.figures import Source
from engram_local.sizing.request import Tier
from engram_local.units import GIB
from tests.model_folders import move_home, put
from tests.sizing.samples import DENSE, DESKTOP, GPU, report_of
from tui.planning import (
    EXPORTS,
    Wishes,
    find_spec,
    make_report,
    verdict_of,
    write_report,
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return move_home(tmp_path, monkeypatch)


def test_wishes_are_the_flags_of_size() -> None:
    put(Path("models/m.gguf"))
    wishes = Wishes(
        model="models/m.gguf",
        n_ctx="64",
        cache_type_k="bf16",
        tier="mmap",
        gpu="4090, 2x RTX 3090",
        ram="128G",
    )
    assert wishes.command == (
        "engram-local size models/m.gguf -c 64 -ctk bf16 --memory-tier mmap "
        "--gpu 4090 --gpu '2x RTX 3090' --ram 128G"
    )
    report = make_report(wishes, lambda path: DESKTOP)
    assert (report.request.n_ctx, report.request.cache_type_k) == (64, "bf16")
    assert report.request.tier is Tier.MMAP
    assert len(report.hardware.gpus) == 3
    assert report.hardware.ram.total_bytes == 128 * GIB
    assert report.hardware.ram.source is Source.GIVEN


def test_nothing_typed_is_this_computer_and_the_defaults() -> None:
    put(Path("models/m.gguf"))
    report = make_report(Wishes(model="models/m.gguf"), lambda path: DESKTOP)
    assert report.hardware == DESKTOP
    assert report.request.n_ctx is None


def test_a_model_is_a_file_a_name_or_a_card() -> None:
    put(Path("models/tiny.gguf"))
    assert find_spec("models/tiny.gguf").name == "tiny"
    assert find_spec("TINY").origin == str(Path("models/tiny.gguf"))
    with pytest.raises(FileError, match="no known model"):
        find_spec("nonsense")
    with pytest.raises(FileError, match="there is no default model"):
        find_spec("")
    assert Wishes(model="").command == "engram-local size"


def test_a_verdict_is_one_line() -> None:
    verdict = verdict_of(put(Path("models/m.gguf")), lambda path: DESKTOP)
    assert verdict.startswith("tiny F32 fits at a context of 256 tokens: ")
    assert "\n" not in verdict


@pytest.mark.parametrize("ending", EXPORTS)
def test_a_report_is_written_in_the_format_of_its_ending(ending: str) -> None:
    path = Path(f"report{ending}")
    write_report(report_of(DENSE), path)
    content = path.read_text("utf-8")
    starts = {".md": "## Dense", ".html": "<!DOCTYPE html>", ".txt": "Dense-8B"}
    if ending == ".json":
        assert json.loads(content)["models"]
    elif ending == ".csv":
        assert "Q4_K_M" in content
    else:
        assert content.lower().startswith(starts[ending].lower())


def test_a_report_is_not_written_over_another_file() -> None:
    Path("a.md").write_text("mine")
    with pytest.raises(FileError, match=r"a\.md is there already"):
        write_report(report_of(DENSE), Path("a.md"))
    assert Path("a.md").read_text() == "mine"


def test_a_report_that_cannot_be_written_is_an_error() -> None:
    with pytest.raises(FileError, match="cannot be written"):
        write_report(report_of(DENSE), Path("nowhere/a.md"))
    with pytest.raises(UsageError, match="is no format"):
        write_report(report_of(DENSE), Path("a.docx"))
    assert not Path("a.docx").exists()


def test_the_loaded_model_makes_room_for_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from engram_local import known_hardware
    from engram_local.hardware import Ram
    from engram_local.sizing import machine
    from engram_local.telemetry import Resources
    from engram_local.worker.protocol import MemoryPart
    from tests.tui.fakes import MODEL
    from tui import computer
    from tui.state import EngineState

    full = replace(DESKTOP, gpus=(replace(GPU, free_bytes=4 * GIB),))
    looked: list[Path] = []

    def look(path: Path) -> object:
        looked.append(path)
        return full

    monkeypatch.setattr(known_hardware, "measured_from_outside", look)
    ram = Ram(total_bytes=64 * GIB, available_bytes=10 * GIB)
    monkeypatch.setattr(machine, "look_at_ram", lambda: (ram, []))
    computer.look_again()
    part = MemoryPart(name="weights", vram_bytes=15 * GIB, ram_bytes=0)
    state = EngineState(
        model=replace(MODEL, parts=(part,)),
        resources=Resources(
            rss_anon_bytes=3 * GIB, rss_file_bytes=GIB, vram_bytes=None
        ),
    )
    for path in (Path(), Path("models"), Path("not here")):
        seen = computer.this_computer(path, state)
        assert seen.ram.available_bytes == 13 * GIB
        assert seen.ram.bytes_per_s == DESKTOP.ram.bytes_per_s
        (gpu,) = seen.gpus
        assert abs(gpu.free_bytes - 19 * GIB) <= 1
    assert len(looked) == 1
    computer.look_again()
    computer.this_computer(Path(), EngineState())
    assert len(looked) == 2
    assert computer.freed((GPU,), 99 * GIB)[0].free_bytes == GPU.vram_bytes
    computer.look_again()
