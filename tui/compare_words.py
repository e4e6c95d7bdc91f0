"""What the Compare screen says in words: pure functions."""

from __future__ import annotations

from dataclasses import replace

from engram_local.chat.conversation import ChatMessage
from engram_local.events import Finished
from engram_local.settings import Settings
from engram_local.units import escape_control, format_count
from engram_local.worker.protocol import Compare, Generate
from tui.engine_words import why_no_engine
from tui.state import EngineState


def cannot_compare(state: EngineState) -> str | None:
    """Return why there is nothing to compare, and what to do; None if there is."""
    if state.model is None or state.phase == "lost":
        return why_no_engine(state)
    name = escape_control(state.model.name)
    if state.model.memory is None:
        return (
            f"{name} has no memory loaded, so both answers would be the same. "
            "F3, then c, chooses a memory."
        )
    if not state.model.can_leave_out_memory:
        return (
            f"The memory of {name} cannot be left out: its table is part of the model, "
            "and llama.cpp gathers the rows inside its own graph. A model without them "
            "would be another model, not this one without a memory."
        )
    return None


def question_of(asked: Generate | None) -> str:
    """Return the newest question of a chat in one line; empty if there is none."""
    messages = () if asked is None else asked.messages
    questions = [one.content for one in messages if one.role == "user"]
    return " ".join(questions[-1].split()) if questions else ""


def comparison(
    question: str, seed: int, asked: Generate | None, settings: Settings
) -> Compare:
    """Return the request to answer a question twice, apart from what was said before.

    With the system prompt and the settings of the chat's newest question, if there is
    one, else with `settings`.
    """
    before = () if asked is None else asked.messages
    system = tuple(one for one in before[:1] if one.role == "system")
    return Compare(
        messages=(*system, ChatMessage(role="user", content=question)),
        settings=replace(settings if asked is None else asked.settings, seed=seed),
    )


def finished_text(finished: Finished) -> str:
    """Return "48 tokens · 41.0 tok/s", and why it ended if not by itself."""
    parts = [f"{format_count(len(finished.token_ids))} tokens"]
    if finished.tokens_per_s is not None:
        parts.append(f"{finished.tokens_per_s:.1f} tok/s")
    if finished.finish_reason != "stop":
        parts.append(finished.finish_reason)
    return " · ".join(parts)
