"""Lines as they are typed."""

from __future__ import annotations

import pytest

from engram_local.cli import typed

readline = pytest.importorskip("readline")


def test_a_line_is_offered_for_editing(monkeypatch: pytest.MonkeyPatch) -> None:
    hooks = []
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setattr(readline, "set_startup_hook", hooks.append)
    monkeypatch.setattr(readline, "insert_text", lambda text: hooks.append(text))

    def read_line(_prompt: str) -> str:
        hooks[0]()
        return "Why?"

    monkeypatch.setattr(typed, "_read_line", read_line)
    assert typed.edited("What?") == "Why?"
    assert hooks[1:] == ["What?", None]


def test_several_lines_are_not_edited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert typed.edited("two\nlines") is None


def test_an_edit_that_is_given_up_leaves_the_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)

    def read_line(_prompt: str) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(typed, "_read_line", read_line)
    assert typed.edited("What?") is None


def test_bytes_that_are_no_text_become_question_marks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("builtins.input", lambda _prompt: "a \udc80")
    assert typed.next_input() == "a ?"
