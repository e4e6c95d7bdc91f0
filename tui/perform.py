"""What the slash commands do in the app."""

from __future__ import annotations

from dataclasses import replace
from functools import singledispatch
from typing import TYPE_CHECKING, Any

from engram_local.chat import commands
from engram_local.chat.answer_line import answer_line
from engram_local.chat.code_blocks import code_block, code_blocks
from engram_local.chat.conversation import Message
from engram_local.chat.export import export
from engram_local.errors import UsageError
from engram_local.units import format_count
from engram_local.worker import protocol
from engram_local.worker.protocol import MemoryInfo, ModelInfo, Request
from tui.loading import load_model
from tui.screens.confirm import ConfirmScreen
from tui.screens.settings import SettingsScreen
from tui.widgets.status_line import used_tokens

if TYPE_CHECKING:
    from tui.screens.chat import ChatScreen

_N_CELLS = 1
"""Of the table's map, which the Memory screen shows; here only the action counts."""


@singledispatch
async def perform(action: commands.Action, chat: ChatScreen) -> None:
    """Do what a command says. Raises EngramError for what cannot be done now."""
    raise UsageError("that is not done in the chat app")


@perform.register(commands.Quit)
async def _(action: commands.Quit, chat: ChatScreen) -> None:
    chat.app.exit(0)


@perform.register(commands.ShowHelp)
async def _(action: commands.ShowHelp, chat: ChatScreen) -> None:
    chat.engram.action_help()


@perform.register(commands.OpenScreen)
async def _(action: commands.OpenScreen, chat: ChatScreen) -> None:
    chat.engram.show_mode(action.name)


@perform.register(commands.SetTheme)
async def _(action: commands.SetTheme, chat: ChatScreen) -> None:
    if action.name is None:
        chat.app.search_themes()
    else:
        chat.engram.use_theme(action.name)


@perform.register(commands.Restart)
async def _(action: commands.Restart, chat: ChatScreen) -> None:
    chat.engram.action_restart()


# --- the conversation -------------------------------------------------------------


@perform.register(commands.Clear)
async def _(action: commands.Clear, chat: ChatScreen) -> None:
    chat.talk.clear()
    chat.tell("begun anew; what was said stays in the session")


@perform.register(commands.Regenerate)
async def _(action: commands.Regenerate, chat: ChatScreen) -> None:
    chat.start(chat.talk.regenerate())


@perform.register(commands.Continue)
async def _(action: commands.Continue, chat: ChatScreen) -> None:
    chat.start(chat.talk.continue_answer())


@perform.register(commands.EditLast)
async def _(action: commands.EditLast, chat: ChatScreen) -> None:
    question = chat.talk.session.conversation.last_question()
    if question is None:
        raise UsageError("there is no question yet")
    if action.text is None:
        chat.edit(question)
    else:
        chat.start(chat.talk.edit(question.id, action.text))


@perform.register(commands.Undo)
async def _(action: commands.Undo, chat: ChatScreen) -> None:
    question = chat.talk.undo()
    if question is None:
        raise UsageError("there is no question yet")
    if not chat.prompt.text:
        chat.prompt.put(question.text)


@perform.register(commands.SelectVariant)
async def _(action: commands.SelectVariant, chat: ChatScreen) -> None:
    answer = _answer(chat, 1)
    ids = [one.id for one in chat.talk.session.conversation.variants(answer.id)]
    if action.number > len(ids):
        raise UsageError(f"variants of the newest answer: {len(ids)}")
    chat.talk.select_variant(answer, action.number - 1 - ids.index(answer.id))


@perform.register(commands.Copy)
async def _(action: commands.Copy, chat: ChatScreen) -> None:
    chat.engram.copy(_answer(chat, action.number or 1).text, "the answer")


@perform.register(commands.CopyCode)
async def _(action: commands.CopyCode, chat: ChatScreen) -> None:
    text = _answer(chat, 1).text
    block = code_block(text, action.number)
    of = f" of {len(code_blocks(text))}" if len(code_blocks(text)) > 1 else ""
    chat.engram.copy(block.text, f"code block {action.number}{of}")


@perform.register(commands.ShowStats)
async def _(action: commands.ShowStats, chat: ChatScreen) -> None:
    stats = _answer(chat, 1).stats
    if stats is None:
        raise UsageError("there is no answer with numbers yet")
    chat.tell(answer_line(stats))


@perform.register(commands.ShowContext)
async def _(action: commands.ShowContext, chat: ChatScreen) -> None:
    n_used = used_tokens(chat.link.state)
    n_ctx = _model(chat).n_ctx
    used = "none yet" if n_used is None else f"{format_count(n_used)} tokens"
    chat.tell(
        f"{used} of {format_count(n_ctx)}; when it is full, the oldest questions and "
        "their answers are left out of what the model sees, never out of the session"
    )


# --- settings and sessions --------------------------------------------------------


@perform.register(commands.ShowSettings)
async def _(action: commands.ShowSettings, chat: ChatScreen) -> None:
    chat.app.push_screen(SettingsScreen(chat.talk.session))


