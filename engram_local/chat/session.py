"""A session: a conversation that is written to the file while it goes on.

Every message is written at once, the text of an answer at most every 100 ms while it
comes. Whatever ends the program, the file holds all but that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from engram_local.chat.conversation import Conversation, Message
from engram_local.chat.database import Database
from engram_local.chat.records import (
    MESSAGE_COLUMNS,
    SESSION_COLUMNS,
    UNTITLED,
    ChatSettings,
    SessionRecord,
    Statement,
    message_values,
    title_of,
)
from engram_local.errors import SessionError

PIECE_S = 0.1
"""Between two writes of an answer that comes."""


class Session:
    """A conversation, what it is held with, and its place in the file.

    It gets a place with its first message, and keeps itself up to date there. When that
    fails, `on_lost` is told, once; the conversation goes on without being saved.
    """

    def __init__(
        self,
        database: Database,
        on_lost: Callable[[SessionError], None],
        clock: Callable[[], float],
        record: SessionRecord,
        *,
        messages: Sequence[Message] = (),
        leaf_id: str | None = None,
    ) -> None:
        """Begin a session, or go on with one; SessionStore does it."""
        self.conversation = Conversation(
            record.system,
            messages=messages,
            leaf_id=leaf_id,
            keeper=self,
            clock=clock,
        )
        self._database = database
        self._on_lost = on_lost
        self._clock = clock
        self._record = record
        self._has_place = bool(messages)
        self._is_lost = False
        self._piece = ""
        self._written_at = 0.0

    @property
    def id(self) -> str:
        """What `SessionStore.load` takes; 8 hexadecimal digits."""
        return self._record.id

    @property
    def title(self) -> str:
        """The first line of the first question, until it is renamed."""
        return self._record.title

    @property
    def model(self) -> str:
        """The model's file."""
        return self._record.model

    @property
    def memory(self) -> str | None:
        """The memory's file, if there is one."""
        return self._record.memory

    @property
    def settings(self) -> ChatSettings:
        """How it samples, and whether the memory is used."""
        return self._record.settings

    @property
    def is_lost(self) -> bool:
        """Whether nothing is kept from now on, as writing has failed."""
        return self._is_lost

    def rename(self, title: str) -> None:
        """Give it another title."""
        self._change(title=title_of(title))

    def use_model(self, model: str, memory: str | None) -> None:
        """Go on with another model or memory."""
        self._change(model=model, memory=memory)

    def change_settings(self, settings: ChatSettings) -> None:
        """Go on with other settings."""
        self._change(settings=settings)

    # --- the Keeper of its conversation -------------------------------------------

    def keep_message(self, message: Message) -> None:
        """Write a new message, and before the first one the session."""
        begin = [] if self._has_place else [self._begin(message)]
        self._write(*begin, _insert(self.id, message), self._show(message.id))
        self._has_place = True

    def keep_text(self, message_id: str, text: str) -> None:
        """Write what was added to an answer, if the last write is long enough ago."""
        self._piece += text
        if time.monotonic() - self._written_at < PIECE_S:
            return
        insert = "INSERT INTO pieces (message_id, text) VALUES (?, ?)"
        self._write((insert, (message_id, self._piece)))
        self._piece = ""
        self._written_at = time.monotonic()

    def keep_status(self, message: Message) -> None:
        """Write an answer as a whole."""
        self._piece = ""
        self._write(*_replace(message), self._show(self.conversation.leaf_id))

    def keep_leaf(self, leaf_id: str | None) -> None:
        """Write which branch is shown."""
        self._write(self._show(leaf_id))

    def keep_system(self, system: str | None) -> None:
        """Write another system prompt."""
        self._change(system=system)

    # --- writing ------------------------------------------------------------------

    def _begin(self, message: Message) -> Statement:
        if self._record.title == UNTITLED:
            self._record = replace(self._record, title=title_of(message.text))
        values = self._record.values()
        marks = ", ".join("?" * len(values))
        return f"INSERT INTO sessions ({SESSION_COLUMNS}) VALUES ({marks})", values

    def _show(self, leaf_id: str | None) -> Statement:
        return (
            "UPDATE sessions SET leaf_id = ?, updated_at = ? WHERE id = ?",
            (leaf_id, self._clock(), self.id),
        )

    def _change(self, **changes: Any) -> None:
        self._record = replace(self._record, **changes)
        if self._has_place:
            columns = ", ".join(f"{name} = ?" for name in SESSION_COLUMNS.split(", "))
            values = (*self._record.values(), self.id)
            self._write((f"UPDATE sessions SET {columns} WHERE id = ?", values))

    def _write(self, *statements: Statement) -> None:
        if self._is_lost:
            return
        try:
            with self._database.writing() as connection:
                for statement, values in statements:
                    connection.execute(statement, values)
        except SessionError as error:
            self._is_lost = True
            self._on_lost(error)


def _insert(session_id: str, message: Message) -> Statement:
    values = (session_id, *message_values(message))
    marks = ", ".join("?" * len(values))
    return (
        f"INSERT INTO messages (session_id, {MESSAGE_COLUMNS}) VALUES ({marks})",
        values,
    )


def _replace(message: Message) -> list[Statement]:
    columns = ", ".join(f"{name} = ?" for name in MESSAGE_COLUMNS.split(", "))
    return [
        (
            f"UPDATE messages SET {columns} WHERE id = ?",
            (*message_values(message), message.id),
        ),
        ("DELETE FROM pieces WHERE message_id = ?", (message.id,)),
    ]
