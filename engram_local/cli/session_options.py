"""Flags that choose a session, for `run`'s chat and the chat app."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engram_local.chat.commands import SAMPLING
from engram_local.chat.session import Session
from engram_local.chat.sessions import SessionStore, default_path
from engram_local.cli import options
from engram_local.errors import FileError, SessionError


def add_session_arguments(parser: argparse.ArgumentParser) -> None:
    """Add which session to go on with, or none to keep."""
    group = parser.add_argument_group("chat").add_mutually_exclusive_group()
    group.add_argument(
        "-C",
        "--continue",
        dest="resume",
        action="store_true",
        help="go on with the newest session",
    )
    group.add_argument("--session", metavar="ID", help="go on with this session")
    group.add_argument(
        "--no-save", action="store_true", help="keep nothing of what is said"
    )


def open_store(
    args: argparse.Namespace, on_lost: Callable[[SessionError], None]
) -> SessionStore:
    """Open the user's sessions; for --no-save, and if they cannot be, others.

    Raises SessionError only if one of them is to be gone on with.
    """
    if not args.no_save:
        try:
            return SessionStore(default_path(), on_lost=on_lost)
        except SessionError as error:
            if args.resume or args.session is not None:
                raise
            on_lost(error)
    return SessionStore(None, on_lost=on_lost)


def asked_session(args: argparse.Namespace, store: SessionStore) -> Session | None:
    """Return the session to go on with; None = a new one."""
    if args.session is not None:
        return store.load(args.session)
    session = store.newest() if args.resume else None
    if args.resume and session is None:
        raise SessionError("there is no session yet", hint="leave out -C")
    return session


def use_model_of(args: argparse.Namespace, session: Session) -> None:
    """Load what a session was held with, unless flags name a model or memory.

    A memory that is gone is looked for as for a new session. Raises FileError if the
    model is.
    """
    if options.model_of(args) is not None:
        return
    if not Path(session.model).exists():
        raise FileError(
            f"the model of this session is gone: {session.model}",
            hint="name another one with -m",
        )
    args.model = Path(session.model)
    memory = session.memory and Path(session.memory)
    if memory and memory.exists() and args.memory is None and not args.no_memory:
        args.memory = memory


def sampling_flags(args: argparse.Namespace) -> dict[str, Any]:
    """Return the sampling settings that flags give: stronger than a session's."""
    given = {name: getattr(args, name) for name in SAMPLING}
    return {name: value for name, value in given.items() if value is not None}
