"""All sessions of a user: find, load, rename, delete."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import platformdirs

from engram_local.chat.conversation import Message, storable
from engram_local.chat.database import Database
from engram_local.chat.records import (
    MESSAGE_COLUMNS,
    SESSION_COLUMNS,
    UNTITLED,
    ChatSettings,
    SessionInfo,
    SessionRecord,
    message_from_row,
    title_of,
)
from engram_local.chat.session import Session
from engram_local.errors import SessionError


def default_path() -> Path:
    """Return where the sessions of this user lie, whether there are any or not."""
    folder = platformdirs.user_data_path("engram-local", appauthor=False)
    return folder / "sessions.db"


class SessionStore:
    """All sessions of this user, in one file. One owner, one thread.

    with SessionStore(default_path(), on_lost=tell) as store:
        session = store.newest() or store.create(model=..., ...)

    Methods raise SessionError: a file that is damaged or of a newer version, a full
    drive. on_lost gets the error that keeps a conversation from being written on.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        on_lost: Callable[[SessionError], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Open the file, or make it, for this user only.

        path: None = in memory, gone at the end.
        """
        self._database = Database(path)
        self._on_lost = on_lost
        self._clock = clock

    def create(
        self,
        *,
        model: str,
        memory: str | None,
        system: str | None,
        settings: ChatSettings,
    ) -> Session:
        """Begin a session; nothing is written before its first message."""
        record = SessionRecord(
            id=uuid.uuid4().hex[:8],
            title=UNTITLED,
            model=model,
            memory=memory,
            system=system,
            settings=settings,
        )
        return Session(self._database, self._on_lost, self._clock, record)

    def list(self, search: str = "") -> tuple[SessionInfo, ...]:
        """Return sessions, newest first: all, or those with `search` in their texts.

        Titles are texts too. Of other letters than A to Z the case counts.
        """
        pattern = f"%{_escape_like(storable(search))}%"
        rows = self._database.rows(_LIST, pattern)
        return tuple(
            SessionInfo(
                id=row[0],
                title=row[1],
                model=row[2],
                n_messages=row[3],
                updated_at=row[4],
            )
            for row in rows
        )

    def newest(self) -> Session | None:
        """Return the session that was used last; None if there is none."""
        rows = self._database.rows(
            "SELECT id FROM sessions ORDER BY updated_at DESC LIMIT 1"
        )
        return self.load(rows[0][0]) if rows else None

    def load(self, session_id: str) -> Session:
        """Return a session as it was left; the first digits of its id suffice.

        An answer that was being written when its program ended is "cut".
        """
        session_id = self._find(session_id)
        self._end_partial_answers(session_id)
        leaf_id, *columns = self._database.rows(
            f"SELECT leaf_id, {SESSION_COLUMNS} FROM sessions WHERE id = ?", session_id
        )[0]
        rows = self._database.rows(
            f"SELECT {MESSAGE_COLUMNS} FROM messages WHERE session_id = ? "
            "ORDER BY number",
            session_id,
        )
        try:
            record = SessionRecord.from_row(columns)
            messages = [message_from_row(row) for row in rows]
        except (TypeError, ValueError) as error:
            raise self._unreadable(session_id) from error
        if not _is_tree(messages, leaf_id):
            raise self._unreadable(session_id)
        return Session(
            self._database,
            self._on_lost,
            self._clock,
            record,
            messages=messages,
            leaf_id=leaf_id,
        )

    def rename(self, session_id: str, title: str) -> None:
        """Give a session another title."""
        with self._database.writing() as connection:
            connection.execute(
                "UPDATE sessions SET title = ? WHERE id = ?",
                (title_of(title), self._find(session_id)),
            )

    def delete(self, session_id: str) -> None:
        """Remove a session with all that was said in it."""
        with self._database.writing() as connection:
            connection.execute(
                "DELETE FROM sessions WHERE id = ?", (self._find(session_id),)
            )

    def close(self) -> None:
        """Close the file. Calling it twice is fine."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _find(self, part: str) -> str:
        """Return the id of the one session whose id begins so."""
        rows = self._database.rows(
            "SELECT id FROM sessions WHERE substr(id, 1, length(?1)) = ?1",
            storable(part),
        )
        if not part or len(rows) != 1:
            what = "several sessions" if part and rows else "no session"
            raise SessionError(f"there is {what} with the id {part!r}")
        return str(rows[0][0])

    def _unreadable(self, session_id: str) -> SessionError:
        return SessionError(
            f"the session {session_id} in {self._database.path} is not as this "
            "program wrote it",
            hint="the other sessions can be used",
        )

    def _end_partial_answers(self, session_id: str) -> None:
        """Join the pieces of answers that were not ended, and end them.

        Another program may still be writing one: it writes all of it at its end.
        """
        with self._database.writing() as connection:
            for statement in _END_PARTIAL_ANSWERS:
                connection.execute(statement, (session_id,))


def _is_tree(messages: Sequence[Message], leaf_id: str | None) -> bool:
    """Return whether every message follows one before it; else paths may not end."""
    known: set[str | None] = {None}
    for message in messages:
        if message.parent_id not in known:
            return False
        known.add(message.id)
    return leaf_id in known


def _escape_like(text: str) -> str:
    for char in ("\\", "%", "_"):
        text = text.replace(char, "\\" + char)
    return text


_LIST = r"""
SELECT id, title, model,
    (SELECT count(*) FROM messages WHERE session_id = sessions.id), updated_at
FROM sessions
WHERE title LIKE ?1 ESCAPE '\' OR EXISTS (
    SELECT 1 FROM messages
    WHERE session_id = sessions.id AND text LIKE ?1 ESCAPE '\'
)
ORDER BY updated_at DESC
"""

_OF_SESSION = "(SELECT id FROM messages WHERE session_id = ?1)"
_END_PARTIAL_ANSWERS = (
    # The inner query keeps the order of the pieces for group_concat.
    f"""UPDATE messages SET status = 'cut', text = text || (
        SELECT group_concat(text, '') FROM (
            SELECT text FROM pieces WHERE message_id = messages.id ORDER BY number
        )
    ) WHERE id IN (SELECT message_id FROM pieces WHERE message_id IN {_OF_SESSION})""",
    f"DELETE FROM pieces WHERE message_id IN {_OF_SESSION}",
    "UPDATE messages SET status = 'cut' WHERE session_id = ?1 AND status = 'partial'",
)
"""Of the session ?1."""
