"""A session as a text for people (Markdown) and for programs (JSON)."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from engram_local.chat.code_blocks import closed
from engram_local.chat.session import Session
from engram_local.errors import FileError, UsageError
from engram_local.scratch_files import replaced_at_end

Format = Literal["markdown", "json"]
SCHEMA_VERSION = 1

_SUFFIXES: dict[Format, str] = {"markdown": ".md", "json": ".json"}
_SPEAKERS = {"user": "You", "assistant": "Model"}


def export(session: Session, path: Path | None, kind: Format) -> Path:
    """Write a session to a new file and return its path.

    path: None = named after the title, in the working directory. Raises UsageError if
    the file exists, FileError if it cannot be written.
    """
    path = path or Path(_file_name(session.title) + _SUFFIXES[kind])
    text = as_markdown(session) if kind == "markdown" else as_json(session)
    try:
        if path.exists():
            raise UsageError(f"{path} exists", hint="give another name: /export NAME")
        with replaced_at_end(path) as written:
            written.write_text(text, "utf-8", "replace")  # names of files
    except OSError as error:
        raise FileError(f"{path} cannot be written: {error.strerror}") from error
    return path


def as_markdown(session: Session) -> str:
    """Return what is shown of a session, from the first message to the newest."""
    parts = [f"# {session.title}", _held_with(session)]
    if session.conversation.system is not None:
        parts += ["## System prompt", closed(session.conversation.system)]
    for message in session.conversation.path():
        parts += [f"## {_SPEAKERS[message.role]}", closed(message.text)]
        if message.status != "complete":
            parts.append("*(cut off)*")
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def as_json(session: Session) -> str:
    """Return all of a session, with all variants, as a JSON object."""
    values = {
        "schema_version": SCHEMA_VERSION,
        "id": session.id,
        "title": session.title,
        "model": session.model,
        "memory": session.memory,
        "system": session.conversation.system,
        "settings": asdict(session.settings),
        "leaf_id": session.conversation.leaf_id,
        "messages": [asdict(message) for message in session.conversation.messages()],
    }
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def _held_with(session: Session) -> str:
    memory = session.memory
    names = [Path(session.model).name, *([Path(memory).name] if memory else [])]
    return f"*{' with '.join(names)}*"


def _file_name(title: str) -> str:
    words = re.findall(r"\w+", title.lower())
    return "-".join(words)[:60] or "chat"
