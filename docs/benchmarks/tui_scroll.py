"""How fast a long conversation scrolls in the chat app, and what memory it takes.

    python docs/benchmarks/tui_scroll.py [TOKENS] [COLUMNSxROWS]

Headless: everything that Textual does for a frame but the terminal's own work. A frame
is what lies between a key and the screen that shows its effect.
"""

from __future__ import annotations

import asyncio
import sys
from time import perf_counter, process_time

import psutil
from textual.app import App, ComposeResult

from engram_local.units import MIB, format_bytes
from tui.message_lines import Entry
from tui.widgets.transcript import Transcript

_ANSWER = """## What a lemur is

A lemur is a *primate* of Madagascar, **with** a long tail, and `Lemuroidea` is what its
superfamily is called. Most species live in trees and eat fruit, leaves and flowers.

* the ring-tailed lemur, which is often on the ground
* the aye-aye, which finds larvae by tapping on wood
  * and is active at night

```python
def weight_kg(length_cm: float) -> float:
    # a rule of thumb
    return 0.00007 * length_cm**2.7
```

| species | weight |
|---|---|
| ring-tailed | 2.2 kg |
| indri | 9.5 kg |
"""
_CHARS_PER_TOKEN = 4


class ScrollApp(App[None]):
    """The conversation alone."""

    CSS = "Transcript { height: 1fr; overflow-x: hidden; }"

    def compose(self) -> ComposeResult:
        yield Transcript()


def conversation(n_tokens: int) -> list[Entry]:
    """Return questions and answers of that length together."""
    entries: list[Entry] = []
    n_chars = 0
    while n_chars < n_tokens * _CHARS_PER_TOKEN:
        number = len(entries) // 2
        question = f"What is a lemur, and what does it eat? ({number})"
        answer = _ANSWER + f"\n{number} is the number of this answer.\n"
        entries += [
            Entry(id=f"q{number}", role="user", head="You", text=question),
            Entry(
                id=f"a{number}",
                role="assistant",
                head="SmolLM2",
                text=answer,
                foot="[prompt 12 at 340.0/s · 120 tokens at 41.0/s]",
            ),
        ]
        n_chars += len(question) + len(answer)
    return entries


async def measure(n_tokens: int, size: tuple[int, int]) -> None:
    """Show the conversation, scroll through all of it, add to its end."""
    app = ScrollApp()
    app.animation_level = "none"
    async with app.run_test(size=size) as pilot:
        transcript = app.query_one(Transcript)
        transcript.focus()
        await pilot.pause()
        before_bytes = psutil.Process().memory_info().rss
        entries = conversation(n_tokens)
        n_chars = sum(len(entry.text) for entry in entries)
        print(f"{n_tokens} tokens, {n_chars} characters, {len(entries)} messages")

        start_s = perf_counter()
        transcript.show(entries)
        await pilot.pause()
        print(f"shown after {perf_counter() - start_s:.2f} s")
        print(f"{transcript.max_scroll_y} lines")
        after_bytes = psutil.Process().memory_info().rss
        print(
            f"RSS {format_bytes(after_bytes)}, more by "
            f"{(after_bytes - before_bytes) / MIB:.1f} MiB"
        )

        for key in ("pageup", "pagedown", "up"):
            await _scroll(app, pilot, transcript, key)
        end_bytes = psutil.Process().memory_info().rss
        print(f"after scrolling more by {(end_bytes - before_bytes) / MIB:.1f} MiB")
        await _stream(pilot, transcript, entries[-1])


async def _scroll(app, pilot, transcript, key) -> None:  # type: ignore[no-untyped-def]
    times_ms = []
    for _ in range(300):
        at = transcript.scroll_y
        start_s = process_time()
        await pilot.press(key)
        await pilot.pause()
        app.screen._compositor.render_update(full=True)
        times_ms.append(1e3 * (process_time() - start_s))
        if transcript.scroll_y == at:
            break
    _tell(key, times_ms)


async def _stream(pilot, transcript, entry) -> None:  # type: ignore[no-untyped-def]
    from dataclasses import replace

    times_ms = []
    text = entry.text
    transcript.follow()
    for number in range(400):
        text += f"word{number} "
        start_s = process_time()
        transcript.show_last(replace(entry, text=text, is_whole=False))
        await pilot.pause()
        times_ms.append(1e3 * (process_time() - start_s))
    _tell("a word more", times_ms)
    print("at the end:", transcript.is_vertical_scroll_end)


def _tell(what: str, times_ms: list[float]) -> None:
    times_ms.sort()
    n = len(times_ms)
    print(
        f"{what}: {n} frames, median {times_ms[n // 2]:.1f} ms, "
        f"p99 {times_ms[min(n - 1, int(0.99 * n))]:.1f} ms, max {times_ms[-1]:.1f} ms"
    )


if __name__ == "__main__":
    tokens = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    columns, rows = map(
        int, [*sys.argv, "120x40"][2 if len(sys.argv) > 2 else -1].split("x")
    )
    asyncio.run(measure(tokens, (columns, rows)))
