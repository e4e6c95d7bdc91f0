"""An engine that answers from a script, without llama.cpp."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engram_local.cli import typed
from engram_local.errors import EngramError, UsageError
from engram_local.events import (
    Event,
    Finished,
    FinishReason,
    MemoryStats,
    PromptProgress,
    TextChunk,
    Timing,
)

NO_TIME = Timing(total_ms=0.0, p50_ms=0.0, p95_ms=0.0, max_ms=0.0)
STATS = MemoryStats(
    kind="attached",
    tier="mmap",
    rows_read=48,
    bytes_read=1632,
    stall=NO_TIME,
    n_submitted=6,
    n_ready=5,
    n_late=1,
    gate_mean={2: 0.25},
)


@dataclass(slots=True)
class FakeEngine:
    """Says `words` to everything; records the prompts it was given."""

    words: Sequence[str] = ("Hello", " world")
    error: EngramError | None = None
    interrupt_after: int | None = None
    """Number of words after which it looks as if Ctrl-C had been pressed."""

    prompts: list[Any] = field(default_factory=list)
    closed: bool = False
    memory: Any = None
    can_leave_out_memory: bool = False
    n_ctx: int = 1000
    path: Path = Path(__file__)
    """Must exist."""

    settings: list[Any] = field(default_factory=list)
    """Of each answer."""

    stats: MemoryStats = STATS
    _cancelled: bool = False
    _unused: Any = None

    @property
    def spec(self) -> Any:
        """Only the name is looked at."""
        return SimpleNamespace(name="fake \x1b[31mmodel")

    def encode(self, prompt: Any) -> list[int]:
        """A word is a token."""
        return [0] * sum(len(message["content"].split()) for message in prompt)

    def generate(self, prompt: Any, *, settings: Any = None) -> Iterator[Event]:
        """Yield the script."""
        self.prompts.append(prompt)
        self.settings.append(settings)
        self._cancelled = False
        if self.error is not None:
            raise self.error
        yield PromptProgress(n_done=3, n_total=3)
        said: list[str] = []
        for word in self.words:
            if self._cancelled:
                break
            said.append(word)
            yield TextChunk(text=word)
            if len(said) == self.interrupt_after:
                self._press_ctrl_c()
        yield self._finished(said)

    def cancel(self) -> None:
        """End the answer."""
        self._cancelled = True

    @property
    def loaded_memory(self) -> Any:
        """Also while it is not used."""
        return self.memory or self._unused

    def use_memory(self, on: bool) -> None:
        """There is none, but where there is."""
        if not self.can_leave_out_memory:
            raise UsageError("this engine was opened without a memory")
        loaded = self.loaded_memory
        self.memory, self._unused = (loaded, None) if on else (None, loaded)

    def __enter__(self) -> FakeEngine:
        return self

    def __exit__(self, *exc: object) -> None:
        self.closed = True

    def _press_ctrl_c(self) -> None:
        import signal

        signal.raise_signal(signal.SIGINT)

    def _finished(self, said: Sequence[str]) -> Finished:
        reason: FinishReason = "cancelled" if self._cancelled else "stop"
        return Finished(
            text="".join(said),
            token_ids=tuple(range(len(said))),
            finish_reason=reason,
            n_prompt=3,
            n_cached=0,
            prompt_s=0.5,
            first_token_s=0.6,
            token_ms=NO_TIME,
            decode_s=0.25,
            memory=self.stats,
        )


Open = Callable[..., FakeEngine]


def terminal(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    """Let the user type `lines`, then end the input; ^C is Ctrl-C."""
    todo = iter(lines)

    def read_line(_prompt: str) -> str:
        line = next(todo, None)
        if line is None:
            raise EOFError
        if line == "^C":
            raise KeyboardInterrupt
        return line

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr(typed, "_read_line", read_line)
