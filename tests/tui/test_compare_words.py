"""What the Compare screen says in words."""

from __future__ import annotations

from dataclasses import replace

from engram_local.chat.conversation import ChatMessage, Role
from engram_local.settings import Settings
from engram_local.worker.protocol import Generate
from tests.tui.fakes import MODEL, finished
from tui.compare_words import cannot_compare, comparison, finished_text, question_of
from tui.engine_words import why_no_engine
from tui.state import EngineState


def test_a_reason_is_given_where_nothing_can_be_compared() -> None:
    assert cannot_compare(EngineState()) == why_no_engine(EngineState())
    lost = EngineState(phase="lost", model=MODEL)
    assert "F9" in str(cannot_compare(lost))
    bare = replace(MODEL, memory=None)
    assert "both answers would be the same" in str(
        cannot_compare(EngineState(phase="ready", model=bare))
    )
    native = replace(MODEL, can_leave_out_memory=False)
    assert "cannot be left out" in str(
        cannot_compare(EngineState(phase="ready", model=native))
    )
    assert cannot_compare(EngineState(phase="ready", model=MODEL)) is None


def generate(*messages: tuple[Role, str]) -> Generate:
    return Generate(
        messages=tuple(ChatMessage(role=role, content=text) for role, text in messages),
        settings=Settings(temperature=0.3, seed=9),
    )


def test_the_newest_question_of_the_chat_is_one_line() -> None:
    asked = generate(("user", "one"), ("assistant", "yes"), ("user", "two\n three"))
    assert question_of(asked) == "two three"
    assert question_of(generate(("system", "be"))) == ""
    assert question_of(None) == ""


def test_a_comparison_has_the_chats_settings_and_system_prompt() -> None:
    asked = generate(("system", "be"), ("user", "one"), ("assistant", "yes"))
    request = comparison("why", 5, asked, Settings())
    assert [one.content for one in request.messages] == ["be", "why"]
    assert request.settings == replace(asked.settings, seed=5)
    request = comparison("why", 5, generate(("user", "one")), Settings())
    assert [one.content for one in request.messages] == ["why"]


def test_before_a_chat_a_comparison_has_the_apps_settings() -> None:
    request = comparison("why", 5, None, Settings(temperature=0.1))
    assert request.messages == (ChatMessage(role="user", content="why"),)
    assert request.settings == Settings(temperature=0.1, seed=5)


def test_an_answers_end_in_words() -> None:
    answer = finished("one two three")
    assert finished_text(answer) == "4 tokens · 41.0 tok/s"
    cut = replace(answer, finish_reason="length", token_ids=())
    assert finished_text(cut) == "0 tokens · length"
