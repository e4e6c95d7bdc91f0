"""The tree of messages: what is shown, and that nothing gets lost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engram_local.chat.conversation import AnswerStats, ChatMessage, Conversation
from engram_local.errors import UsageError
from engram_local.events import Finished, MemoryStats, Timing

TIMING = Timing(total_ms=4.0, p50_ms=0.5, p95_ms=1.0, max_ms=2.0)
MEMORY = MemoryStats(
    kind="attached",
    tier="mmap",
    rows_read=48,
    bytes_read=4096,
    stall=TIMING,
    n_submitted=6,
    n_ready=5,
    n_late=1,
    gate_mean={},
)
FINISHED = Finished(
    text="one two",
    token_ids=(1, 2),
    finish_reason="stop",
    n_prompt=5,
    n_cached=2,
    prompt_s=0.5,
    first_token_s=0.6,
    token_ms=TIMING,
    decode_s=0.25,
    memory=MEMORY,
)
STATS = AnswerStats.from_finished(FINISHED, model="smol", memory="words.gguf")


def answer(conversation: Conversation, text: str) -> str:
    """Answer the newest question; return the answer's id."""
    message = conversation.begin_answer()
    for word in text.split():
        conversation.extend(message.id, word + " ")
    conversation.finish(message.id, "complete", STATS)
    return message.id


def texts(conversation: Conversation) -> list[str]:
    return [message.text.strip() for message in conversation.path()]


def said(conversation: Conversation) -> list[str]:
    return [message.content.strip() for message in conversation.as_messages()]


def test_questions_and_answers_follow_each_other() -> None:
    conversation = Conversation(clock=lambda: 7.0)
    question = conversation.ask("Hi")
    answer_id = answer(conversation, "Hello you")
    conversation.ask("And?")
    assert texts(conversation) == ["Hi", "Hello you", "And?"]
    assert conversation.as_messages()[1] == ChatMessage(
        role="assistant", content="Hello you "
    )
    first = conversation.message(answer_id)
    assert (first.parent_id, first.status, first.created_at) == (
        question.id,
        "complete",
        7.0,
    )


def test_the_system_prompt_comes_first() -> None:
    conversation = Conversation("Be brief.")
    conversation.ask("Hi")
    assert conversation.as_messages()[0] == ChatMessage(
        role="system", content="Be brief."
    )
    conversation.system = None
    assert said(conversation) == ["Hi"]


def test_another_answer_is_a_variant_and_both_stay() -> None:
    conversation = Conversation()
    conversation.ask("Hi")
    first = answer(conversation, "one")
    second = answer(conversation, "two")
    assert [one.id for one in conversation.variants(second)] == [first, second]
    assert texts(conversation) == ["Hi", "two"]
    conversation.select(first)
    assert texts(conversation) == ["Hi", "one"]


def test_regenerating_takes_the_newest_question() -> None:
    conversation = Conversation()
    conversation.ask("Hi")
    answer(conversation, "one")
    conversation.ask("And?")
    answer(conversation, "two")
    answer(conversation, "three")
    assert texts(conversation) == ["Hi", "one", "And?", "three"]


def test_selecting_shows_what_came_after_it() -> None:
    conversation = Conversation()
    conversation.ask("Hi")
    first = answer(conversation, "one")
    conversation.ask("And?")
    answer(conversation, "more")
    answer_again = conversation.variants(first)[0]
    conversation.edit(conversation.path()[0].id, "Hello")
    answer(conversation, "other")
    assert texts(conversation) == ["Hello", "other"]
    conversation.select(answer_again.id)
    assert texts(conversation) == ["Hi", "one", "And?", "more"]


def test_an_edited_question_is_a_variant_of_it() -> None:
    conversation = Conversation()
    conversation.ask("Hi")
    answer(conversation, "one")
    question = conversation.ask("And?")
    edited = conversation.edit(question.id, "Why?")
    assert texts(conversation) == ["Hi", "one", "Why?"]
    assert len(conversation.variants(edited.id)) == 2
    with pytest.raises(UsageError, match="only questions"):
        conversation.edit(conversation.path()[1].id, "no")


def test_undo_goes_before_the_newest_question() -> None:
    conversation = Conversation()
    conversation.ask("Hi")
    answer(conversation, "one")
    question = conversation.ask("And?")
    answer(conversation, "two")
    assert conversation.undo() == question
    assert texts(conversation) == ["Hi", "one"]
    assert conversation.undo() is not None
    assert conversation.undo() is None
    assert texts(conversation) == []
    assert len(conversation.messages()) == 4


def test_clear_shows_nothing_and_keeps_all() -> None:
    conversation = Conversation()
    first = conversation.ask("Hi")
    conversation.clear()
    again = conversation.ask("Anew")
    assert texts(conversation) == ["Anew"]
    assert [one.id for one in conversation.variants(again.id)] == [first.id, again.id]


def test_an_answer_can_be_gone_on_with() -> None:
    conversation = Conversation()
    conversation.ask("Hi")
    answer_id = answer(conversation, "one")
    opened = conversation.continue_answer()
    assert (opened.id, opened.status) == (answer_id, "partial")
    conversation.extend(opened.id, "two")
    done = conversation.finish(opened.id, "cut", STATS)
    assert (done.text, done.status) == ("one two", "cut")
    assert done.stats is not None
    assert (done.stats.n_tokens, done.stats.rows_read) == (4, 96)


def test_without_an_answer_there_is_nothing_to_go_on_with() -> None:
    conversation = Conversation()
    with pytest.raises(UsageError, match="no question"):
        conversation.begin_answer()
    with pytest.raises(UsageError, match="no answer"):
        conversation.continue_answer()
    conversation.ask("Hi")
    with pytest.raises(UsageError, match="no answer"):
        conversation.continue_answer()
    conversation.begin_answer()
    with pytest.raises(UsageError, match="no answer"):
        conversation.continue_answer()


def test_a_question_without_an_answer_is_not_shown_to_the_model() -> None:
    conversation = Conversation()
    conversation.ask("lost")
    empty = conversation.begin_answer()
    conversation.finish(empty.id, "cut")
    conversation.ask("lost too")
    conversation.ask("Hi")
    assert texts(conversation) == ["lost", "", "lost too", "Hi"]
    assert said(conversation) == ["Hi"]


def test_a_conversation_goes_on_from_its_messages() -> None:
    before = Conversation()
    before.ask("Hi")
    first = answer(before, "one")
    answer(before, "two")
    after = Conversation(messages=before.messages(), leaf_id=before.leaf_id)
    assert after.path() == before.path()
    after.select(first)
    assert texts(after) == ["Hi", "one"]


def test_stats_tell_what_the_line_below_an_answer_shows() -> None:
    assert (STATS.n_tokens, STATS.tokens_per_s, STATS.first_token_s) == (2, 4.0, 0.6)
    assert (STATS.n_prompt, STATS.n_cached, STATS.prompt_tokens_per_s) == (5, 2, 6.0)
    assert (STATS.rows_read, STATS.stall_p50_ms) == (48, 0.5)
    assert (STATS.tier, STATS.memory, STATS.model) == ("mmap", "words.gguf", "smol")


def test_stats_without_memory_name_none() -> None:
    plain = AnswerStats.from_finished(
        replace(FINISHED, memory=None), model="smol", memory="words.gguf"
    )
    assert (plain.rows_read, plain.stall_p50_ms) == (0, None)
    assert (plain.tier, plain.memory) == (None, None)
