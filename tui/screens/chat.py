"""The chat screen: draws the conversation, and turns keys into what is done with it."""

from __future__ import annotations

from dataclasses import replace

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical

from engram_local.chat.code_blocks import code_blocks
from engram_local.chat.commands import is_command, parse
from engram_local.chat.conversation import Message
from engram_local.chat.session import Session
from engram_local.errors import EngramError, UsageError
from tui.entries import entries_of
from tui.keys import bind
from tui.perform import perform
from tui.screens.base import AppScreen
from tui.screens.sessions import SessionsScreen
from tui.state import EngineState
from tui.talk import Talk
from tui.widgets.banner import Banner
from tui.widgets.command_hints import CommandHints
from tui.widgets.prompt import OWN_KEYS, Prompt
from tui.widgets.sidebar import Sidebar
from tui.widgets.transcript import Transcript

_FRAME_S = 1 / 40
"""Between two drawings of an answer that comes, at least. By an interval that pauses: a
timer for once is never heard of if the loop is late by more than its time."""

_NARROW = 100
"""Columns below which there is no room for the sidebar."""


class ChatScreen(AppScreen):
    """Messages, a prompt, and the sidebar."""

    BINDINGS = [  # noqa: RUF012 - Textual's type
        bind("chat.stop", "stop"),
        bind("chat.regenerate", "line('/regen')"),
        bind("chat.edit", "edit"),
        bind("chat.copy", "copy"),
        bind("chat.code", "copy_code"),
        bind("chat.new", "line('/new')"),
        bind("chat.undo", "undo"),
        bind("chat.continue", "line('/continue')"),
        bind("chat.settings", "line('/set')"),
        bind("chat.sidebar", "sidebar"),
        bind("chat.select_up", "select(-1)"),
        bind("chat.select_down", "select(1)"),
        bind("chat.variant_before", "variant(-1)"),
        bind("chat.variant_after", "variant(1)"),
        bind("chat.page_up", "page_up"),
        bind("chat.page_down", "page_down"),
        bind("chat.end", "end"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._talk: Talk | None = None
        self._editing_id: str | None = None
        self._wants_sidebar = True
        self._copied_code = ("", 0)
        """The answer and the number of the code block that was copied last."""

    @property
    def talk(self) -> Talk:
        """The conversation that is shown."""
        if self._talk is None:
            engram = self.engram
            self._talk = Talk(
                self.link, engram.first_session, engram.options.settings, self._changed
            )
        return self._talk

    @property
    def prompt(self) -> Prompt:
        """Where one types."""
        return self.query_one(Prompt)

    @property
    def transcript(self) -> Transcript:
        """The messages."""
        return self.query_one(Transcript)

    def compose_body(self) -> ComposeResult:
        with Horizontal(id="body"):
            with Vertical(id="chat"):
                yield Transcript()
                yield Banner(self.link, self.engram.shown_keys)
                yield CommandHints()
                yield Prompt(self._last_question, self._own_keys())
            yield Sidebar(self.link)

    def _own_keys(self) -> dict[str, str]:
        return {
            key: action
            for key_id, action in OWN_KEYS.items()
            for key in self.engram.keys_of(key_id)
        }

    def on_mount(self) -> None:
        self._frames = self.set_interval(_FRAME_S, self._draw, pause=True)
        self.link.changed.subscribe(self, self._engine_changed)
        self.prompt.focus()
        self._draw()

    def on_resize(self) -> None:
        self._show_sidebar()

    # --- what is typed ------------------------------------------------------------

    @on(Prompt.Sent)
    def _sent(self, message: Prompt.Sent) -> None:
        if is_command(message.text):
            self.action_line(message.text)
        elif self._editing_id is not None:
            self._ask_instead(self._editing_id, message.text)
        else:
            self.ask(message.text)

    @on(Prompt.Changed)
    def _typed(self) -> None:
        self.query_one(CommandHints).show(self.prompt.text)

    def ask(self, text: str) -> None:
        """Ask a question as soon as the engine is ready for it."""
        self.talk.put(text)
        self.transcript.select(None)
        self._answer_next()

    def action_line(self, line: str) -> None:
        """Do what a line with a slash says; say what is wrong with it."""
        self.run_worker(self._do(line), group="commands")

    async def _do(self, line: str) -> None:
        try:
            await perform(parse(line), self)
        except EngramError as error:
            self.tell_error(error)

    def start(self, answer: Message) -> None:
        """Let the engine write an answer that was begun."""
        self.transcript.select(None)
        self.run_worker(self._write(answer), group="answers")

    async def _write(self, answer: Message) -> None:
        await self.talk.write(answer)
        self._answer_next()

    def _answer_next(self) -> None:
        answer = self.talk.next_answer()
        if answer is not None:
            self.start(answer)

    def _ask_instead(self, message_id: str, text: str) -> None:
        try:
            answer = self.talk.edit(message_id, text)
        except UsageError as error:
            self.prompt.put(text)
            self.tell_error(error)
            return
        self._set_editing(None)
        self.start(answer)

    # --- keys ---------------------------------------------------------------------

    def action_stop(self) -> None:
        """Leave what one is in: an edit, a question that waits, an answer."""
        if self._editing_id is not None:
            self._set_editing(None)
            self.prompt.text = ""
        elif self.talk.waiting and not self.prompt.text:
            self.prompt.put(self.talk.take_back() or "")
        elif self.talk.is_answering:
            self.talk.stop()
        else:
            self.transcript.select(None)

    def action_edit(self) -> None:
        """Bring the selected question, else the newest one, into the prompt.

        What is typed there is not given up for it: as in a shell, to the line's end.
        """
        if self.prompt.text:
            self.prompt.action_cursor_line_end()
            return
        question = self._selected()
        if question is not None and question.role == "user":
            self.edit(question)
        else:
            self.action_line("/edit")

    def edit(self, question: Message) -> None:
        """Bring a question into the prompt, to ask something else in its place."""
        self._set_editing(question.id)
        self.prompt.put(question.text)

    def action_undo(self) -> None:
        """Take back the newest question; while something is typed, delete it instead,
        as in a shell: from the line's start.
        """
        if self.prompt.text:
            self.prompt.action_delete_to_start_of_line()
        else:
            self.action_line("/undo")

    def action_copy(self) -> None:
        """Copy the selected message, else the newest answer."""
        selected = self._selected()
        if selected is None:
            self.action_line("/copy")
        else:
            self.engram.copy(selected.text, "the message")

    def action_copy_code(self) -> None:
        """Copy the answer's first code block; the next time the next, then anew."""
        answer = self.talk.session.conversation.last_answer()
        number = 1
        if answer is not None:
            answer_id, copied = self._copied_code
            n_blocks = max(1, len(code_blocks(answer.text)))
            number = copied % n_blocks + 1 if answer_id == answer.id else 1
            self._copied_code = answer.id, number
        self.action_line(f"/code {number}")

    def action_sidebar(self) -> None:
        """Show or hide the sidebar."""
        self._wants_sidebar = not self.query_one(Sidebar).display
        self._show_sidebar(is_asked=True)

    def action_select(self, step: int) -> None:
        """Select another message."""
        self.transcript.select_next(step)

    def action_variant(self, step: int) -> None:
        """Show another variant of the selected message, else of the newest answer."""
        message = self._selected() or self.talk.session.conversation.last_answer()
        if message is not None:
            try:
                self.talk.select_variant(message, step)
            except UsageError as error:
                self.tell_error(error)

    def action_page_up(self) -> None:
        self.transcript.action_page_up()

    def action_page_down(self) -> None:
        self.transcript.action_page_down()

    def action_end(self) -> None:
        """Go to the newest text and follow it."""
        self.transcript.follow()

    def action_sessions(self, search: str = "") -> None:
        """List the sessions."""
        screen = SessionsScreen(self.engram.store, self.talk.session, search)
        self.app.push_screen(screen, self._session_chosen)

    def _selected(self) -> Message | None:
        """Return the message that is selected; questions that wait are none yet."""
        entry = self.transcript.selected
        path = self.talk.session.conversation.path()
        return next((one for one in path if entry and one.id == entry.id), None)

    # --- sessions -----------------------------------------------------------------

    def use_session(self, session: Session) -> None:
        """Show another session and go on with it."""
        self.talk.use_session(session)
        self._set_editing(None)
        self._adopt_model(self.link.state)
        self.transcript.select(None)

    def _session_chosen(self, session_id: str | None) -> None:
        if session_id is not None:
            self.action_line(f"/resume {session_id}")

    # --- drawing ------------------------------------------------------------------

    def _engine_changed(self, state: EngineState) -> None:
        self._adopt_model(state)
        self._answer_next()
        self._changed()

    def _adopt_model(self, state: EngineState) -> None:
        """Note in the session which model it goes on with, and if with a memory."""
        session, model = self.talk.session, state.model
        if model is None:
            return
        memory = None if model.memory is None else model.memory.path
        if (session.model, session.memory) != (model.path, memory):
            session.use_model(model.path, memory)
        if memory is not None and session.settings.memory_on != state.memory_on:
            settings = replace(session.settings, memory_on=state.memory_on)
            session.change_settings(settings)

    def _changed(self) -> None:
        """Draw soon: text comes faster than it can be read."""
        self._frames.resume()

    def _draw(self) -> None:
        self._frames.pause()
        name = "Model" if self.link.state.model is None else self.link.state.model.name
        self.transcript.show(entries_of(self.talk, name))

    def _set_editing(self, message_id: str | None) -> None:
        self._editing_id = message_id
        title = "" if message_id is None else "instead of your question; Esc to leave"
        self.prompt.border_title = title
        self.prompt.set_class(message_id is not None, "editing")

    def _show_sidebar(self, *, is_asked: bool = False) -> None:
        has_room = is_asked or self.size.width >= _NARROW
        self.query_one(Sidebar).display = self._wants_sidebar and has_room

    def _last_question(self) -> str | None:
        question = self.talk.session.conversation.last_question()
        return None if question is None else question.text
