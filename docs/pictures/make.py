"""The pictures of the README: `python docs/pictures/make.py`, with the default model.

The app runs as it does in a terminal of 120 columns and 40 lines, with its engine; keys
are pressed, and Textual writes what is on the screen as SVG beside this file.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from textual.pilot import Pilot

from engram_local.settings import Settings
from engram_local.worker.client import EngineClient
from tui.app import EngramApp
from tui.options import TuiOptions

FOLDER = Path(__file__).parent
SIZE = (120, 40)
LIMIT_S = 60.0
QUESTIONS = (
    "What is a dodecahedron?",
    "Write a Python function that adds two numbers, and explain it in three points.",
)
SETTINGS = Settings(temperature=0, seed=1, max_tokens=160)


async def main() -> None:
    """Press keys, take pictures."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_DATA_HOME"] = folder  # sessions of nobody
        os.environ["XDG_CONFIG_HOME"] = folder
        options = TuiOptions(
            model=None,
            memory="auto",
            settings=SETTINGS,
        )
        app = EngramApp(options, make_port=lambda on_log: EngineClient(on_log=on_log))
        async with app.run_test(size=SIZE) as pilot:
            await take_all(app, pilot)


async def take_all(app: EngramApp, pilot: Pilot[int]) -> None:
    """Take the pictures in the order in which a user meets the screens."""

    def is_ready() -> bool:
        return app.link.state.phase == "ready"

    await wait(pilot, is_ready)
    for question in QUESTIONS:
        await press(pilot, question, "enter")
        await wait(pilot, is_ready)
    take(app, "chat")
    await press(pilot, "", "f3")
    await pilot.pause(2.0)  # it asks which rows a token read
    await press(pilot, "", *["right"] * 6)
    await pilot.pause(2.0)
    take(app, "memory")
    await press(pilot, "", "f4")
    await pilot.pause(0.5)
    await press(pilot, "", "end", "ctrl+u")
    await press(pilot, QUESTIONS[0], "enter")
    await pilot.pause(1.0)
    await wait(pilot, is_ready)
    await pilot.pause(0.5)
    take(app, "compare")
    await press(pilot, "", "f5")
    await pilot.pause(4.0)
    take(app, "size")
    await press(pilot, "", "f6")
    await pilot.pause(4.0)
    take(app, "models")


async def press(pilot: Pilot[int], text: str, *keys: str) -> None:
    """Type a text, then press keys."""
    names = {" ": "space", "?": "question_mark", ",": "comma", ".": "full_stop"}
    await pilot.press(*(names.get(char, char) for char in text), *keys)
    await pilot.pause(0.3)


async def wait(pilot: Pilot[int], is_done: Callable[[], bool]) -> None:
    """Wait until something is done; raises TimeoutError."""
    async with asyncio.timeout(LIMIT_S):
        while not is_done():
            await pilot.pause(0.1)


def take(app: EngramApp, name: str) -> None:
    """Write what is on the screen."""
    svg = app.export_screenshot(title=f"engram-local tui: {name}")
    (FOLDER / f"{name}.svg").write_text(svg, "utf-8")
    print(f"{name}.svg: {len(svg) / 1e3:.0f} kB")


if __name__ == "__main__":
    asyncio.run(main())
