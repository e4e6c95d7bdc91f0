"""A conversation: a tree of messages that only grows, and the branch that is shown.

Another answer to a question is another child of it, an edited question is another child
of what came before it. Nothing is taken out of the tree: `undo`, `clear`, `select` and
`edit` only move the leaf, the message at which the shown branch ends.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from engram_local.errors import UsageError
from engram_local.events import Finished, FinishReason

Role = Literal["system", "user", "assistant"]

MessageStatus = Literal["complete", "cut", "partial"]
"""As the model ended it; ended by a user, a limit, an error; still being written."""


def status_after(reason: FinishReason) -> Literal["complete", "cut"]:
    """Return what an answer is that ended so; one that was cut can be continued."""
    return "complete" if reason == "stop" else "cut"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatMessage:
    """A message for the chat template."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerStats:
    """The numbers below an answer."""

    n_tokens: int
    tokens_per_s: float | None
    n_prompt: int
    n_cached: int
    """Prompt tokens that had not to be evaluated again."""

    prompt_tokens_per_s: float | None
    first_token_s: float | None
    finish_reason: FinishReason
    rows_read: int
    stall_p50_ms: float | None
    """Per token; None without memory, or where llama.cpp waits for rows itself."""

    tier: str | None
    """None = no memory was used."""

    memory: str | None
    """Name of the memory's file."""

    model: str | None
    pages_ahead: int | None = None
    """Pages of a model's own table that were asked for before llama.cpp did."""

    @classmethod
    def from_finished(
        cls, finished: Finished, *, model: str | None, memory: str | None
    ) -> AnswerStats:
        """Return the numbers of an answer; `memory` counts only if it was used."""
        used = finished.memory
        stall = used.stall if used else None
        return cls(
            n_tokens=len(finished.token_ids),
            tokens_per_s=finished.tokens_per_s,
            n_prompt=finished.n_prompt,
            n_cached=finished.n_cached,
            prompt_tokens_per_s=finished.prompt_tokens_per_s,
            first_token_s=finished.first_token_s,
            finish_reason=finished.finish_reason,
            rows_read=used.rows_read if used else 0,
            stall_p50_ms=stall.p50_ms if stall else None,
            tier=used.tier if used else None,
            memory=memory if used else None,
            model=model,
            pages_ahead=used.pages_ahead if used else None,
        )

    def after(self, before: AnswerStats | None) -> AnswerStats:
        """Return the numbers of an answer that was continued: counts are summed up.

        Speeds and reasons are those of the newest part.
        """
        if before is None:
            return self
        return replace(
            self,
            n_tokens=before.n_tokens + self.n_tokens,
            rows_read=before.rows_read + self.rows_read,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A question or an answer."""

    id: str
    """Unique everywhere: two programs may add to the same session."""

    parent_id: str | None
    """What it follows; None = it begins a branch."""

    role: Literal["user", "assistant"]
    text: str
    status: MessageStatus
    created_at: float
    """Seconds since 1970."""

    stats: AnswerStats | None = None
    """Of an answer that has ended."""


class Keeper(Protocol):
    """Writes down what happens to a conversation; sessions.py has one."""

    def keep_message(self, message: Message) -> None:
        """A message was added; it is the leaf now."""

    def keep_text(self, message_id: str, text: str) -> None:
        """An answer became longer by `text`."""

    def keep_status(self, message: Message) -> None:
        """An answer has ended, or is gone on with."""

    def keep_leaf(self, leaf_id: str | None) -> None:
        """Another branch is shown."""

    def keep_system(self, system: str | None) -> None:
        """The system prompt was changed."""


class Conversation:
    """Questions, answers, and all their variants. One owner, no lock."""

    def __init__(
        self,
        system: str | None = None,
        *,
        messages: Iterable[Message] = (),
        leaf_id: str | None = None,
        keeper: Keeper | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Begin anew, or go on with `messages`, parents before their children.

        clock: gives the seconds since 1970.
        """
        self._system = system and storable(system)
        self._messages = {message.id: message for message in messages}
        self._children: dict[str | None, list[str]] = {}
        for message in self._messages.values():
            self._children.setdefault(message.parent_id, []).append(message.id)
        self._leaf_id = leaf_id
        self._keeper = keeper
        self._clock = clock

    @property
    def system(self) -> str | None:
        """Replaces the template's own system prompt; None = keep that."""
        return self._system

    @system.setter
    def system(self, text: str | None) -> None:
        self._system = text and storable(text)
        if self._keeper is not None:
            self._keeper.keep_system(self._system)

    @property
    def leaf_id(self) -> str | None:
        """The message at which the shown branch ends; None = nothing is shown."""
        return self._leaf_id

    def message(self, message_id: str) -> Message:
        """Return a message as it is now; KeyError if it is of another conversation."""
        return self._messages[message_id]

    def messages(self) -> tuple[Message, ...]:
        """Return all messages of all branches, in the order they were added."""
        return tuple(self._messages.values())

    def path(self) -> tuple[Message, ...]:
        """Return the branch that is shown, oldest message first."""
        found = []
        message_id = self._leaf_id
        while message_id is not None:
            found.append(self._messages[message_id])
            message_id = found[-1].parent_id
        return tuple(reversed(found))

    def last_question(self) -> Message | None:
        """Return the newest question that is shown."""
        return self._last("user")

    def last_answer(self) -> Message | None:
        """Return the newest answer that is shown."""
        return self._last("assistant")

    def as_messages(self) -> tuple[ChatMessage, ...]:
        """Return what is shown for the chat template, system prompt first.

        A question that was left without an answer is not in it, but for the newest:
        many templates refuse two questions in a row.
        """
        said: list[ChatMessage] = []
        for message in self.path():
            if message.role == "user" and said and said[-1].role == "user":
                said.pop()
            if message.role == "user" or message.text:
                said.append(ChatMessage(role=message.role, content=message.text))
        if self._system is not None:
            said.insert(0, ChatMessage(role="system", content=self._system))
        return tuple(said)

    def ask(self, text: str) -> Message:
        """Add a question at the end of what is shown."""
        return self._add(self._leaf_id, "user", text, "complete")

    def begin_answer(self) -> Message:
        """Add an empty answer to the newest question; once more = another variant.

        Raises UsageError if nothing was asked.
        """
        question = self.last_question()
        if question is None:
            raise UsageError("there is no question yet")
        return self._add(question.id, "assistant", "", "partial")

    def extend(self, message_id: str, text: str) -> Message:
        """Add text at the end of an answer that is being written."""
        message, text = self._messages[message_id], storable(text)
        self._messages[message_id] = replace(message, text=message.text + text)
        if self._keeper is not None:
            self._keeper.keep_text(message_id, text)
        return self._messages[message_id]

    def finish(
        self,
        message_id: str,
        status: Literal["complete", "cut"],
        stats: AnswerStats | None = None,
    ) -> Message:
        """End an answer; without `stats` the ones that it had stay."""
        before = self._messages[message_id]
        if stats is not None:
            stats = stats.after(before.stats)
        return self._put(replace(before, status=status, stats=stats or before.stats))

    def continue_answer(self) -> Message:
        """Open the answer at the end again, so that it can be extended.

        Raises UsageError if there is no answer with a text at the end.
        """
        leaf = self._messages[self._leaf_id] if self._leaf_id else None
        if leaf is None or leaf.role != "assistant" or not leaf.text:
            raise UsageError("there is no answer to go on with")
        return self._put(replace(leaf, status="partial"))

    def variants(self, message_id: str) -> tuple[Message, ...]:
        """Return a message and the others in its place, oldest first."""
        message = self._messages[message_id]
        siblings = [self._messages[one] for one in self._children[message.parent_id]]
        return tuple(one for one in siblings if one.role == message.role)

    def select(self, message_id: str) -> None:
        """Show the branch through a message, down to its newest message."""
        leaf_id = self._messages[message_id].id
        while children := self._children.get(leaf_id):
            leaf_id = children[-1]
        self._move(leaf_id)

    def edit(self, message_id: str, text: str) -> Message:
        """Ask something else in the place of a question; what followed is a variant.

        Raises UsageError for an answer.
        """
        message = self._messages[message_id]
        if message.role != "user":
            raise UsageError("only questions can be edited")
        return self._add(message.parent_id, "user", text, "complete")

    def undo(self) -> Message | None:
        """Go back before the newest question and return it; None if there is none."""
        question = self.last_question()
        if question is not None:
            self._move(question.parent_id)
        return question

    def clear(self) -> None:
        """Show nothing; the next question begins a branch of its own."""
        self._move(None)

    def _last(self, role: str) -> Message | None:
        return next((one for one in reversed(self.path()) if one.role == role), None)

    def _add(
        self,
        parent_id: str | None,
        role: Literal["user", "assistant"],
        text: str,
        status: MessageStatus,
    ) -> Message:
        message = Message(
            id=uuid.uuid4().hex,
            parent_id=parent_id,
            role=role,
            text=storable(text),
            status=status,
            created_at=self._clock(),
        )
        self._messages[message.id] = message
        self._children.setdefault(parent_id, []).append(message.id)
        self._leaf_id = message.id
        if self._keeper is not None:
            self._keeper.keep_message(message)
        return message

    def _put(self, message: Message) -> Message:
        self._messages[message.id] = message
        if self._keeper is not None:
            self._keeper.keep_status(message)
        return message

    def _move(self, leaf_id: str | None) -> None:
        self._leaf_id = leaf_id
        if self._keeper is not None:
            self._keeper.keep_leaf(leaf_id)


def storable(text: str) -> str:
    """Return a text without what SQLite cannot keep or find again.

    Halves of characters, as bytes from a terminal become, and NUL, where its functions
    take a text to end.
    """
    whole = text.encode("utf-8", "replace").decode("utf-8")
    return whole.replace("\0", "\N{REPLACEMENT CHARACTER}")
