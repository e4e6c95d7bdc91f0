"""What tests of the chat screen share: an app with a fake engine, driven by keys."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from textual.pilot import Pilot

from tests.tui.fakes import FakeEngine, fake_app
from tui.app import EngramApp
from tui.screens.chat import ChatScreen

Act = Callable[[EngramApp, Pilot[int]], Awaitable[None]]


def drive(
    act: Act, *engines: FakeEngine, size: tuple[int, int] = (120, 40)
) -> EngramApp:
    """Run an app whose engines are these, act on it once it is ready, end it."""
    app = fake_app(*engines)

    async def run() -> None:
        async with app.run_test(size=size) as pilot:
            await settle(pilot)
            await act(app, pilot)

    asyncio.run(run())
    return app


async def settle(pilot: Pilot[int], times: int = 6) -> None:
    """Let workers and timers go on; an answer is drawn 30 times a second."""
    for _ in range(times):
        await pilot.pause(0.02)


async def ask(pilot: Pilot[int], text: str) -> None:
    """Type a text and send it."""
    chat_of(pilot.app).prompt.put(text)
    await pilot.press("enter")
    await settle(pilot)


def chat_of(app: object) -> ChatScreen:
    """Return the chat screen, which is shown."""
    assert isinstance(app, EngramApp)
    assert isinstance(app.screen, ChatScreen)
    return app.screen


def shown(app: object) -> list[str]:
    """Return the texts of all messages."""
    return [entry.text for entry in chat_of(app).transcript.entries]


def toasts(app: EngramApp) -> str:
    """Return all sentences that were shown for a moment."""
    return "\n".join(str(one.message) for one in app._notifications)
