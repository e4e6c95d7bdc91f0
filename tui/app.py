"""The chat app: its screens, its keys, and the engine that it owns."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

from textual.app import App, SystemCommand
from textual.driver import Driver
from textual.screen import ModalScreen, Screen
from textual.widgets import Input, TextArea

from engram_local.chat.commands import Command, commands_in
from engram_local.chat.records import ChatSettings
from engram_local.chat.session import Session
from engram_local.chat.sessions import SessionStore, default_path
from engram_local.errors import SessionError, UsageError
from engram_local.settings import resolve_tui
from engram_local.units import escape_control
from engram_local.worker.client import EngineClient, EnginePort
from engram_local.worker.protocol import Open
from tui.engine_link import EngineLink, MakePort
from tui.keys import bind, binding_of, check_keymap, shown_key
from tui.modes import ALL_KEYS, ALL_MODES
from tui.options import TuiOptions
from tui.screens.chat import ChatScreen
from tui.screens.help import HelpScreen
from tui.widgets.tab_line import Tab

_TWICE_S = 2.0
"""Ctrl-C again within this time quits."""

_STARTED_S = 2.0
"""After this time the collector forgets what is there, modules and styles for the most:
the 99th percentile of frames fell from 47 to 28 ms (docs/benchmarks/tui_scroll.py)."""

_MEASURE_S = 0.5
"""Between two looks at the engine's process; one takes 0.1 ms."""


