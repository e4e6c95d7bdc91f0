"""The chat app: its screens, its keys, and the engine that it owns."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from time import monotonic

from textual.app import App
from textual.screen import Screen

from engram_local.errors import UsageError
from engram_local.settings import resolve_tui
from engram_local.worker.client import EngineClient, EnginePort
from engram_local.worker.protocol import Open
from tui.engine_link import EngineLink, MakePort
from tui.keys import bind, binding_of, check_keymap
from tui.modes import ALL_KEYS, ALL_MODES
from tui.options import TuiOptions
from tui.widgets.tab_line import Tab

_TWICE_S = 2.0
"""Ctrl-C again within this time quits."""

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
        bind("app.interrupt", "interrupt"),
        bind("app.quit", "quit"),
        bind("app.restart", "restart"),
    ]

    def __init__(
        self,
        options: TuiOptions,
        *,
        make_port: MakePort,
        keymap: Mapping[str, str] | None = None,
    ) -> None:
        """keymap: keys by the ids of keys.py.

        Raises UsageError for a theme, a key or an action that does not exist.
        """
        super().__init__()
        self.options = options
        self.link = EngineLink(self, make_port)
        self._interrupted_s = -_TWICE_S
        check_keymap(keymap or {}, ALL_KEYS)
        self.set_keymap(keymap or {})
        self._choose_theme(options.theme)

    async def on_mount(self) -> None:
        self.set_interval(_MEASURE_S, self.link.measure)
        self.run_worker(self.link.open(self._first_open()), group="engine")

    async def on_unmount(self) -> None:
        await self.link.close()

    def tabs(self, screen: Screen[None]) -> tuple[Tab, ...]:
        """Return the tabs as `screen` shows them."""
        return tuple(
            Tab(
                name=mode.name,
                keys=self.shown_keys(mode.binding.id, mode.key),
                title=mode.title,
                is_shown=isinstance(screen, mode.screen),
            )
            for mode in ALL_MODES
        )

    def shown_keys(self, key_id: str, default: str) -> str:
        """Return the first key that is bound, as people write it: F2, Ctrl-R."""
        first = self._keymap.get(key_id, default).split(",")[0]
        return "-".join(part.capitalize() for part in first.split("+"))

    def action_show(self, mode: str) -> None:
        """Show a screen of modes.py."""
        self.switch_mode(mode)

    def action_restart(self) -> None:
        """Restart the engine with the same model."""
        self.run_worker(self.link.restart(), group="engine", exclusive=True)

    def action_interrupt(self) -> None:
        """Copy a selection, else stop the answer, else quit if it comes twice."""
        selected = self.screen.get_selected_text()
        if selected:
            self.copy_to_clipboard(selected)
            self.screen.clear_selection()
            return
        now_s = monotonic()
        if now_s - self._interrupted_s < _TWICE_S:
            self.exit(0)
        self._interrupted_s = now_s
        if self.link.state.phase == "busy":
            self.link.cancel()
        else:
            self.notify("once more to quit", timeout=_TWICE_S)

    def _first_open(self) -> Open:
        options = self.options
        return Open(
            model=None if options.model is None else str(options.model),
            memory=None if options.memory is None else str(options.memory),
            settings=options.settings,
            fit=options.fit,
        )

    def _choose_theme(self, name: str | None) -> None:
        if name is None:
            return
        if name not in self.available_themes:
            raise UsageError(
                f"there is no theme {name!r}",
                hint=f"themes are {', '.join(sorted(self.available_themes))}",
            )
        self.theme = name


def run_app(options: TuiOptions) -> int:
    """Run the app until the user quits; return the exit code.

    Raises UsageError for a theme, a key or an action that does not exist.
    """
    settings = resolve_tui()
    options = replace(options, theme=options.theme or settings.theme)
    app = EngramApp(options, make_port=_engine, keymap=settings.keys)
    return asyncio.run(_run(app))


async def _run(app: EngramApp) -> int:
    if sys.platform != "win32":
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, app.exit, 128 + number)
    code = await app.run_async()
    return app.return_code or 0 if code is None else code


def _engine(on_log: Callable[[str], None]) -> EnginePort:
    return EngineClient(on_log=on_log)
