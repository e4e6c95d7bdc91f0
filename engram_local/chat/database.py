"""The file of all sessions: an SQLite database, opened, migrated, its errors told.

WAL with synchronous=NORMAL: a process may be killed at any moment, and only a power cut
can take back what was written last; neither damages the file. Several programs may use
it at once.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engram_local.errors import SessionError

BUSY_S = 5.0
"""How long to wait for another program that writes; a write takes a millisecond."""

MIGRATIONS = (
    (
        """CREATE TABLE sessions (
            id TEXT PRIMARY KEY,
            title TEXT NOT NULL,
            model TEXT NOT NULL,
            memory TEXT,
            system TEXT,
            settings TEXT NOT NULL,
            leaf_id TEXT,
            updated_at REAL NOT NULL DEFAULT 0
        ) WITHOUT ROWID""",
        """CREATE TABLE messages (
            number INTEGER PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            session_id TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE,
            parent_id TEXT,
            role TEXT NOT NULL,
            text TEXT NOT NULL,
            status TEXT NOT NULL,
            created_at REAL NOT NULL,
            stats TEXT
        )""",
        "CREATE INDEX messages_of_session ON messages (session_id)",
        "CREATE INDEX sessions_by_time ON sessions (updated_at)",
        # What was added to an answer while it is written: rewriting the whole answer
        # each time would write n^2 bytes (4,000 tokens one by one: 95 MB, so 17).
        # No index: there are a few hundred, of answers that are being written, and it
        # would double what is written.
        """CREATE TABLE pieces (
            number INTEGER PRIMARY KEY,
            message_id TEXT NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
            text TEXT NOT NULL
        )""",
    ),
)
"""Statements that lead from each version of the file to the next, from none to 1."""


class Database:
    """A connection to the file. One owner, one thread.

    Every method raises SessionError with what happened and what to do.
    """

    def __init__(self, path: Path | None) -> None:
        """Open the file; make it, for this user only, if there is none.

        path: None = in memory, gone at the end.
        """
        self.path = path
        with self.errors():
            if path is not None:
                _make_file(path)
            # Transactions are begun by us, and only by us.
            self._connection = sqlite3.connect(
                path or ":memory:", timeout=BUSY_S, isolation_level=None
            )
        try:
            with self.errors():
                self._set_up()
        except SessionError:
            self._connection.close()
            raise

    def rows(self, statement: str, *values: object) -> list[Any]:
        """Return all rows of a query."""
        with self.errors():
            return self._connection.execute(statement, values).fetchall()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Give the connection for a transaction: all of it is written, or nothing."""
        with self.errors():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    def close(self) -> None:
        """Close the file. Calling it twice is fine."""
        with self.errors():
            self._connection.close()

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn errors of SQLite and of the system into a SessionError."""
        try:
            yield
        except sqlite3.Error as error:
            raise _explained(self.path, error) from error
        except OSError as error:
            raise SessionError(
                f"{self.path} cannot be opened or made: {error.strerror}"
            ) from error

    def _set_up(self) -> None:
        self._connection.execute("PRAGMA foreign_keys = ON")
        self._check_version()
        _use_wal(self._connection)
        self._connection.execute("PRAGMA synchronous = NORMAL")
        if self._version() < len(MIGRATIONS):
            self._migrate()

    def _migrate(self) -> None:
        with self.writing() as connection:
            # Another program may have been faster: ask again, inside.
            for statements in MIGRATIONS[self._version() :]:
                for statement in statements:
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

    def _check_version(self) -> None:
        version = self._version()
        if version > len(MIGRATIONS):
            raise SessionError(
                f"{self.path} is of version {version}, this program knows versions "
                f"up to {len(MIGRATIONS)}",
                hint="use the newer engram-local that wrote it",
            )

    def _version(self) -> int:
        return int(self._connection.execute("PRAGMA user_version").fetchone()[0])


def _make_file(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # SQLite would make it readable for all; its other files take over the mode.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch the file to WAL once; SQLite does not wait for others here."""
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


_SENTENCES = {
    "SQLITE_FULL": ("{path} cannot grow: the drive is full", "make room on it"),
    "SQLITE_BUSY": ("another program holds {path}", "end it, or try again"),
    "SQLITE_READONLY": ("{path} cannot be written", "look at its permissions"),
    "SQLITE_CANTOPEN": ("{path} cannot be opened", "look at its permissions"),
    "SQLITE_CONSTRAINT": (
        "this session is no longer in {path}",
        "another program deleted it; begin a new one",
    ),
    "SQLITE_NOTADB": ("{path} is damaged, or no file of sessions", "{move}"),
    "SQLITE_CORRUPT": ("{path} is damaged", "{move}"),
}
_MOVE = (
    "move it away and a new one is made; `sqlite3 FILE .recover` may get back "
    "what is in it"
)


def _explained(path: Path | None, error: sqlite3.Error) -> SessionError:
    """Return an error of SQLite in our words."""
    name = getattr(error, "sqlite_errorname", "")
    for known, (message, hint) in _SENTENCES.items():
        if name.startswith(known):
            return SessionError(message.format(path=path), hint=hint.format(move=_MOVE))
    return SessionError(f"{path} cannot be used: {error}")
