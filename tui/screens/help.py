"""All keys and commands, out of the lists that bind and do them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from engram_local.chat.commands import commands_in
from tui.keys import Key, shown_key

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

    def __init__(
        self, keys: Sequence[Key], keys_of: Callable[[str], list[str]]
    ) -> None:
        """keys_of: returns the keys of an id, as they are bound."""
        super().__init__()
        self._keys = keys
        self._keys_of = keys_of

    def compose(self) -> ComposeResult:
        with VerticalScroll():
            yield Static("Keys", classes="title")
            yield Static(_table(self.key_rows()), id="keys")
            yield Static("Commands", classes="title")
            yield Static(_table(command_rows()), id="commands")
            yield Static(_POLICY, markup=False, id="policy")

    def key_rows(self) -> list[tuple[str, ...]]:
        """Return keys, one a line, what they do, and their name in the config file."""
        return [
            ("\n".join(map(shown_key, self._keys_of(key.id))), key.does, key.id)
            for key in self._keys
        ]


def command_rows() -> list[tuple[str, ...]]:
    """Return how a command is typed, and what it does."""
    return [(command.usage, command.help) for command in commands_in("app")]


def _table(rows: Sequence[tuple[str, ...]]) -> Table:
    """Return rows whose second column wraps."""
    table = Table.grid(*("" for _ in rows[0]), padding=(0, 2, 0, 0))
    for number, column in enumerate(table.columns):
        column.no_wrap = number != 1
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table