@perform.register(commands.SetSampling)
async def _(action: commands.SetSampling, chat: ChatScreen) -> None:
    change: dict[str, Any] = {action.name: action.value}
    session = chat.talk.session
    session.change_settings(replace(session.settings, **change))
    value = "random" if action.value is None else action.value
    chat.tell(f"{action.name} is {value} from the next answer on")


@perform.register(commands.SetSystem)
async def _(action: commands.SetSystem, chat: ChatScreen) -> None:
    chat.talk.session.conversation.system = action.text
    what = "the model's own" if action.text is None else "another"
    chat.tell(f"{what} system prompt from the next answer on")


@perform.register(commands.NewChat)
async def _(action: commands.NewChat, chat: ChatScreen) -> None:
    chat.use_session(chat.engram.new_session(chat.talk.session))


@perform.register(commands.ShowSessions)
async def _(action: commands.ShowSessions, chat: ChatScreen) -> None:
    chat.action_sessions(action.search)


@perform.register(commands.Resume)
async def _(action: commands.Resume, chat: ChatScreen) -> None:
    session = chat.engram.store.load(action.session_id)
    memory_on = session.settings.memory_on
    chat.use_session(session)
    model = chat.link.state.model
    if model is not None and model.memory is not None and model.can_leave_out_memory:
        await _switch_memory(chat, memory_on)


@perform.register(commands.Rename)
async def _(action: commands.Rename, chat: ChatScreen) -> None:
    chat.talk.session.rename(action.title)
    chat.tell(f"this session is now called {chat.talk.session.title}")


@perform.register(commands.Delete)
async def _(action: commands.Delete, chat: ChatScreen) -> None:
    session = chat.engram.store.load(action.session_id)
    if session.id == chat.talk.session.id:
        raise UsageError("this session is going on", hint="/new begins another one")

    question = f"Delete “{session.title}” with all that was said in it?"
    if await chat.app.push_screen_wait(ConfirmScreen(question)):
        chat.engram.store.delete(session.id)
        chat.tell(f"deleted: {session.title}")


@perform.register(commands.Export)
async def _(action: commands.Export, chat: ChatScreen) -> None:
    chat.tell(f"written: {export(chat.talk.session, action.path, action.format)}")


# --- the engine -------------------------------------------------------------------


@perform.register(commands.UseMemory)
async def _(action: commands.UseMemory, chat: ChatScreen) -> None:
    if action.on:
        _require_memory(chat)
    await _switch_memory(chat, action.on)
    chat.tell(f"the memory is {'on' if action.on else 'off'}")


@perform.register(commands.ChooseMemory)
async def _(action: commands.ChooseMemory, chat: ChatScreen) -> None:
    memory = _model(chat).memory
    tier = chat.engram.options.settings.memory_tier if memory is None else memory.tier
    await _ask(chat, protocol.ChooseMemory(memory=str(action.path), tier=tier))
    chat.tell(f"the memory is {action.path.name}")


@perform.register(commands.SetTier)
async def _(action: commands.SetTier, chat: ChatScreen) -> None:
    path = _require_memory(chat).path
    await _ask(chat, protocol.ChooseMemory(memory=path, tier=action.tier))
    chat.tell(f"the table is read from {_require_memory(chat).tier}")


@perform.register(commands.Warm)
async def _(action: commands.Warm, chat: ChatScreen) -> None:
    _require_memory(chat)
    await _ask(chat, protocol.WarmTable(n_cells=_N_CELLS))
    chat.tell("all of the table was read")


@perform.register(commands.Evict)
async def _(action: commands.Evict, chat: ChatScreen) -> None:
    _require_memory(chat)
    await _ask(chat, protocol.EvictTable(n_cells=_N_CELLS))
    chat.tell("the page cache was asked to forget the table")


@perform.register(commands.LoadModel)
async def _(action: commands.LoadModel, chat: ChatScreen) -> None:
    if await load_model(chat.engram, action.path):
        chat.tell(f"{_model(chat).name} is loaded")


@perform.register(commands.OpenApp)
async def _(action: commands.OpenApp, chat: ChatScreen) -> None:
    chat.tell("this is the chat app")


async def _switch_memory(chat: ChatScreen, on: bool) -> None:
    if chat.link.state.model is not None and chat.link.state.memory_on != on:
        await _ask(chat, protocol.UseMemory(on=on))


async def _ask(chat: ChatScreen, request: Request) -> None:
    _model(chat)
    async for _ in chat.link.ask(request):
        pass


def _model(chat: ChatScreen) -> ModelInfo:
    model = chat.link.state.model
    if model is None:
        raise UsageError("no model is loaded")
    return model


def _require_memory(chat: ChatScreen) -> MemoryInfo:
    memory = _model(chat).memory
    if memory is None:
        raise UsageError("no memory is loaded", hint="/memory FILE loads one")
    return memory


def _answer(chat: ChatScreen, number: int) -> Message:
    """Return an answer, the newest one with 1."""
    path = chat.talk.session.conversation.path()
    answers = [one for one in reversed(path) if one.role == "assistant"]
    if number > len(answers):
        raise UsageError(f"there are {len(answers)} answers")
    return answers[number - 1]
