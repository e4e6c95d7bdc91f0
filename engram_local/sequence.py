"""The tokens that a backbone and its memory have evaluated: forward, and back again.

Going back is exact or it does not happen. Where llama.cpp can drop the newest tokens,
it does; a recurrent state cannot, and a sliding window has forgotten what lies before
it. There the state is saved at places where the next prompt is likely to turn off, and
going back means: restore the newest of those, and drop what came after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from engram_local.errors import Interrupted
from engram_local.llama.runtime import Backbone
from engram_local.llama.saved_states import SavedState, SavedStates

if TYPE_CHECKING:
    from engram_local.loading import Memory

_TAIL = 8
"""A prompt's state is saved this many tokens before its end. The last one is evaluated
again in any case, for its logits, and those before it may be others once an answer
follows: `<|im_start|>assistant <think> </think>` is 7 tokens that Qwen's template has
for the newest answer only."""

_FAR = 64
"""Tokens. Where a prompt turned off, this far from any saved state, the next one may
turn off too: another question about the same text."""


class TokenSequence:
    """One sequence in a backbone and, where there is one, its memory.

    Use from the thread that decodes.
    """

    def __init__(self, backbone: Backbone, memory: Memory | None) -> None:
        self._backbone = backbone
        self._memory = memory
        self._states = SavedStates()
        self._save_at: set[int] = set()  # lengths at which the state will be saved
        self.token_ids: list[int] = []
        """What is evaluated."""

    def submit(self, token_ids: Sequence[int]) -> None:
        """Tell the memory what will be evaluated next, any number of steps ahead."""
        if self._memory is not None:
            self._memory.submit(token_ids)

    def step(self, token_ids: Sequence[int], *, all_logits: bool = False) -> None:
        """Evaluate the next tokens, which have been submitted.

        Raises what `Backbone.decode` and the memory raise. After Interrupted the
        sequence is as before, or as much shorter as going back needs; after any other
        error it is empty.
        """
        n_before = len(self.token_ids)
        try:
            if self._memory is not None:
                self._memory.prepare()
            self._backbone.decode(token_ids, n_before, all_logits=all_logits)
            if self._memory is not None:
                self._memory.check(n_before + len(token_ids))
        except Interrupted:
            self._keep(n_before)
            raise
        except BaseException:
            self.reset()  # half of a batch may be in the state
            raise
        self.token_ids += token_ids
        self._save_where_planned()

    def stop(self) -> None:
        """Tell the memory that what was submitted and not evaluated never will be."""
        n_tokens = len(self.token_ids)
        if self._memory is not None and not self._memory.trim(n_tokens):
            self.reset()

    def rewind(self, prompt_ids: Sequence[int]) -> int:
        """Keep what `prompt_ids` begins with; return how many tokens that is.

        The last token is always evaluated again: its logits are needed.
        """
        n_common = _common_prefix(self.token_ids, prompt_ids)
        n_common = min(n_common, len(prompt_ids) - 1)
        n_kept = self._keep(n_common)
        if self._backbone.needs_saved_states:
            self._save_at = {max(n_kept, len(prompt_ids) - _TAIL)}
            if n_kept + _FAR < n_common < len(prompt_ids) - _FAR:
                self._save_at.add(n_common)
            self._save_where_planned()
        return n_kept

    def evaluate(self, token_ids: Sequence[int]) -> Iterator[int]:
        """Submit a prompt and evaluate it; yield the tokens done after each decode."""
        self.submit(token_ids)
        n_done = 0
        for part in self.parts(token_ids):
            for chunk in self.chunks(part):
                self.step(chunk)
                n_done += len(chunk)
                yield n_done

    def chunks(
        self, token_ids: Sequence[int], sizes: Sequence[int] | None = None
    ) -> list[Sequence[int]]:
        """Cut tokens into decodes of these sizes, again and again; None = large ones.

        No decode has more than the backbone's `n_batch`.
        """
        largest = self._backbone.n_batch
        chunks: list[Sequence[int]] = []
        start = 0
        while start < len(token_ids):
            size = sizes[len(chunks) % len(sizes)] if sizes else largest
            chunks.append(token_ids[start : start + min(size, largest)])
            start += len(chunks[-1])
        return chunks

    def parts(self, token_ids: Sequence[int]) -> list[Sequence[int]]:
        """Cut the rest of a prompt where `step` will save the state."""
        n_before = len(self.token_ids)
        cuts = {n_tokens - n_before for n_tokens in self._save_at}
        inner = sorted(cut for cut in cuts if 0 < cut < len(token_ids))
        ends = pairwise((0, *inner, len(token_ids)))
        return [token_ids[start:end] for start, end in ends]

    def reset(self) -> None:
        """Begin a new sequence."""
        self._backbone.reset()
        if self._memory is not None:
            self._memory.reset()
        self.token_ids.clear()
        self._states.forget_after(0)
        self._save_at.clear()

    def _keep(self, n_tokens: int) -> int:
        """Keep the first `n_tokens`, or fewer, or none; return how many."""
        self._states.forget_after(n_tokens)
        n_kept = self._go_back(n_tokens)
        if n_kept and self._memory is not None and not self._memory.trim(n_kept):
            n_kept = 0
        if n_kept == 0:
            self.reset()
        del self.token_ids[n_kept:]
        return n_kept

    def _go_back(self, n_tokens: int) -> int:
        """Shorten the backbone's sequence; return its length, 0 if it must be reset."""
        if self._backbone.trim(n_tokens):
            return n_tokens
        state = self._states.newest()
        if state and self._backbone.restore(state.data, state.n_tokens):
            return state.n_tokens
        return 0

    def _save_where_planned(self) -> None:
        n_tokens = len(self.token_ids)
        newest = self._states.newest()
        is_saved = newest is not None and newest.n_tokens == n_tokens
        if n_tokens == 0 or n_tokens not in self._save_at or is_saved:
            return
        if self._backbone.state_bytes <= self._states.max_bytes:
            self._states.add(SavedState(n_tokens=n_tokens, data=self._backbone.save()))


def _common_prefix(before: Sequence[int], after: Sequence[int]) -> int:
    for position, (one, other) in enumerate(zip(before, after, strict=False)):
        if one != other:
            return position
    return min(len(before), len(after))
