"""Sessions as files for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from engram_local.chat.export import as_json, as_markdown, export
from engram_local.chat.session import Session
from engram_local.chat.sessions import SessionStore
from engram_local.errors import FileError, UsageError
from tests.chat.test_sessions import begin, refuse


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    with SessionStore(tmp_path / "sessions.db", on_lost=refuse) as store:
        session = begin(store, "What is it?", "An ape.")
        answer = session.conversation.begin_answer()
        session.conversation.extend(answer.id, "```\nA lemur")
        session.conversation.finish(answer.id, "cut")
        session.conversation.system = "Be brief."
        yield session


def test_markdown_is_what_is_shown(session: Session) -> None:
    assert as_markdown(session) == (
        "# What is it?\n\n*smol.gguf with words.gguf*\n\n"
        "## System prompt\n\nBe brief.\n\n"
        "## You\n\nWhat is it?\n\n"
        "## Model\n\n```\nA lemur\n```\n\n*(cut off)*\n"
    )


def test_json_has_all_variants_and_numbers(session: Session) -> None:
    values = json.loads(as_json(session))
    assert values["schema_version"] == 1
    assert [one["text"] for one in values["messages"]] == [
        "What is it?",
        "An ape.",
        "```\nA lemur",
    ]
    assert values["messages"][1]["parent_id"] == values["messages"][0]["id"]
    assert values["messages"][1]["stats"]["tokens_per_s"] == 4.0
    assert values["leaf_id"] == values["messages"][2]["id"]
    assert values["settings"]["seed"] == 3
    assert (values["system"], values["model"]) == ("Be brief.", "/models/smol.gguf")


def test_a_file_is_named_after_the_title(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert export(session, None, "markdown") == Path("what-is-it.md")
    assert Path("what-is-it.md").read_text("utf-8") == as_markdown(session)
    assert export(session, None, "json") == Path("what-is-it.json")


def test_no_file_is_overwritten(session: Session, tmp_path: Path) -> None:
    path = tmp_path / "notes.md"
    path.write_text("mine")
    with pytest.raises(UsageError, match=r"notes\.md exists"):
        export(session, path, "markdown")
    assert path.read_text() == "mine"


@pytest.mark.parametrize("name", ["none/notes.md", "n" * 300, "a file/notes.md"])
def test_what_cannot_be_written_is_an_error(
    session: Session, tmp_path: Path, name: str
) -> None:
    (tmp_path / "a file").touch()
    with pytest.raises(FileError, match="cannot be written"):
        export(session, tmp_path / name, "markdown")
