"""How long the heat view takes: layout, a line, and from a key to a drawn frame.

    nice -n 19 python docs/benchmarks/tui_heat.py

Without an engine or a terminal: made-up tokens, Textual's own test driver.
"""

from __future__ import annotations

import asyncio
import random
import time
from statistics import median, quantiles

from textual.app import App, ComposeResult

from tui.widgets.heat_layout import lay_out
from tui.widgets.heat_text import HeatText

WORDS = (" the", " lemur", " is", "\n\n", " 漢字", ",", "�", " dodecahedron", ".")
SIZE = (120, 40)


class HeatApp(App[None]):
    """A heat view and nothing else."""

    def __init__(self, n_tokens: int) -> None:
        super().__init__()
        draw = random.Random(1)
        self._texts = [draw.choice(WORDS) for _ in range(n_tokens)]
        self._gates = [draw.random() for _ in range(n_tokens)]
        self.heat = HeatText()

    def compose(self) -> ComposeResult:
        yield self.heat

    def on_mount(self) -> None:
        self.heat.show(self._texts, self._gates)
        self.heat.focus()


async def frame_ms(app: HeatApp, action: str) -> float:
    """Return from an action to the end of the screen's update, in milliseconds."""
    screen = app.screen
    begin_s = time.perf_counter()
    await app.heat.run_action(action)
    await asyncio.sleep(0)
    screen._on_timer_update()  # what the 60 Hz timer calls; the driver writes nowhere
    return 1e3 * (time.perf_counter() - begin_s)


async def measure(n_tokens: int) -> None:
    app = HeatApp(n_tokens)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        begin_s = time.perf_counter()
        lay_out(app._texts, SIZE[0] - 1)
        layout_ms = 1e3 * (time.perf_counter() - begin_s)
        print(f"{n_tokens} tokens: layout {layout_ms:.1f} ms")
        for action in ("move(1)", "move_lines(1)", "page(1)"):
            times = []
            for _ in range(60):
                times.append(await frame_ms(app, action))
                await pilot.pause()
            print(
                f"  {action}: median {median(times):.2f} ms, "
                f"p95 {quantiles(times, n=20)[-1]:.2f} ms"
            )


for count in (400, 4_000, 40_000):
    asyncio.run(measure(count))
