"""An answer while it is made: its tokens, their times, its text, and why it ended."""

from __future__ import annotations

import codecs
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engram_local.errors import FitError, UsageError
from engram_local.events import Finished, FinishReason, MemoryStats, TokenTrace
from engram_local.settings import Settings
from engram_local.telemetry import summarize

_Decoder = codecs.getincrementaldecoder("utf-8")


class Trace(NamedTuple):
    """The tokens of an answer with their gates."""

    first: int
    """Position of the first one in the sequence."""

    layer_ids: tuple[int, ...]
    """Of the gates; empty without memory, or where llama.cpp gates."""

    tokens: tuple[TokenTrace, ...]


@dataclass(slots=True)
class Answer:
    """What is known of the answer that is being made."""

    prompt_ids: list[int]
    start: float = field(default_factory=time.perf_counter)
    n_cached: int = 0
    token_ids: list[int] = field(default_factory=list)
    text: str = ""
    reason: FinishReason = "stop"
    prompt_s: float = 0.0
    token_times: list[float] = field(default_factory=list)
    layer_ids: tuple[int, ...] = ()
    gates: NDArray[np.float32] = field(
        default_factory=lambda: np.zeros((0, 0), np.float32)
    )
    """(n_layers, n_tokens): of the tokens that were evaluated."""

    _decoder: codecs.IncrementalDecoder = field(
        default_factory=lambda: _Decoder("replace")
    )

    def check_fits(self, n_ctx: int) -> None:
        """Raise unless there is a prompt, and room for it and for a token."""
        n_prompt = len(self.prompt_ids)
        if n_prompt == 0:
            raise UsageError("the prompt is empty", hint="give one with -p")
        if n_prompt > n_ctx - 1:
            raise FitError(
                f"the prompt is {n_prompt} tokens, the context holds {n_ctx}, "
                "one of them for an answer",
                hint="shorten it, or use a longer context with -c",
            )

    @property
    def elapsed_s(self) -> float:
        """Seconds since it was asked for."""
        return time.perf_counter() - self.start

    def add(self, token_id: int) -> None:
        """Append a token that was sampled now."""
        self.token_ids.append(token_id)
        self.token_times.append(self.elapsed_s)

    def say(self, piece: bytes, *, last: bool = False) -> str:
        """Append a token's bytes; return the whole characters that there are now."""
        text = self._decoder.decode(piece, last)
        self.text += text
        return text

    def stop_reason(self, settings: Settings, n_ctx: int) -> FinishReason | None:
        """Return why there can be no further token; None if there can."""
        if 0 <= settings.max_tokens <= len(self.token_ids):
            return "length"
        if len(self.prompt_ids) + len(self.token_ids) >= n_ctx:
            return "context"
        return None

    def finished(self, memory: MemoryStats | None) -> Finished:
        """Return the last event."""
        times = self.token_times
        return Finished(
            text=self.text,
            token_ids=tuple(self.token_ids),
            finish_reason=self.reason,
            n_prompt=len(self.prompt_ids),
            n_cached=self.n_cached,
            prompt_s=self.prompt_s,
            first_token_s=times[0] if times else None,
            token_ms=summarize(np.diff(times).tolist()),
            decode_s=times[-1] - times[0] if times else 0.0,
            memory=memory,
        )

    def trace(self, piece: Callable[[int], bytes]) -> Trace:
        """Return its tokens; `piece` gives the bytes of one."""
        gates: Sequence[Sequence[float]] = self.gates.T.tolist()
        tokens = tuple(
            TokenTrace(
                token_id=token_id,
                text=piece(token_id).decode("utf-8", "replace"),
                gates=tuple(gates[i]) if i < len(gates) else (),
            )
            for i, token_id in enumerate(self.token_ids)
        )
        first = len(self.prompt_ids)
        return Trace(first=first, layer_ids=self.layer_ids, tokens=tokens)
