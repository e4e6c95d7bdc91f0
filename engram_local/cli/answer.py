"""Print an answer as it comes, and let Ctrl-C end it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from engram_local.chat.conversation import ChatMessage
from engram_local.cli import report
from engram_local.cli.status import status_line
from engram_local.events import Finished, PromptProgress, TextChunk
from engram_local.settings import Settings
from engram_local.units import escape_control

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engram_local.engine import Engine, Prompt


def prompt_of(messages: Sequence[ChatMessage]) -> list[dict[str, str]]:
    """Return messages as the engine takes them."""
    return [{"role": one.role, "content": one.content} for one in messages]


def stream(
    engine: Engine,
    prompt: Prompt,
    *,
    settings: Settings | None = None,
    quiet: bool = False,
    on_text: Callable[[str], object] | None = None,
) -> Finished:
    """Print an answer as it comes; return its last event.

    quiet: print nothing. on_text: called with every piece.
    """
    with status_line() as status:
        for event in engine.generate(prompt, settings=settings):
            match event:
                case PromptProgress():
                    status("reading the prompt", event.n_done / event.n_total)
                case TextChunk():
                    if on_text is not None:
                        on_text(event.text)
                    if not quiet:
                        status.clear()
                        print(escape_control(event.text), end="", flush=True)
                case Finished():
                    return event
    raise AssertionError("an answer ends with Finished")


def tell(finished: Finished) -> None:
    """Say what there is to say about an answer."""
    print(report.timing_line(finished), file=sys.stderr)
    memory = finished.memory
    if memory is not None and memory.verified_rows is not None:
        print(report.verified_line(memory.verified_rows), file=sys.stderr)


@contextmanager
def interruptible(engine: Engine) -> Iterator[list[int]]:
    """Let Ctrl-C end the answer and keep its text; a second one ends the program.

    The list that is given holds the signals that came.
    """
    signals: list[int] = []

    def on_signal(number: int, _frame: FrameType | None) -> None:
        if signals:
            raise KeyboardInterrupt
        signals.append(number)
        engine.cancel()

    before = signal.signal(signal.SIGINT, on_signal)
    try:
        yield signals
    finally:
        signal.signal(signal.SIGINT, before)
