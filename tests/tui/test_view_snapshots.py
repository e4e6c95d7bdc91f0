"""Pictures of the Memory and the Compare screen, without what all screens have around.

`pytest --snapshot-update` makes them anew.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from engram_local.chat.conversation import ChatMessage
from engram_local.settings import Settings
from engram_local.worker.protocol import Generate
from tests.tui.fakes import fake_app
from tests.tui.traces import tracing_engine
from tui.app import EngramApp
from tui.widgets.compare_table import CompareTable
from tui.widgets.token_card import TokenCard

SIZES = [(120, 40), (80, 24)]

SnapCompare = Callable[..., bool]
Prepare = Callable[[Pilot[Any]], Awaitable[None]]


@pytest.fixture(autouse=True)
def no_probe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What was measured on this computer does not count."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TEXTUAL_ANIMATIONS", "none")


async def until(pilot: Pilot[Any], is_so: Callable[[], bool]) -> None:
    """Wait, ten seconds at most."""
    for _ in range(200):
        await pilot.pause(0.05)
        if is_so():
            return
    raise AssertionError("it never came")


def is_explained(card: TokenCard) -> bool:
    """Whether a token's rows are there."""
    return "layer 15, 3 tokens" in str(card.content)


async def hide_frame(pilot: Pilot[Any]) -> None:
    """Hide what changes with every screen that the app gets."""
    for widget in pilot.app.screen.query("TabLine, StatusLine, Footer"):
        widget.display = False
    await pilot.pause(0.1)


async def show_memory(pilot: Pilot[Any]) -> None:
    """Ask something, and look at the gates of the answer."""
    app = pilot.app
    assert isinstance(app, EngramApp)
    await until(pilot, lambda: app.link.state.phase == "ready")
    question = ChatMessage(role="user", content="What is it?")
    async for _ in app.link.ask(Generate(messages=(question,), settings=Settings())):
        pass
    await pilot.press("f3")
    await pilot.pause(0.1)
    await pilot.press("right", "right")
    await until(
        pilot, lambda: "rows 25," in str(app.screen.query_one(TokenCard).content)
    )
    await hide_frame(pilot)


async def show_compared(pilot: Pilot[Any]) -> None:
    """Ask something twice."""
    await pilot.press("f4")
    await pilot.press(*"Why?", "enter")
    table = pilot.app.screen.query_one(CompareTable)
    await until(pilot, lambda: "likelier" in str(table.content))
    await pilot.press("tab")  # to the seed: the question's cursor is not drawn
    pilot.app.screen.query_one("#seed", Input).cursor_blink = False
    await hide_frame(pilot)


@pytest.mark.parametrize("size", SIZES)
def test_memory(snap_compare: SnapCompare, size: tuple[int, int]) -> None:
    app = fake_app(tracing_engine())
    assert snap_compare(app, terminal_size=size, run_before=show_memory)


def test_memory_without_colours(
    snap_compare: SnapCompare, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = fake_app(tracing_engine())
    assert snap_compare(app, terminal_size=(80, 24), run_before=show_memory)


@pytest.mark.parametrize("size", SIZES)
def test_compare(snap_compare: SnapCompare, size: tuple[int, int]) -> None:
    app = fake_app(tracing_engine())
    assert snap_compare(app, terminal_size=size, run_before=show_compared)
