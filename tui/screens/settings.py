"""Sampling and system prompt of a session, as a form."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Input, Static, TextArea

from engram_local.chat.commands import SAMPLING, SetSampling, parse
from engram_local.chat.session import Session
from engram_local.errors import UsageError

_HELP = {
    "temperature": "0 = always the most likely token",
    "top_k": "of the so many most likely tokens",
    "top_p": "of the most likely ones that add up to this",
    "min_p": "none less likely than this part of the first",
    "seed": "a number, or random",
    "max_tokens": "-1 = until the model ends",
}


class SettingsScreen(ModalScreen[None]):
    """Enter keeps what stands in the fields; Esc leaves all as it was."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Cancel"),
        Binding("enter", "keep", "Keep", priority=True),
    ]

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session

    def compose(self) -> ComposeResult:
        with VerticalScroll():
            yield Static("Settings of this session", classes="title")
            for name in SAMPLING:
                value = getattr(self._session.settings, name)
                with Horizontal():
                    yield Static(name, classes="name")
                    text = "random" if value is None else str(value)
                    yield Input(text, id=name, compact=True)
                    yield Static(_HELP[name], classes="help")
            yield Static("system prompt; empty = the model's own")
            system = self._session.conversation.system or ""
            yield TextArea(system, id="system", compact=True)
            yield Static("", id="problem", markup=False)
            yield Static("Enter keeps them, Esc leaves all as it was; Tab goes on")

    def action_keep(self) -> None:
        """Check all fields, and keep them if they are right."""
        try:
            changes = dict(self._change(name) for name in SAMPLING)
        except UsageError as error:
            self.query_one("#problem", Static).update(error.message)
            return
        settings = replace(self._session.settings, **changes)
        if settings != self._session.settings:
            self._session.change_settings(settings)
        system = self.query_one("#system", TextArea).text.strip() or None
        if system != self._session.conversation.system:
            self._session.conversation.system = system
        self.dismiss(None)

    def _change(self, name: str) -> tuple[str, Any]:
        """Return a setting as `/set` would; raises its UsageError."""
        action = parse(f"/set {name} {self.query_one(f'#{name}', Input).value}")
        assert isinstance(action, SetSampling)
        return action.name, action.value
