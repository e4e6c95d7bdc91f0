"""`run` on a terminal: a chat line by line, kept as a session.

Answers go to stdout, all else to stderr.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from functools import singledispatchmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engram_local.chat import commands
from engram_local.chat.answer_line import answer_line
from engram_local.chat.code_blocks import code_block
from engram_local.chat.context import WARN_PART, fit
from engram_local.chat.conversation import (
    AnswerStats,
    ChatMessage,
    Conversation,
    Message,
    status_after,
)
from engram_local.chat.export import export
from engram_local.chat.records import ChatSettings, SessionInfo
from engram_local.chat.session import Session
from engram_local.chat.sessions import SessionStore
from engram_local.cli import answer, options, report, session_options, tui, typed
from engram_local.errors import (
    EngramError,
    FileError,
    FitError,
    SessionError,
    UsageError,
)
from engram_local.settings import Settings
from engram_local.units import escape_control, format_count

if TYPE_CHECKING:
    from engram_local.engine import Engine

_GREETING = "/help lists the commands; /tui goes on in the chat app"
_KEYS = '''\
"""             begins and ends a text of several lines
Ctrl-C          stop the answer and keep its text; twice to quit'''


def run(args: argparse.Namespace) -> int:
    """Chat until the input ends."""
    with session_options.open_store(args, _say_lost) as store:
        session = session_options.asked_session(args, store)
        if session is not None:
            session_options.use_model_of(args, session)
        settings = options.settings_of(args)
        with options.open_engine(args, settings) as engine:
            if session is None:
                session = new_session(engine, store, settings, args.system)
            else:
                changes = session_options.sampling_flags(args)
                session.change_settings(replace(session.settings, **changes))
            if args.system is not None:
                session.conversation.system = args.system
            chat = LineChat(engine, store, settings, session)
            chat.run()
    return _open_app(args, chat.session) if chat.wants_app else 0


def _open_app(args: argparse.Namespace, session: Session) -> int:
    """Go on in the chat app, which loads the model in a process of its own."""
    is_kept = not (args.no_save or session.is_lost) and session.conversation.messages()
    args.resume, args.session = False, session.id if is_kept else None
    args.theme = None
    return tui.run(args)


def new_session(
    engine: Engine, store: SessionStore, settings: Settings, system: str | None
) -> Session:
    """Begin a session with what the engine has loaded."""
    return store.create(
        model=str(engine.path),
        memory=_memory_path(engine),
        system=system,
        settings=ChatSettings.of(settings, memory_on=engine.memory is not None),
    )


def _memory_path(engine: Engine) -> str | None:
    """Return the file of a memory that is not a part of the model, used or not."""
    memory = engine.loaded_memory
    if memory is None or memory.kind == "native":
        return None
    return str(memory.module.path)


def _say(text: str) -> None:
    print(escape_control(text), file=sys.stderr)


def _say_error(error: EngramError) -> None:
    _say(f"{error.message}; {error.hint}" if error.hint else error.message)


def _say_lost(error: SessionError) -> None:
    _say_error(error)
    _say("what is said from now on is not kept")


class LineChat:
    """A chat on a terminal: what is typed, and what is done then."""

    def __init__(
        self, engine: Engine, store: SessionStore, settings: Settings, session: Session
    ) -> None:
        """Begin with a session, or go on with it.

        settings: of the engine; the session's sampling settings are put over them.
        """
        self._engine = engine
        self._store = store
        self._settings = settings
        self._is_over = False
        self.wants_app = False
        """Whether the chat ended to go on in the chat app."""

        self._use(session)

    def run(self) -> None:
        """Read a line, do it, until the input ends."""
        _say(_GREETING)
        while not self._is_over and (line := typed.next_input()) is not None:
            try:
                self._take(line)
            except (UsageError, FileError, FitError, SessionError) as error:
                _say_error(error)

    def _take(self, line: str) -> None:
        if commands.is_command(line):
            self._do(commands.parse(line))
        elif line:
            self._conversation.ask(line)
            self._answer(self._conversation.begin_answer())

    @property
    def session(self) -> Session:
        """What is gone on with."""
        return self._session

    @property
    def _conversation(self) -> Conversation:
        return self._session.conversation

    def _use(self, session: Session) -> None:
        """Go on with a session; the loaded model stays."""
        self._session = session
        session.use_model(str(self._engine.path), _memory_path(self._engine))
        if self._engine.can_leave_out_memory:
            self._engine.use_memory(session.settings.memory_on)
        _say(report.title(self._engine))
        if path := session.conversation.path():
            _say(f"{session.title} ({len(path)} messages)")
            self._show_newest()

    def _show_newest(self) -> None:
        """Show the newest question and its answer again."""
        question = self._conversation.last_question()
        _say(f">>> {question.text}" if question else "nothing is said yet")
        message = self._conversation.path()[-1:]
        if message and message[0].role == "assistant":
            _say(message[0].text)

    # --- answers ------------------------------------------------------------------

    def _answer(self, message: Message) -> None:
        """Let the model write an answer, or go on with one."""
        engine, conversation = self._engine, self._conversation
        finished = None
        try:
            prompt = self._prompt()
            with answer.interruptible(engine):
                finished = answer.stream(
                    engine,
                    prompt,
                    settings=self._session.settings.over(self._settings),
                    on_text=lambda text: conversation.extend(message.id, text),
                )
        finally:  # whatever comes, what was said is kept
            if finished is None:
                conversation.finish(message.id, "cut")
        status = status_after(finished.finish_reason)
        stats = AnswerStats.from_finished(
            finished, model=report.model_name(engine), memory=self._memory_name()
        )
        conversation.finish(message.id, status, stats)
        print()
        answer.tell(finished)
        self._warn(finished.n_prompt + len(finished.token_ids))

    def _prompt(self) -> list[dict[str, str]]:
        """Return what the model sees, and say so if that is not all."""
        seen, n_left_out = self._fit()
        if n_left_out:
            _say(
                f"the model does not see the {n_left_out} oldest messages: all do not "
                f"fit into {format_count(self._engine.n_ctx)} tokens"
            )
        return answer.prompt_of(seen)

    def _fit(self) -> tuple[tuple[ChatMessage, ...], int]:
        messages = self._conversation.as_messages()
        return fit(messages, self._count, self._engine.n_ctx)

    def _count(self, messages: Sequence[ChatMessage]) -> int:
        return len(self._engine.encode(answer.prompt_of(messages)))

    def _warn(self, n_used: int) -> None:
        part = n_used / self._engine.n_ctx
        if part >= WARN_PART:
            _say(f"the context is {part:.0%} full; the oldest messages go first")

    def _memory_name(self) -> str | None:
        memory = self._engine.memory
        return memory.module.path.name if memory else None

    # --- commands -----------------------------------------------------------------

    @singledispatchmethod
    def _do(self, action: commands.Action) -> None:
        """Do what a command says; what is not registered below is for the app."""
        _say(commands.IN_THE_APP)

    @_do.register
    def _(self, action: commands.Quit) -> None:
        self._is_over = True

    @_do.register
    def _(self, action: commands.ShowHelp) -> None:
        _say("\n".join([*commands.help_lines("line"), _KEYS]))

    @_do.register
    def _(self, action: commands.NewChat) -> None:
        system = self._conversation.system
        settings = self._session.settings.over(self._settings)
        self._use(new_session(self._engine, self._store, settings, system))

    @_do.register
    def _(self, action: commands.Clear) -> None:
        self._conversation.clear()
        _say("begun anew; what was said stays in the session")

    @_do.register
    def _(self, action: commands.Regenerate) -> None:
        self._answer(self._conversation.begin_answer())

    @_do.register
    def _(self, action: commands.Continue) -> None:
        self._answer(self._conversation.continue_answer())

    @_do.register
    def _(self, action: commands.SelectVariant) -> None:
        newest = self._conversation.last_answer()
        variants = self._conversation.variants(newest.id) if newest else ()
        if action.number > len(variants):
            raise UsageError(f"the newest answer has {len(variants)} variants")
        self._conversation.select(variants[action.number - 1].id)
        self._show_newest()

    @_do.register
    def _(self, action: commands.EditLast) -> None:
        question = self._conversation.last_question()
        if question is None:
            raise UsageError("there is no question yet")
        text = action.text or typed.edited(question.text)
        if not text:
            raise UsageError("give the new text: /edit TEXT")
        self._conversation.edit(question.id, text)
        self._answer(self._conversation.begin_answer())

    @_do.register
    def _(self, action: commands.Undo) -> None:
        question = self._conversation.undo()
        _say(f"taken back: {question.text}" if question else "nothing is said yet")

    @_do.register
    def _(self, action: commands.CopyCode) -> None:
        newest = self._conversation.last_answer()
        block = code_block(newest.text if newest else "", action.number)
        print(escape_control(block.text))

    @_do.register
    def _(self, action: commands.UseMemory) -> None:
        self._engine.use_memory(action.on)
        settings = replace(self._session.settings, memory_on=action.on)
        self._session.change_settings(settings)
        _say(report.title(self._engine))

    @_do.register
    def _(self, action: commands.OpenScreen) -> None:
        if action.name != "memory":
            _say(commands.IN_THE_APP)
        else:
            _say(f"{report.title(self._engine)}; /memory on or off")

    @_do.register
    def _(self, action: commands.OpenApp) -> None:
        self._is_over = self.wants_app = True

    @_do.register
    def _(self, action: commands.SetSystem) -> None:
        self._conversation.system = action.text
        _say(_system(action.text))

    @_do.register
    def _(self, action: commands.SetSampling) -> None:
        change: dict[str, Any] = {action.name: action.value}
        changed = replace(self._session.settings, **change)
        self._session.change_settings(changed)
        _say(_sampling(changed))

    @_do.register
    def _(self, action: commands.ShowSettings) -> None:
        _say(_sampling(self._session.settings))
        _say(_system(self._conversation.system))

    @_do.register
    def _(self, action: commands.ShowContext) -> None:
        seen, n_left_out = self._fit()
        n_used, n_ctx = self._count(seen), self._engine.n_ctx
        left_out = f", {n_left_out} messages left out" if n_left_out else ""
        _say(
            f"{format_count(n_used)} of {format_count(n_ctx)} tokens "
            f"({n_used / n_ctx:.0%}){left_out}; when it is full, the oldest questions "
            "are left out of what the model sees, with their answers"
        )

    @_do.register
    def _(self, action: commands.ShowStats) -> None:
        newest = self._conversation.last_answer()
        if newest is None or newest.stats is None:
            raise UsageError("there is no answer with numbers yet")
        _say(answer_line(newest.stats))

    @_do.register
    def _(self, action: commands.ShowSessions) -> None:
        lines = [_session_line(info) for info in self._store.list(action.search)]
        _say("\n".join(lines) or "there are none")

    @_do.register
    def _(self, action: commands.Resume) -> None:
        self._use(self._store.load(action.session_id))

    @_do.register
    def _(self, action: commands.Rename) -> None:
        self._session.rename(action.title)
        _say(self._session.title)

    @_do.register
    def _(self, action: commands.Delete) -> None:
        session = self._store.load(action.session_id)
        if session.id == self._session.id:
            raise UsageError("this session is going on", hint="/new begins another one")
        self._store.delete(session.id)
        _say(f"deleted: {session.title}")

    @_do.register
    def _(self, action: commands.Export) -> None:
        _say(f"written: {export(self._session, action.path, action.format)}")


def _sampling(settings: ChatSettings) -> str:
    values = {name: getattr(settings, name) for name in commands.SAMPLING}
    return " · ".join(
        f"{name} {'random' if value is None else value}"
        for name, value in values.items()
    )


def _system(text: str | None) -> str:
    return f"system prompt: {text or 'that of the model'}"


def _session_line(info: SessionInfo) -> str:
    date = datetime.fromtimestamp(info.updated_at)
    return (
        f"{info.id}  {date:%Y-%m-%d %H:%M}  {info.n_messages:4} messages  "
        f"{Path(info.model).name}  {info.title}"
    )
