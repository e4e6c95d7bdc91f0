"""Pictures of the Models, Size and Logs screens, without what all have around.

`pytest --snapshot-update` makes them anew.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import DataTable, Input

from engram_local.hardware import Hardware
from tests.fakes import make_memory, memory_file
from tests.model_folders import move_home, put, put_ollama, tiny_model
from tests.sizing.samples import DESKTOP, MOE
from tests.tui.acting import hide_frame, text, until
from tests.tui.fakes import FakeEngine, fake_app
from tui import planning
from tui.app import EngramApp
from tui.screens import models, size
from tui.state import EngineState

SIZES = [(120, 40), (80, 24)]

SnapCompare = Callable[..., bool]


@pytest.fixture(autouse=True)
def nothing_changes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A fixed computer, date and version; a home of the test's own."""

    def this_computer(path: Path, state: EngineState) -> Hardware:
        return DESKTOP

    home = move_home(tmp_path, monkeypatch)
    monkeypatch.setattr(models, "this_computer", this_computer)
    monkeypatch.setattr(size, "this_computer", this_computer)
    monkeypatch.setattr(planning, "today", lambda: "2026-03-01")
    monkeypatch.setattr(planning, "__version__", "0.2.0")
    monkeypatch.setenv("TEXTUAL_ANIMATIONS", "none")
    return home


def shown(pilot: Pilot[Any]) -> EngramApp:
    app = pilot.app
    assert isinstance(app, EngramApp)
    return app


async def show_models(pilot: Pilot[Any]) -> None:
    """Look at the second model."""
    app = shown(pilot)
    await until(pilot, lambda: app.link.state.phase == "ready")
    await pilot.press("f6")
    await until(pilot, lambda: "Enter loads one" in text(app, "#about"))
    app.screen.query_one("#list", DataTable).move_cursor(row=1)
    await until(pilot, lambda: "fits at a context" in text(app, "#verdict"))
    await hide_frame(pilot)


async def show_size(pilot: Pilot[Any]) -> None:
    """Type a model, and leave the field: its cursor is not drawn."""
    app = shown(pilot)
    await until(pilot, lambda: app.link.state.phase == "ready")
    await pilot.press("f5")
    await pilot.press(*"moe", "tab")
    app.screen.query_one("#context", Input).cursor_blink = False
    await until(pilot, lambda: "Sparse-176B" in text(app, "ReportView"))
    await hide_frame(pilot)


async def show_logs(pilot: Pilot[Any]) -> None:
    """Look at a log of all levels."""
    app = shown(pilot)
    await until(pilot, lambda: app.link.state.phase == "ready")
    await pilot.press("f8")
    await until(pilot, lambda: "GGML_ASSERT" in text(app, "#lines"))
    await hide_frame(pilot)


@pytest.mark.parametrize("terminal", SIZES)
def test_models(
    snap_compare: SnapCompare, terminal: tuple[int, int], nothing_changes: Path
) -> None:
    Path("models").mkdir()
    Path("models/broken.gguf").touch()
    put(Path("models/tiny-Instruct.Q4_1.gguf"))
    memory = Path("models/words.gguf")
    memory_file(make_memory(memory)).write(memory)
    store = nothing_changes / ".ollama/models"
    put_ollama(store, "registry.ollama.ai/library/llama3.2/1b", tiny_model("other"))
    app = fake_app()
    assert snap_compare(app, terminal_size=terminal, run_before=show_models)


@pytest.mark.parametrize("terminal", SIZES)
def test_size(
    snap_compare: SnapCompare,
    terminal: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(planning, "find_spec", lambda word: MOE)
    app = fake_app()
    assert snap_compare(app, terminal_size=terminal, run_before=show_size)


@pytest.mark.parametrize("terminal", SIZES)
def test_logs(snap_compare: SnapCompare, terminal: tuple[int, int]) -> None:
    engine = FakeEngine()
    for level in ("DEBUG", "INFO", "WARNING", "ERROR"):
        engine.log.append(f"12:00:00 {level} llama.cpp: one line")

    class Said(FakeEngine):
        async def start(self) -> Any:
            for line in engine.log:
                self.say(line)
            self.say("ggml.c:12: GGML_ASSERT(n > 0) failed")
            return await super().start()

    app = fake_app(Said())
    assert snap_compare(app, terminal_size=terminal, run_before=show_logs)
