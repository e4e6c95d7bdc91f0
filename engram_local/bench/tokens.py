"""Tokens to measure with: the same for all arms of a repetition, others in the next.

The speed of a backbone does not depend on which tokens it gets; that of a memory does,
as rows that were read before are in memory. Evenly drawn tokens would never repeat, one
text again and again always would. So tokens are drawn as words are in a text, the n-th
most frequent with a probability of about 1/n (Zipf's law), or taken from a text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from engram_local.errors import UsageError

TokenIds = tuple[list[int], list[int]]
"""A prompt, and the tokens that are decoded after it."""

Source = Callable[[int], TokenIds]
"""The tokens of a repetition, by its number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is measured."""

    n_prompt: int = 512
    n_decode: int = 64
    n_repetitions: int = 5
    seed: int = 0

    @property
    def n_tokens(self) -> int:
        """Tokens of one turn."""
        return self.n_prompt + self.n_decode


def draw_tokens(n_vocab: int, plan: Plan) -> Source:
    """Return a source that draws from a shuffled vocabulary by Zipf's law, seeded."""
    ranked_ids = np.random.default_rng(plan.seed).permutation(n_vocab)
    weights = 1 / np.arange(1, n_vocab + 1)

    def draw(repetition: int) -> TokenIds:
        generator = np.random.default_rng([plan.seed, repetition])
        token_ids = generator.choice(
            ranked_ids, plan.n_tokens, p=weights / weights.sum()
        )
        return _split(token_ids.tolist(), plan)

    return draw


def cut_text(token_ids: Sequence[int], plan: Plan) -> Source:
    """Return a source that cuts pieces out of a text.

    The pieces begin at even distances, and overlap where the text is short. Raises
    UsageError if it is shorter than one of them.
    """
    n_spare = len(token_ids) - plan.n_tokens
    if n_spare < 0:
        raise UsageError(
            f"the text is {len(token_ids)} tokens, a prompt of {plan.n_prompt} and "
            f"{plan.n_decode} after it are needed",
            hint="use a longer text, or less of it with -p and -n",
        )

    def cut(repetition: int) -> TokenIds:
        start = repetition * n_spare // plan.n_repetitions
        return _split(list(token_ids[start : start + plan.n_tokens]), plan)

    return cut


def _split(token_ids: list[int], plan: Plan) -> TokenIds:
    return token_ids[: plan.n_prompt], token_ids[plan.n_prompt :]
