"""All keys and commands, out of the lists that bind and do them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from engram_local.chat.commands import help_lines
from tui.keys import Key

_POLICY = (
    "When a conversation does not fit into the context, the oldest questions and their "
    "answers are left out of what the model sees, never out of the session. Keys can "
    "be bound anew in the config file, under [tui.keys], by the names on the right."
)


class HelpScreen(ModalScreen[None]):
    """Scrolls; Esc or F1 closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,f1", "dismiss(None)", "Close", priority=True)
    ]

    def __init__(self, keys: Sequence[Key], shown_keys: Callable[[str], str]) -> None:
        """shown_keys: returns the key of an id, as people write it."""
        super().__init__()
        self._keys = keys
        self._shown_keys = shown_keys

    def compose(self) -> ComposeResult:
        with VerticalScroll():
            yield Static("Keys", classes="title")
            yield Static("\n".join(self._key_lines()), markup=False)
            yield Static("Commands", classes="title")
            yield Static("\n".join(help_lines("app")), markup=False)
            yield Static(_POLICY, markup=False, id="policy")

    def _key_lines(self) -> list[str]:
        rows = [(self._shown_keys(key.id), key.does, key.id) for key in self._keys]
        width = max(len(row[0]) for row in rows)
        return [f"{keys:{width}}  {does}  ({name})" for keys, does, name in rows]
