"""What tests of screens share: an app that is driven, waits, what is on the screen."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from textual.pilot import Pilot
from textual.widgets import Static

from tests.tui.fakes import FakeEngine, fake_app
from tui.app import EngramApp

Act = Callable[[EngramApp, Pilot[int]], Awaitable[None]]


def drive(
    act: Act, *, key: str, engine: FakeEngine | None = None, size: Any = (120, 40)
) -> None:
    """Run the app, show the screen of a key, and act on it."""

    async def run() -> None:
        app = fake_app(*([engine] if engine else []))
        async with app.run_test(size=size) as pilot:
            await until(pilot, lambda: app.link.state.phase != "starting")
            await pilot.press(key)
            await pilot.pause()
            await act(app, pilot)

    asyncio.run(run())


async def until(pilot: Pilot[Any], is_so: Callable[[], bool]) -> None:
    """Wait, ten seconds at most."""
    for _ in range(400):
        await pilot.pause(0.025)
        if is_so():
            return
    raise AssertionError("it never came")


async def type_in(pilot: Pilot[Any], text: str) -> None:
    """Press the keys of a text."""
    names = {" ": "space", ".": "full_stop", "/": "slash", "-": "minus"}
    await pilot.press(*(names.get(char, char) for char in text))


async def hide_frame(pilot: Pilot[Any]) -> None:
    """Hide what changes with every screen that the app gets."""
    for widget in pilot.app.screen.query("TabLine, StatusLine, Footer"):
        widget.display = False
    await pilot.pause(0.1)


def text(app: EngramApp, selector: str) -> str:
    """Return what a Static says."""
    return str(app.screen.query_one(selector, Static).content)


def notes(app: EngramApp) -> str:
    """Return all sentences that were shown for a moment."""
    return "\n".join(note.message for note in app._notifications)
