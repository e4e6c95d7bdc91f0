"""A conversation with the engine: what is asked, what waits, what is being answered.

Knows no widgets. The text of an answer is kept whatever ends it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Literal

from engram_local.chat.conversation import AnswerStats, Message, status_after
from engram_local.chat.session import Session
from engram_local.errors import EngramError, UsageError
from engram_local.events import Finished, PromptProgress, TextChunk
from engram_local.settings import Settings
from engram_local.worker.protocol import Generate
from tui.engine_link import EngineLink


class Talk:
    """One session at a time. For the app's asyncio loop only.

    `on_change` is called after every change, for each piece of text too.
    """

    def __init__(
        self,
        link: EngineLink,
        session: Session,
        settings: Settings,
        on_change: Callable[[], None],
    ) -> None:
        """settings: those that no session has, of the command line."""
        self.session = session
        self.waiting: deque[str] = deque()
        """Questions that are asked when the engine is ready for them."""

        self.answer_id: str | None = None
        """The answer that is being written."""

        self.progress: PromptProgress | None = None
        """How much of the prompt is read; None before, and once text comes."""

        self.problems: dict[str, EngramError] = {}
        """Why answers ended before their time, by their ids; of this run only."""

        self._link = link
        self._settings = settings
        self._on_change = on_change

    @property
    def is_answering(self) -> bool:
        """Whether an answer is being written, or waited for."""
        return self.answer_id is not None

    @property
    def can_ask(self) -> bool:
        """Whether an answer can be begun now."""
        return not self.is_answering and self._link.state.phase == "ready"

    def put(self, text: str) -> None:
        """Let a question wait for its turn; `next_answer` asks it."""
        self.waiting.append(text)
        self._on_change()

    def take_back(self) -> str | None:
        """Return the question that was put last, if it still waits."""
        text = self.waiting.pop() if self.waiting else None
        self._on_change()
        return text

    def next_answer(self) -> Message | None:
        """Begin the answer to the next question that waits, if it can be begun."""
        if not self.waiting or not self.can_ask:
            return None
        self.session.conversation.ask(self.waiting.popleft())
        return self._begin(self.session.conversation.begin_answer())

    def regenerate(self) -> Message:
        """Begin another answer to the newest question."""
        self._require_idle()
        return self._begin(self.session.conversation.begin_answer())

    def continue_answer(self) -> Message:
        """Begin to go on with the newest answer."""
        self._require_idle()
        return self._begin(self.session.conversation.continue_answer())

    def edit(self, message_id: str, text: str) -> Message:
        """Begin the answer to another question in the place of one."""
        self._require_idle()
        self.session.conversation.edit(message_id, text)
        return self._begin(self.session.conversation.begin_answer())

    def undo(self) -> Message | None:
        """Go back before the newest question and return it."""
        self._require_silence()
        question = self.session.conversation.undo()
        self._show_other()
        return question

    def clear(self) -> None:
        """Begin anew in this session."""
        self._require_silence()
        self.session.conversation.clear()
        self._show_other()

    def select_variant(self, message: Message, step: int) -> bool:
        """Show the variant `step` after one; tell whether there is one."""
        self._require_silence()
        variants = self.session.conversation.variants(message.id)
        number = [one.id for one in variants].index(message.id) + step
        if not 0 <= number < len(variants):
            return False
        self.session.conversation.select(variants[number].id)
        self._show_other()
        return True

    def use_session(self, session: Session) -> None:
        """Go on with another session. Raises UsageError while an answer comes."""
        self._require_silence()
        self.session = session
        self.problems.clear()
        self._show_other()

    def stop(self) -> None:
        """End the answer; its text stays."""
        if self.is_answering:
            self._link.cancel()

    async def write(self, answer: Message) -> None:
        """Let the engine write an answer that was begun, to its end."""
        status: Literal["complete", "cut"] = "cut"
        stats = None
        try:
            async for event in self._link.ask(self._request()):
                match event:
                    case PromptProgress():
                        self.progress = event
                    case TextChunk():
                        self.progress = None
                        self.session.conversation.extend(answer.id, event.text)
                    case Finished():
                        stats = self._stats(event)
                        status = status_after(event.finish_reason)
                self._on_change()
        except EngramError as error:
            self.problems[answer.id] = error
        finally:
            self.session.conversation.finish(answer.id, status, stats)
            self.answer_id = self.progress = None
            self._on_change()

    def _show_other(self) -> None:
        self._link.forget_chat()
        self._on_change()

    def _begin(self, answer: Message) -> Message:
        self.answer_id = answer.id
        self.problems.pop(answer.id, None)
        self._on_change()
        return answer

    def _request(self) -> Generate:
        return Generate(
            messages=self.session.conversation.as_messages(),
            settings=self.session.settings.over(self._settings),
        )

    def _stats(self, finished: Finished) -> AnswerStats:
        model = self._link.state.model
        memory = None if model is None else model.memory
        return AnswerStats.from_finished(
            finished,
            model=None if model is None else model.name,
            memory=None if memory is None else memory.name,
        )

    def _require_idle(self) -> None:
        self._require_silence()
        if not self.can_ask:
            raise UsageError("the engine is not ready yet")

    def _require_silence(self) -> None:
        if self.is_answering:
            raise UsageError(
                "an answer is being written", hint="Esc stops it and keeps its text"
            )
