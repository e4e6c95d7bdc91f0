"""A backbone and its memory, joined: prefill, step, sample, detokenize.

Owns the order of closing: the prefetch thread is joined before the tables are unmapped,
and those before llama.cpp's context and model are freed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

from engram_local import measuring
from engram_local.answer import Answer, Trace
from engram_local.attachment import MemoryChoice, read_module
from engram_local.errors import (
    FitError,
    Interrupted,
    UsageError,
)
from engram_local.events import (
    Event,
    FinishReason,
    MemoryStats,
    MemoryTotals,
    Progress,
    PromptProgress,
    TableMap,
    TextChunk,
    TokenRow,
)
from engram_local.llama.chat_template import Message, encode
from engram_local.llama.sampling import Sampler
from engram_local.loading import Loaded, load
from engram_local.measuring import Replay
from engram_local.memory.ngrams import token_rows
from engram_local.memory.table_map import evict, map_tables, warm
from engram_local.memory.tally import Tally
from engram_local.sequence import TokenSequence
from engram_local.settings import Settings

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
        self._attachment = loaded.attachment
        self._loaded_memory = loaded.memory
        self._memory = loaded.memory
        self._sequence = TokenSequence(self._backbone, self._memory)
        self._tally = Tally()
        self._answer = Answer([])
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
    def loaded_memory(self) -> Memory | None:
        """The memory that is loaded, also while it is not in use."""
        return self._loaded_memory

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
    def n_tokens(self) -> int:
        """Tokens that are evaluated: of the last prompt and its answer."""
        return len(self._sequence.token_ids)

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
            raise _part_of_model()
        self._sequence.reset()
        self._begin(on)

    def choose_memory(
        self,
        choice: MemoryChoice,
        *,
        tier: str = "auto",
        progress: Progress | None = None,
    ) -> None:
        """Load another memory, or the same in another tier, and use it; or none.

        The backbone stays; begins a new sequence. Raises EngramError; then the memory
        before is still there.
        """
        self._check_idle()
        if self._attachment is None:
            raise _part_of_model()
        module = read_module(self.path, self.spec, choice)
        was_on = self._memory is not None
        self._tally.take(self._loaded_memory)
        self._sequence.reset()
        try:
            self._attachment.exchange(module, tier, progress)
            was_on = module is not None
        finally:
            self._loaded_memory = self._attachment.memory
            self._begin(was_on)

    def _begin(self, on: bool) -> None:
        """Use the loaded memory, or none, with an empty sequence."""
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
        return encode(self._backbone, prompt)

    def tokenize(self, text: str) -> list[int]:
        """Return the token ids of a text, taken literally."""
        self._check_open()
        return self._backbone.tokenize(text, parse_special=False)

    def generate(
        self, prompt: Prompt, *, settings: Settings | None = None
    ) -> Generator[Event, None, None]:
        """Answer a prompt; the last event is `Finished`.

        What the prompt shares with the sequence so far is not computed again.
        settings: for sampling and length; None = the engine's own. Raises FitError if
        the prompt is longer than the context. Closing the iterator ends the answer;
        `cancel` does from now on, also before the first event.
        """
        self._check_idle()
        self._cancelled = False
        return self._generate(prompt, settings or self.settings)

    def _generate(
        self, prompt: Prompt, settings: Settings
    ) -> Generator[Event, None, None]:
        self._check_idle()  # the caller had control
        start = time.perf_counter()
        answer = self._answer = Answer(self.encode(prompt), start)
        answer.check_fits(self.n_ctx)
        self.take_memory_stats()  # what was counted before
        self._busy = True
        try:
            yield from self._evaluate_prompt(answer)
            yield from self._decode_answer(answer, settings)
        except Interrupted:
            answer.reason = "cancelled"
        finally:
            self._busy = False
            if not self._closed:
                self._note_gates(answer)
                self._sequence.stop()
        yield answer.finished(self.take_memory_stats())

    def cancel(self) -> None:
        """End the running answer at its next token. Safe from any thread."""
        self._cancelled = True

    def score(
        self,
        token_ids: Sequence[int],
        *,
        chunk_sizes: Sequence[int] | None = None,
        first: int = 1,
    ) -> list[float]:
        """Return the negative log-likelihood of each token from `first` on, in nats.

        At most `n_ctx` tokens. chunk_sizes: tokens per decode call; None = as large as
        possible. With `first` left out they are one new sequence; else what they share
        with the sequence so far, before `first`, is not computed again.
        """
        self._check_idle()
        self._check_length(len(token_ids))
        return measuring.score(
            self._backbone,
            self._sequence,
            token_ids,
            chunk_sizes=chunk_sizes,
            first=first,
        )

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
        return measuring.replay(
            self._backbone,
            self._sequence,
            prompt_ids,
            token_ids,
            settings=self.settings,
            take_stats=self.take_memory_stats,
            between=between,
        )

    def take_memory_stats(self) -> MemoryStats | None:
        """Return what the memory did since the last call, or the last answer."""
        return self._tally.take(self._memory)

    def memory_totals(self) -> MemoryTotals:
        """Return what memories did since the engine was opened.

        Takes nothing from `Finished`, and 30 us: for the thread that decodes, between
        two events.
        """
        self._check_open()
        return self._tally.totals(self._loaded_memory)

    def trace(self) -> Trace:
        """Return tokens and gates of the last answer; empty before the first.

        A token's gates are those of its own evaluation, whose result is the next token.
        The last one is never evaluated and has none.
        """
        self._check_open()
        return self._answer.trace(self._backbone.piece)

    def rows_of(self, position: int) -> tuple[TokenRow, ...]:
        """Return the rows that the token at a position of the sequence reads.

        Raises UsageError if there is no such token, or no memory in use.
        """
        self._check_open()
        if self._memory is None:
            raise UsageError("no memory is in use, so no rows are read")
        token_ids = self._sequence.token_ids
        if not 0 <= position < len(token_ids):
            raise UsageError(
                f"there is no token {position}, {len(token_ids)} have been evaluated"
            )
        return token_rows(self._memory.module, token_ids, position, self._text_of)

    def table_map(self, n_cells: int) -> TableMap:
        """Return what is in memory of `n_cells` equal parts of each layer's table."""
        self._check_open()
        return map_tables(self._require_memory(), n_cells)

    def warm_table(self, progress: Progress | None = None) -> None:
        """Read the loaded memory's table into the page cache; `cancel` ends it.

        Raises UsageError in other tiers than mmap, TableError if it cannot be read.
        """
        self._check_idle()
        self._cancelled = False
        for part in warm(self._require_memory()):
            if progress is not None:
                progress("reading the table", part)
            if self._cancelled:
                return

    def evict_table(self) -> None:
        """Let the page cache forget the table; pages that others map stay.

        Raises UsageError in other tiers than mmap.
        """
        self._check_idle()
        evict(self._require_memory())

    def _require_memory(self) -> Memory:
        if self._loaded_memory is None:
            raise UsageError("this engine was opened without a memory")
        return self._loaded_memory

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

    def _check_length(self, n_tokens: int) -> None:
        if n_tokens > self.n_ctx:
            raise FitError(
                f"{n_tokens} tokens were asked for, the context holds {self.n_ctx}",
                hint="use a longer context with -c",
            )

    def _evaluate_prompt(self, answer: Answer) -> Iterator[Event]:
        n_total = len(answer.prompt_ids)
        answer.n_cached = self._sequence.rewind(answer.prompt_ids)
        if self._cancelled:  # while it was encoded: a decode would not know
            return
        for n_done in self._sequence.evaluate(answer.prompt_ids[answer.n_cached :]):
            yield PromptProgress(n_done=answer.n_cached + n_done, n_total=n_total)
            self._check_open()  # the reader had control
            if self._cancelled:
                return  # no rate: not all of it was computed
        answer.prompt_s = answer.elapsed_s

    def _decode_answer(self, answer: Answer, settings: Settings) -> Iterator[Event]:
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
                if text := answer.say(self._backbone.piece(token_id)):
                    yield TextChunk(text=text)
                if not last:
                    self._step([token_id])
        answer.reason = reason
        if rest := answer.say(b"", last=True):
            yield TextChunk(text=rest)

    def _stop_reason(self, answer: Answer, settings: Settings) -> FinishReason | None:
        if self._cancelled:
            return "cancelled"
        return answer.stop_reason(settings, self.n_ctx)

    def _note_gates(self, answer: Answer) -> None:
        """Keep what the next prompt will overwrite."""
        if self._memory is not None:
            first, end = len(answer.prompt_ids), len(self._sequence.token_ids)
            answer.gates = self._memory.gates(first, max(first, end))
            answer.layer_ids = self._memory.layer_ids if len(answer.gates) else ()

    def _text_of(self, token_id: int) -> str:
        return self._backbone.piece(token_id, special=True).decode("utf-8", "replace")

    def _step(self, token_ids: Sequence[int], *, all_logits: bool = False) -> None:
        self._check_open()
        self._sequence.step(token_ids, all_logits=all_logits)


def _part_of_model() -> UsageError:
    return UsageError("the table is a part of this model, and always used")
