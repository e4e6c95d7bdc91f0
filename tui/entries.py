"""A conversation -> messages as they are shown."""

from __future__ import annotations

from engram_local.chat.answer_line import answer_line
from engram_local.chat.conversation import Message
from tui.message_lines import Entry
from tui.talk import Talk

_WAITS = "waits for its turn; Esc takes it back"


def entries_of(talk: Talk, model_name: str) -> list[Entry]:
    """Return all messages that are shown, and the questions that wait."""
    said = [_entry(talk, one, model_name) for one in talk.session.conversation.path()]
    return said + [
        Entry(id=f"waiting {number}", role="user", head="You", text=text, foot=_WAITS)
        for number, text in enumerate(talk.waiting)
    ]


def _entry(talk: Talk, message: Message, model_name: str) -> Entry:
    name = "You" if message.role == "user" else _speaker(message, model_name)
    return Entry(
        id=message.id,
        role=message.role,
        head=name + _variant(talk, message),
        text=message.text,
        foot="" if message.role == "user" else _foot(talk, message),
        is_whole=message.id != talk.answer_id,
    )


def _speaker(message: Message, model_name: str) -> str:
    if message.stats is None or message.stats.model is None:
        return model_name
    return message.stats.model


def _variant(talk: Talk, message: Message) -> str:
    """Return `  ◀ 2/3 ▶` if there are others in a message's place."""
    ids = [one.id for one in talk.session.conversation.variants(message.id)]
    if len(ids) == 1:
        return ""
    return f"  ◀ {ids.index(message.id) + 1}/{len(ids)} ▶"


def _foot(talk: Talk, message: Message) -> str:
    if message.id == talk.answer_id:
        return _progress(talk) if not message.text else ""
    problem = talk.problems.get(message.id)
    if problem is not None:
        return "cut off: " + "; ".join(filter(None, (problem.message, problem.hint)))
    if message.stats is not None:
        return answer_line(message.stats)
    return "cut off" if message.status == "cut" else ""


def _progress(talk: Talk) -> str:
    progress = talk.progress
    if progress is None or progress.n_done == progress.n_total:
        return "…"
    percent = 100 * progress.n_done // max(1, progress.n_total)
    return f"reading the prompt: {progress.n_total} tokens, {percent} %"
