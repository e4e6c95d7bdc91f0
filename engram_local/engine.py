"""A backbone and its memory, joined: prefill, step, sample, detokenize.

Owns the order of closing: the prefetch thread is joined before the tables are unmapped,
and those before llama.cpp's context and model are freed.
"""

from __future__ import annotations

import codecs
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engram_local.errors import (
    FitError,
    Interrupted,
    UnsupportedError,
    UsageError,
)
from engram_local.events import (
    Event,
    Finished,
    FinishReason,
    MemoryStats,
    Progress,
    PromptProgress,
    TextChunk,
)
from engram_local.llama.chat_template import ChatTemplate, Message
from engram_local.llama.sampling import Sampler
from engram_local.loading import Loaded, MemoryChoice, load
from engram_local.sequence import TokenSequence
from engram_local.settings import Settings
from engram_local.telemetry import summarize

if TYPE_CHECKING:
    from engram_local.loading import Memory

Prompt = str | Sequence[Message]
"""A text that is used as it is, or messages for the chat template."""


class Engine:
    """A loaded model that answers, one sequence at a time.

    with Engine.open() as engine:
        for event in engine.generate([{"role": "user", "content": "Hello"}]):
            ...

    Not safe from several threads, except `cancel`.
    """

    def __init__(self, stack: ExitStack, loaded: Loaded, settings: Settings) -> None:
        """Use `open`; the stack frees what was loaded."""
        self._stack = stack
        self.spec = loaded.spec
        self.settings = settings
        self._backbone = loaded.backbone
        self._loaded_memory = loaded.memory
        self._memory = loaded.memory
        self._sequence = TokenSequence(self._backbone, self._memory)
        self.notes = loaded.notes
        self._cancelled = False
        self._busy = False
        self._closed = False

    @classmethod
    def open(
        cls,
        model: Path | None = None,
        *,
        memory: MemoryChoice = "auto",
        settings: Settings | None = None,
        swappable: bool = False,
        progress: Progress | None = None,
    ) -> Engine:
        """Load a backbone and its memory.

        model: a GGUF; None = the default one. memory: a memory file; "auto" = one that
        fits, if there is one; None = without. swappable: `choose_memory` will be
        called, also if there is no memory now. Raises EngramError.
        """
        settings = settings or Settings()
        with ExitStack() as stack:
            loaded = load(stack, model, memory, settings, progress, swappable=swappable)
            return cls(stack.pop_all(), loaded, settings)

    @property
    def memory(self) -> Memory | None:
        """The memory in use, if any."""
        return self._memory

    @property
    def can_leave_out_memory(self) -> bool:
        """Whether there is a memory that is not a part of the model."""
        return (
            self._loaded_memory is not None and self._loaded_memory.kind == "attached"
        )

    @property
    def path(self) -> Path:
        """The backbone's file."""
        return self._backbone.path

    @property
    def n_ctx(self) -> int:
        """Context length in tokens."""
        return self._backbone.n_ctx

    @property
    def n_vocab(self) -> int:
        """Tokens in the vocabulary."""
        return self._backbone.n_vocab

    def use_memory(self, on: bool) -> None:
        """Switch the memory on or off; begins a new sequence."""
        self._check_idle()
        if on and self._loaded_memory is None:
            raise UsageError("this engine was opened without a memory")
        if not on and self._loaded_memory is not None and not self.can_leave_out_memory:
            raise UsageError("the table is a part of this model, and always used")
        self._sequence.reset()
        self._memory = self._loaded_memory if on else None
        self._sequence = TokenSequence(self._backbone, self._memory)
        if self._backbone.hook is not None:
            self._backbone.hook.enable(on)

    def encode(self, prompt: Prompt) -> list[int]:
        """Return the token ids of a prompt; special tokens in it are parsed.

        The template spells them out, and who gives a whole prompt does so too.
        """
        self._check_open()
        if isinstance(prompt, str):
            return self._backbone.tokenize(prompt, parse_special=True)
        template = self._backbone.chat_template
        if template is None:
            raise UnsupportedError(
                f"{self.path} has no chat template",
                hint="give the whole prompt yourself with --raw",
            )
        text = ChatTemplate(
            template, bos=self._backbone.bos, eos=self._backbone.eos
        ).format(prompt)
        has_bos = bool(self._backbone.bos) and text.startswith(self._backbone.bos)
        return self._backbone.tokenize(
            text, parse_special=True, add_special=not has_bos
        )

    def tokenize(self, text: str) -> list[int]:
        """Return the token ids of a text, taken literally."""
        self._check_open()
        return self._backbone.tokenize(text, parse_special=False)

    def generate(
        self, prompt: Prompt, *, settings: Settings | None = None
    ) -> Iterator[Event]:
        """Answer a prompt; the last event is `Finished`.

        What the prompt shares with the sequence so far is not computed again.
        settings: for sampling and length; None = the engine's own. Raises FitError if
        the prompt is longer than the context. Closing the iterator ends the answer.
        """
        self._check_idle()
        self._cancelled = False
        start = time.perf_counter()
        answer = _Answer(start=start, prompt_ids=self.encode(prompt))
        self._check_fits(answer)
        if self._memory is not None:
            self._memory.take_counters()
        self._busy = True
        try:
            yield from self._evaluate_prompt(answer)
            yield from self._decode_answer(answer, settings or self.settings)
        except Interrupted:
            answer.reason = "cancelled"
        finally:
            self._busy = False
            if not self._closed:
                self._sequence.stop()
        yield answer.finished(self.take_memory_stats())

    def cancel(self) -> None:
        """End the running answer at its next token. Safe from any thread."""
        self._cancelled = True

    def score(
        self, token_ids: Sequence[int], *, chunk_sizes: Sequence[int] | None = None
    ) -> list[float]:
        """Return the negative log-likelihood of each token after the first, in nats.

        At most `n_ctx` tokens, as one new sequence. chunk_sizes: tokens per decode
        call; None = as large as possible.
        """
        self._check_idle()
        self._check_length(len(token_ids))
        self._sequence.reset()
        self._sequence.submit(token_ids)
        targets = list(token_ids[1:])
        nll: list[float] = []
        for chunk in self._chunks(token_ids, chunk_sizes):
            self._step(chunk, all_logits=True)
            n_scored = min(len(chunk), len(targets) - len(nll))
            nll += [
                _nll(self._backbone.logits(index), targets[len(nll) + index])
                for index in range(n_scored)
            ]
        return nll

    def replay(
        self,
        prompt_ids: Sequence[int],
        token_ids: Sequence[int],
        *,
        between: Callable[[], None] | None = None,
    ) -> Replay:
        """Evaluate a prompt, then tokens one by one as if they had been sampled.

        For measuring: the work is the same for every engine that gets the same tokens.
        between: called after the prompt, in nobody's time. Raises FitError if the
        context is too short.
        """
        self._check_idle()
        self._check_length(len(prompt_ids) + len(token_ids))
        self._sequence.reset()
        self.take_memory_stats()  # what was counted before
        start = time.perf_counter()
        for _ in self._prefill(prompt_ids):
            pass
        prompt_s = time.perf_counter() - start
        prompt_memory = self.take_memory_stats()
        if between is not None:
            between()
        token_s = self._replay_tokens(token_ids)
        return Replay(
            prompt_s=prompt_s,
            token_s=token_s,
            prompt_memory=prompt_memory,
            token_memory=self.take_memory_stats(),
        )

    def take_memory_stats(self) -> MemoryStats | None:
        """Return what the memory did since the last call, or the last answer."""
        if self._memory is None:
            return None
        counters = self._memory.take_counters()
        is_native = self._memory.kind == "native"
        return MemoryStats(
            kind=self._memory.kind,
            tier=self._memory.tier,
            rows_read=counters.rows_read,
            bytes_read=counters.bytes_read,
            pages_ahead=counters.pages_ahead,
            verified_rows=counters.verified_rows,
            stall=None if is_native else summarize(counters.stalls_s),
            n_submitted=counters.n_waits,
            n_ready=counters.n_ready,
            n_late=counters.n_waits - counters.n_ready,
            gate_mean=counters.gate_means(),
        )

    def close(self) -> None:
        """Free everything. Calling it twice is fine."""
        self._closed = True
        self._stack.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # --- the sequence -------------------------------------------------------------

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError("this engine is closed")

    def _check_idle(self) -> None:
        """Refuse to touch the sequence of an answer that is unfinished."""
        self._check_open()
        if self._busy:
            raise UsageError(
                "this engine is still answering",
                hint="finish or close the answer before, or open another engine",
            )

    def _check_fits(self, answer: _Answer) -> None:
        n_prompt = len(answer.prompt_ids)
        if n_prompt == 0:
            raise UsageError("the prompt is empty", hint="give one with -p")
        if n_prompt > self.n_ctx - 1:
            raise FitError(
                f"the prompt is {n_prompt} tokens, the context holds {self.n_ctx}, "
                "one of them for an answer",
                hint="shorten it, or use a longer context with -c",
            )

    def _check_length(self, n_tokens: int) -> None:
        if n_tokens > self.n_ctx:
            raise FitError(
                f"{n_tokens} tokens were asked for, the context holds {self.n_ctx}",
                hint="use a longer context with -c",
            )

    def _evaluate_prompt(self, answer: _Answer) -> Iterator[Event]:
        n_total = len(answer.prompt_ids)
        answer.n_cached = self._sequence.rewind(answer.prompt_ids)
        for n_done in self._prefill(answer.prompt_ids[answer.n_cached :]):
            yield PromptProgress(n_done=answer.n_cached + n_done, n_total=n_total)
        answer.prompt_s = answer.elapsed_s

    def _prefill(self, token_ids: Sequence[int]) -> Iterator[int]:
        """Evaluate a prompt; yield the tokens done after each chunk."""
        self._sequence.submit(token_ids)
        n_done = 0
        for part in self._sequence.parts(token_ids):
            for chunk in self._chunks(part, None):
                self._step(chunk)
                n_done += len(chunk)
                yield n_done
                if self._cancelled:
                    return

    def _replay_tokens(self, token_ids: Sequence[int]) -> tuple[float, ...]:
        times = [time.perf_counter()]
        with closing(Sampler(self.settings)) as sampler:
            for token_id in token_ids:
                self._backbone.sample(sampler)
                self._sequence.submit([token_id])
                self._step([token_id])
                times.append(time.perf_counter())
        return tuple(np.diff(times).tolist())

    def _decode_answer(self, answer: _Answer, settings: Settings) -> Iterator[Event]:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        with closing(Sampler(settings)) as sampler:
            while (reason := self._stop_reason(answer, settings)) is None:
                self._check_open()  # the reader had control since the last token
                token_id = self._backbone.sample(sampler)
                if self._backbone.is_end(token_id):
                    reason = "stop"
                    break
                answer.add(token_id)
                last = self._stop_reason(answer, settings) is not None
                if not last:
                    self._sequence.submit([token_id])
                text = decoder.decode(self._backbone.piece(token_id))
                if text:
                    answer.text += text
                    yield TextChunk(text=text)
                if not last:
                    self._step([token_id])
        answer.reason = reason
        rest = decoder.decode(b"", final=True)
        if rest:
            answer.text += rest
            yield TextChunk(text=rest)

    def _stop_reason(self, answer: _Answer, settings: Settings) -> FinishReason | None:
        if self._cancelled:
            return "cancelled"
        if 0 <= settings.max_tokens <= len(answer.token_ids):
            return "length"
        if len(answer.prompt_ids) + len(answer.token_ids) >= self.n_ctx:
            return "context"
        return None

    def _step(self, token_ids: Sequence[int], *, all_logits: bool = False) -> None:
        self._check_open()
        self._sequence.step(token_ids, all_logits=all_logits)

    def _chunks(
        self, token_ids: Sequence[int], sizes: Sequence[int] | None
    ) -> list[Sequence[int]]:
        largest = self._backbone.n_batch
        chunks: list[Sequence[int]] = []
        start = 0
        while start < len(token_ids):
            size = sizes[len(chunks) % len(sizes)] if sizes else largest
            chunks.append(token_ids[start : start + min(size, largest)])
            start += len(chunks[-1])
        return chunks


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """How long a prompt took, and each token after it; what the memory did in both."""

    prompt_s: float
    token_s: tuple[float, ...]
    prompt_memory: MemoryStats | None
    token_memory: MemoryStats | None


@dataclass(slots=True)
class _Answer:
    """What is known of the answer that is being made."""

    start: float
    prompt_ids: list[int]
    n_cached: int = 0
    token_ids: list[int] = field(default_factory=list)
    text: str = ""
    reason: FinishReason = "stop"
    prompt_s: float = 0.0
    token_times: list[float] = field(default_factory=list)

    @property
    def elapsed_s(self) -> float:
        return time.perf_counter() - self.start

    def add(self, token_id: int) -> None:
        self.token_ids.append(token_id)
        self.token_times.append(self.elapsed_s)

    def finished(self, memory: MemoryStats | None) -> Finished:
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


def _nll(logits: NDArray[np.float32], target: int) -> float:
    shifted = logits.astype(np.float64) - float(logits.max())
    return float(np.log(np.exp(shifted).sum()) - shifted[target])
