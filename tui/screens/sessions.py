"""All sessions: find one, go on with it, rename it, delete it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from engram_local.chat.records import SessionInfo
from engram_local.chat.session import Session
from engram_local.chat.sessions import SessionStore
from engram_local.errors import SessionError
from engram_local.units import escape_control
from tui.screens.confirm import ConfirmScreen

_HELP = "Enter: go on · Ctrl-R: rename · Del: delete · Esc: close"


class SessionsScreen(ModalScreen[str | None]):
    """Ends with the id of a session to go on with, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Close"),
        Binding("down", "down", "Down", priority=True),
        Binding("up", "up", "Up", priority=True),
        Binding("ctrl+r", "rename", "Rename", priority=True),
        Binding("delete", "delete", "Delete", priority=True),
    ]

    def __init__(self, store: SessionStore, current: Session, search: str = "") -> None:
        """current: the session that goes on; it cannot be deleted."""
        super().__init__()
        self._store = store
        self._current = current
        self._search = search
        self._renaming: SessionInfo | None = None
        self._infos: tuple[SessionInfo, ...] = ()

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Input(self._search, placeholder="search titles and texts")
            yield OptionList()
            yield Static(_HELP, id="help", markup=False)

    def on_mount(self) -> None:
        self._list()

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        if self._renaming is None and event.value != self._search:
            self._search = event.value
            self._list()

    @on(Input.Submitted)
    def _entered(self, event: Input.Submitted) -> None:
        if self._renaming is not None:
            self._try(lambda: self._rename(event.value))
        elif self._chosen is not None:
            self.dismiss(self._chosen.id)

    @on(OptionList.OptionSelected)
    def _picked(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option_id)

    def action_leave(self) -> None:
        """Leave the new title, or the list."""
        if self._renaming is None:
            self.dismiss(None)
        else:
            self._end_rename()

    def action_down(self) -> None:
        self.query_one(OptionList).action_cursor_down()

    def action_up(self) -> None:
        self.query_one(OptionList).action_cursor_up()

    def action_rename(self) -> None:
        """Let another title be typed."""
        if self._chosen is not None:
            self._renaming = self._chosen
            field = self.query_one(Input)
            field.value = self._chosen.title
            field.cursor_position = len(field.value)
            self._say("Enter: this is its title · Esc: leave it as it was")

    def action_delete(self) -> None:
        """Remove a session, if the user is sure."""
        info = self._chosen
        if info is None or self._renaming is not None:
            return
        if info.id == self._current.id:
            self._say("this session is going on; /new begins another one")
            return

        def delete(is_sure: bool | None) -> None:
            if is_sure:
                self._try(lambda: self._store.delete(info.id))
                self._list()

        question = f"Delete “{info.title}” with all that was said in it?"
        self.app.push_screen(ConfirmScreen(question), delete)

    @property
    def _chosen(self) -> SessionInfo | None:
        number = self.query_one(OptionList).highlighted
        return None if number is None else self._infos[number]

    def _rename(self, title: str) -> None:
        assert self._renaming is not None
        if self._renaming.id == self._current.id:
            self._current.rename(title)
        else:
            self._store.rename(self._renaming.id, title)
        self._end_rename()

    def _end_rename(self) -> None:
        renamed, self._renaming = self._renaming, None
        self.query_one(Input).value = self._search
        self._say(_HELP)
        self._list(renamed)

    def _list(self, chosen: SessionInfo | None = None) -> None:
        """List what is found, with the cursor on one of them."""
        try:
            self._infos = self._store.list(self._search)
        except SessionError as error:
            self._infos = ()
            self._say(error.message)
        options = self.query_one(OptionList)
        options.clear_options()
        options.add_options(Option(_line(info), id=info.id) for info in self._infos)
        if not self._infos:
            options.add_option(Option("there is none", disabled=True))
            return
        numbers = {info.id: number for number, info in enumerate(self._infos)}
        options.highlighted = numbers.get(chosen.id, 0) if chosen else 0

    def _try(self, what: Callable[[], None]) -> None:
        try:
            what()
        except SessionError as error:
            self._say(error.message)

    def _say(self, text: str) -> None:
        self.query_one("#help", Static).update(escape_control(text))


def _line(info: SessionInfo) -> Content:
    when = datetime.fromtimestamp(info.updated_at)
    about = f"{info.n_messages} messages · {Path(info.model).stem}"
    return Content(escape_control(f"{when:%Y-%m-%d %H:%M}  {info.title} · {about}"))