class EngramApp(App[int]):
    """The chat app. Exits with 0, or 128 and the signal that ended it."""

    TITLE = "engram-local"
    CSS_PATH = "styles.tcss"
    MODES = {mode.name: mode.screen for mode in ALL_MODES}  # noqa: RUF012 - Textual's type
    DEFAULT_MODE = "chat"
    BINDINGS = [  # noqa: RUF012 - Textual's type
        *(binding_of(mode.binding, f"show('{mode.name}')") for mode in ALL_MODES),
        bind("app.help", "help"),
        bind("app.sessions", "sessions"),
        bind("app.interrupt", "interrupt"),
        bind("app.quit", "quit"),
        bind("app.palette", "command_palette"),
        bind("app.restart", "restart"),
    ]
    ENABLE_COMMAND_PALETTE = True
    COMMAND_PALETTE_BINDING = ""
    """Ours can be bound anew."""

    def __init__(
        self,
        options: TuiOptions,
        *,
        make_port: MakePort,
        keymap: Mapping[str, str] | None = None,
        sessions: Path | None = None,
    ) -> None:
        """keymap: keys by the ids of keys.py. sessions: their file; None = not kept.

        Raises UsageError for a theme, a key or an action that does not exist, and
        SessionError for a session.
        """
        super().__init__(driver_class=_driver())
        self.animation_level = "none"  # a frame more is a frame later
        self.options = options
        self.link = EngineLink(self, make_port)
        self._lost: SessionError | None = None
        self.store = self._open_store(sessions)
        self.first_session = self._find_session()
        self._interrupted_s = -_TWICE_S
        check_keymap(keymap or {}, ALL_KEYS)
        self.set_keymap(keymap or {})
        if options.theme is not None:
            self.use_theme(options.theme)

    async def on_mount(self) -> None:
        if self._lost is not None:
            self._say_lost(self._lost)
        self.set_interval(_MEASURE_S, self.link.measure)
        self.run_worker(self.link.open(self._first_open()), group="engine")

    async def on_unmount(self) -> None:
        await self.link.close()
        self.store.close()

    def tabs(self, screen: Screen[None]) -> tuple[Tab, ...]:
        """Return the tabs as `screen` shows them."""
        return tuple(
            Tab(
                name=mode.name,
                keys=self.shown_keys(mode.binding.id),
                title=mode.title,
                is_shown=isinstance(screen, mode.screen),
            )
            for mode in ALL_MODES
        )

    def keys_of(self, key_id: str) -> list[str]:
        """Return the keys of an action, as they are bound."""
        default = next(key.keys for key in ALL_KEYS if key.id == key_id)
        return self._keymap.get(key_id, default).split(",")

    def shown_keys(self, key_id: str) -> str:
        """Return the first key of an action, as people write it: F2, Ctrl-R."""
        return shown_key(self.keys_of(key_id)[0])

    def new_session(self, like: Session | None = None) -> Session:
        """Begin a session, with the settings and the system prompt of another one."""
        options = self.options
        settings = like.settings if like else ChatSettings.of(options.settings)
        return self.store.create(
            model=like.model if like else str(options.model or ""),
            memory=like.memory if like else None,
            system=like.conversation.system if like else None,
            settings=settings,
        )

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """Give the palette our commands, and Textual's own."""
        for command in commands_in("app"):
            run = partial(self.run_command, command)
            yield SystemCommand(f"/{command.name}", command.help, run)
        yield from super().get_system_commands(screen)

    async def run_command(self, command: Command) -> None:
        """Do a command of the palette; let its argument be typed if it needs one."""
        chat = await self._show_chat()
        if command.argument and not command.argument.startswith("["):
            chat.prompt.put(f"/{command.name} ")
        else:
            chat.action_line(f"/{command.name}")

    def copy(self, text: str, what: str) -> None:
        """Copy a text to the terminal's clipboard, and say so."""
        self.copy_to_clipboard(text)
        self.notify(f"copied {what}, {len(text):,} characters", markup=False)

    def show_mode(self, name: str) -> None:
        """Show a screen of modes.py; raises UsageError if there is none."""
        if name not in self.MODES:
            raise UsageError(f"there is no screen {name}")
        self.switch_mode(name)

    def use_theme(self, name: str) -> None:
        """Use other colours; raises UsageError if there are none of that name."""
        if name not in self.available_themes:
            raise UsageError(
                f"there is no theme {name!r}",
                hint=f"themes are {', '.join(sorted(self.available_themes))}",
            )
        self.theme = name

    async def action_show(self, mode: str) -> None:
        """Show a screen of modes.py, without what is over this one."""
        await self._leave_modals()
        await self.switch_mode(mode)

    def action_help(self) -> None:
        """Show all keys and commands."""
        self.push_screen(HelpScreen(ALL_KEYS, self.keys_of))

    async def action_sessions(self) -> None:
        """Show the chat with the list of sessions."""
        if not isinstance(self.screen, ModalScreen):
            (await self._show_chat()).action_sessions()

    def action_restart(self) -> None:
        """Restart the engine with the same model."""
        self.run_worker(self.link.restart(), group="engine", exclusive=True)

    def action_interrupt(self) -> None:
        """Copy a selection, else stop the answer, else quit if it comes twice."""
        selected = self._selected_text()
        if selected:
            self.copy(selected, "what is selected")
            self.screen.clear_selection()
            return
        now_s = monotonic()
        if now_s - self._interrupted_s < _TWICE_S:
            self.exit(0)
        self._interrupted_s = now_s
        if self.link.state.phase in ("busy", "loading"):
            self.link.cancel()
        else:
            self.notify("once more to quit", timeout=_TWICE_S)

    async def _show_chat(self) -> ChatScreen:
        await self.switch_mode("chat")
        await self._leave_modals()
        assert isinstance(self.screen, ChatScreen)
        return self.screen

    async def _leave_modals(self) -> None:
        """Leave lists and questions unanswered, also those over one another."""
        while isinstance(self.screen, ModalScreen):
            await self.screen.dismiss(None)

    def _selected_text(self) -> str:
        """Return what is selected with the mouse, else in the field one types in."""
        if selected := self.screen.get_selected_text():
            return selected
        field = self.focused
        return field.selected_text if isinstance(field, Input | TextArea) else ""

    def _first_open(self) -> Open:
        """Return the first model, its memory used or not, as the session did."""
        options = self.options
        return Open(
            model=None if options.model is None else str(options.model),
            memory=None if options.memory is None else str(options.memory),
            settings=options.settings,
            fit=options.fit,
            memory_on=self.first_session.settings.memory_on,
        )

    def _find_session(self) -> Session:
        """Return the session to go on with, else a new one."""
        options = self.options
        if options.session is None:
            session = self.new_session()
        else:
            session = self.store.load(options.session)
            session.change_settings(replace(session.settings, **options.sampling))
        if options.system is not None:
            session.conversation.system = options.system
        return session

    def _open_store(self, path: Path | None) -> SessionStore:
        """Open the sessions; where they cannot be and none is asked for, others."""
        try:
            return SessionStore(path, on_lost=self._say_lost)
        except SessionError as error:
            if self.options.session is not None:
                raise
            self._lost = error
        return SessionStore(None, on_lost=self._say_lost)

    def _say_lost(self, error: SessionError) -> None:
        text = f"{error.message}\nwhat is said from now on is not kept"
        self.notify(escape_control(text), severity="error", markup=False)


def run_app(options: TuiOptions) -> int:
    """Run the app until the user quits; return the exit code.

    Raises UsageError for a theme, a key or an action that does not exist, and
    SessionError for a session that cannot be gone on with.
    """
    settings = resolve_tui()
    options = replace(options, theme=options.theme or settings.theme)
    app = EngramApp(
        options,
        make_port=_engine,
        keymap=settings.keys,
        sessions=default_path() if options.keep else None,
    )
    return asyncio.run(_run(app))


async def _run(app: EngramApp) -> int:
    loop = asyncio.get_running_loop()
    if sys.platform != "win32":
        for number in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, app.exit, 128 + number)
    loop.call_later(_STARTED_S, gc.freeze)
    code = await app.run_async()
    return app.return_code or 0 if code is None else code


def _driver() -> type[Driver] | None:
    if sys.platform == "win32":
        return None
    from tui.driver import TerminalDriver

    return TerminalDriver


def _engine(on_log: Callable[[str], None]) -> EnginePort:
    return EngineClient(on_log=on_log)
