"""How fast a long conversation scrolls in the chat app, and what memory it takes.

    python docs/benchmarks/tui_scroll.py [--tokens 20000] [--size 120x40]

Headless: all that Textual does for a frame but the terminal's own work. A frame is the
processor time between a key and the lines that show its effect. The conversation of
1,000 tokens beside it tells what the app itself takes.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
from collections.abc import Callable
from dataclasses import replace
from time import perf_counter, process_time

import psutil
from textual.app import App, ComposeResult
from textual.pilot import Pilot

from engram_local.units import MIB
from tui.message_lines import Entry
from tui.widgets.transcript import Transcript

_ANSWER = """## Lemur {n}

Lemur {n} is a *primate* of Madagascar, **with** a long tail, and `Lemuroidea` is what
its superfamily is called. Species {n} lives in trees and eats fruit, leaves, flowers.

* the {n}th ring-tailed lemur, which is often on the ground
* the {n}th aye-aye, which finds larvae by tapping on wood
  * and is active at night

```python
def weight_{n}_kg(length_cm: float) -> float:
    # a rule of thumb
    return 0.00007 * length_cm**2.{n}
```

| species | weight |
|---|---|
| ring-tailed | 2.{n} kg |
| indri | 9.{n} kg |
"""
_CHARS_PER_TOKEN = 4


class ScrollApp(App[None]):
    """The conversation alone."""

    CSS = "Transcript { height: 1fr; overflow-x: hidden; overflow-y: scroll; }"

    def compose(self) -> ComposeResult:
        yield Transcript()


def conversation(n_tokens: int) -> list[Entry]:
    """Return questions and answers of that length together, no two the same."""
    entries: list[Entry] = []
    while sum(len(one.text) for one in entries) < n_tokens * _CHARS_PER_TOKEN:
        n = len(entries) // 2
        asked = Entry(id=f"q{n}", role="user", head="You", text=f"Lemur {n}?")
        foot = "prompt 12 at 340.0/s · 120 tokens at 41.0/s"
        answer = Entry(
            id=f"a{n}",
            role="assistant",
            head="SmolLM2",
            text=_ANSWER.format(n=n),
            foot=foot,
        )
        entries += [asked, answer]
    return entries


async def measure(n_tokens: int, size: tuple[int, int]) -> None:
    """Show a conversation, scroll through all of it, add words at its end."""
    app = ScrollApp()
    app.animation_level = "none"
    entries = conversation(n_tokens)
    async with app.run_test(size=size) as pilot:
        transcript = app.query_one(Transcript)
        await pilot.pause()
        before = _rss()
        start_s = perf_counter()
        transcript.show(entries)
        await pilot.pause()
        shown_s = perf_counter() - start_s
        n_chars = sum(len(one.text) for one in entries)
        print(
            f"{n_tokens} tokens, {n_chars} characters, {len(entries)} messages, "
            f"{transcript.virtual_size.height} lines: shown in {shown_s:.2f} s, "
            f"{_rss() - before:.1f} MiB"
        )
        await _scroll(pilot, "page up", transcript.action_page_up)
        await _scroll(pilot, "page down", transcript.action_page_down)
        await _stream(pilot, transcript, entries)
        print(f"  after that {_rss() - before:.1f} MiB")


async def _scroll(pilot: Pilot[None], what: str, scroll: Callable[[], None]) -> None:
    transcript = pilot.app.query_one(Transcript)
    times_ms = []
    before = -1.0
    while transcript.scroll_y != before:
        before = transcript.scroll_y
        start_s = process_time()
        scroll()
        await pilot.pause()
        times_ms.append(1e3 * (process_time() - start_s))
    _tell(what, times_ms)


async def _stream(
    pilot: Pilot[None], transcript: Transcript, entries: list[Entry]
) -> None:
    times_ms = []
    text = entries[-1].text
    for number in range(400):
        text += f"word{number} "
        last = replace(entries[-1], text=text, is_whole=False)
        start_s = process_time()
        transcript.show([*entries[:-1], last])
        await pilot.pause()
        times_ms.append(1e3 * (process_time() - start_s))
    _tell("a word more", times_ms)


def _rss() -> float:
    gc.collect()
    return float(psutil.Process().memory_info().rss / MIB)


def _tell(what: str, times_ms: list[float]) -> None:
    times_ms.sort()
    n = len(times_ms)
    print(
        f"  {what}: {n} frames, median {times_ms[n // 2]:.1f} ms, "
        f"p99 {times_ms[int(0.99 * (n - 1))]:.1f} ms, max {times_ms[-1]:.1f} ms"
    )


def main() -> None:
    """Measure two conversations, each in this process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=20_000)
    parser.add_argument("--size", default="120x40")
    args = parser.parse_args()
    columns, rows = map(int, args.size.split("x"))
    for n_tokens in (1000, args.tokens):
        asyncio.run(measure(n_tokens, (columns, rows)))


if __name__ == "__main__":
    main()
