"""The line chat with the default model: continue, regenerate, resume."""

from __future__ import annotations

import pytest

from engram_local.chat.sessions import SessionStore, default_path
from engram_local.cli import main
from tests.cli.fakes import terminal

pytestmark = pytest.mark.model

QUESTION = "What is a dodecahedron?"
FLAGS = ("--temp", "0", "--no-memory", "-t", "1", "-c", "512")


def chat(monkeypatch: pytest.MonkeyPatch, *lines: str, flags: tuple[str, ...]) -> None:
    terminal(monkeypatch, *lines)
    assert main(["run", *FLAGS, *flags]) == 0


def answers() -> list[str]:
    """Return all answers of the newest session, variants included."""
    with SessionStore(default_path(), on_lost=pytest.fail) as store:
        session = store.newest()
        assert session is not None
        messages = session.conversation.messages()
        assert len(session.conversation.path()) == 2
    return [message.text for message in messages if message.role == "assistant"]


def test_an_answer_is_gone_on_with_as_if_it_had_not_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chat(monkeypatch, QUESTION, "/regen", flags=("-n", "24"))
    whole, again = answers()
    assert whole == again and len(whole) > 40
    chat(monkeypatch, QUESTION, "/continue", flags=("-n", "12"))
    parts = answers()
    chat(monkeypatch, "/regen", "/continue", flags=("-C", "-n", "12"))
    assert parts == [whole]
    assert answers() == [whole, whole]
