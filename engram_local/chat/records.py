"""What stands in the file of sessions, as values, and as rows of its tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from engram_local.chat.conversation import AnswerStats, Message, storable
from engram_local.settings import Settings

Row = Sequence[Any]
Statement = tuple[str, tuple[object, ...]]
"""SQL with its values."""

UNTITLED = "new chat"
"""Until the first question."""

_TITLE_CHARS = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatSettings:
    """The settings that belong to a session: how it samples, and with which memory."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    seed: int | None
    max_tokens: int
    memory_on: bool = True

    @classmethod
    def of(cls, settings: Settings, *, memory_on: bool = True) -> ChatSettings:
        """Take them out of all settings."""
        return cls(
            temperature=settings.temperature,
            top_k=settings.top_k,
            top_p=settings.top_p,
            min_p=settings.min_p,
            seed=settings.seed,
            max_tokens=settings.max_tokens,
            memory_on=memory_on,
        )

    def over(self, settings: Settings) -> Settings:
        """Return `settings` with these in place of its own; raises UsageError."""
        values = asdict(self)
        del values["memory_on"]
        return replace(settings, **values)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionInfo:
    """A line of the list of sessions."""

    id: str
    title: str
    model: str
    n_messages: int
    """All variants counted."""

    updated_at: float
    """Seconds since 1970."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRecord:
    """A session's row, without what changes with every message."""

    id: str
    title: str
    model: str
    memory: str | None
    system: str | None
    settings: ChatSettings

    def values(self) -> tuple[object, ...]:
        """Return them in the order of SESSION_COLUMNS."""
        texts = (self.id, self.title, self.model, self.memory, self.system)
        settings = json.dumps(asdict(self.settings))
        return *(text and storable(text) for text in texts), settings

    @classmethod
    def from_row(cls, row: Row) -> SessionRecord:
        """Read them in this order."""
        session_id, title, model, memory, system, settings = row
        return cls(
            id=session_id,
            title=title,
            model=model,
            memory=memory,
            system=system,
            settings=ChatSettings(**json.loads(settings)),
        )


SESSION_COLUMNS = "id, title, model, memory, system, settings"
MESSAGE_COLUMNS = "id, parent_id, role, text, status, created_at, stats"


def message_values(message: Message) -> tuple[object, ...]:
    """Return a message in the order of MESSAGE_COLUMNS."""
    return (
        message.id,
        message.parent_id,
        message.role,
        message.text,
        message.status,
        message.created_at,
        message.stats and json.dumps(asdict(message.stats)),
    )


def message_from_row(row: Row) -> Message:
    """Read a message in this order."""
    message_id, parent_id, role, text, status, created_at, stats = row
    return Message(
        id=message_id,
        parent_id=parent_id,
        role=role,
        text=text,
        status=status,
        created_at=created_at,
        stats=AnswerStats(**json.loads(stats)) if stats else None,
    )


def title_of(text: str) -> str:
    """Return the first line of a text, as a title."""
    lines = text.split("\n") if (text := storable(text).strip()) else [UNTITLED]
    line = lines[0].strip()
    return line if len(line) <= _TITLE_CHARS else line[: _TITLE_CHARS - 1] + "…"
