"""What of a conversation the model sees when all of it does not fit into the context.

The oldest questions are left out with their answers; the system prompt, the newest
question and what there is of its answer stay. Nothing leaves the session.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

from engram_local.chat.conversation import ChatMessage

WARN_PART = 0.8
"""A front end warns when the prompt takes more than this part of the context."""

_ROOM = 8
"""One part in so many of the context is kept for the answer, while that is possible."""

_CHARS_PER_TOKEN = 4
"""Of English; that another language has fewer only makes the steps larger."""


def fit(
    messages: Sequence[ChatMessage],
    count_tokens: Callable[[Sequence[ChatMessage]], int],
    n_ctx: int,
) -> tuple[tuple[ChatMessage, ...], int]:
    """Return the messages that the model sees, and how many are left out.

    count_tokens: tokens of messages as a prompt. It is called once if all fit, else
    about log2 of the number of questions times more. What is returned can still be too
    long: one question that is longer than the context.
    """
    limit = n_ctx - max(1, n_ctx // _ROOM)
    if count_tokens(messages) <= limit:
        return tuple(messages), 0
    n_system = sum(message.role == "system" for message in messages[:1])
    system, said = tuple(messages[:n_system]), tuple(messages[n_system:])
    cuts = _cuts(said, n_ctx // _ROOM * _CHARS_PER_TOKEN) or [0]
    first = bisect_left(
        cuts, True, key=lambda cut: count_tokens(system + said[cut:]) <= limit
    )
    cut = cuts[min(first, len(cuts) - 1)]
    return system + said[cut:], cut


def _cuts(said: Sequence[ChatMessage], step_chars: int) -> list[int]:
    """Return where the model's view may begin: at questions, `step_chars` apart.

    The steps make the view begin at the same question for several turns: each time it
    begins at another one, all of the prompt has to be evaluated again. The newest
    question is the last of them, the first one is not among them.
    """
    cuts: list[int] = []
    n_chars = newest = 0
    for index, message in enumerate(said):
        if message.role == "user":
            newest = index
            if n_chars >= step_chars * (len(cuts) + 1):
                cuts.append(index)
        n_chars += len(message.content)
    return cuts if newest in (0, *cuts) else [*cuts, newest]
