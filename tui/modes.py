"""The screens of the app: one list, which keys, tabs, palette and help share."""

from __future__ import annotations

from dataclasses import dataclass

from textual.screen import Screen

from tui.keys import KEYS, Key
from tui.screens.chat import ChatScreen
from tui.screens.compare import CompareScreen
from tui.screens.memory import MemoryScreen


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """A screen that is kept while others are shown."""

    name: str
    key: str
    title: str
    does: str
    """What one sees there."""

    screen: type[Screen[None]]

    @property
    def binding(self) -> Key:
        """What shows it; its id is `screen.` and the name."""
        return Key(
            id=f"screen.{self.name}",
            keys=self.key,
            label=self.title,
            does=self.does,
            priority=True,
        )


ALL_MODES = (
    Mode(
        name="chat",
        key="f2",
        title="Chat",
        does="talk with the model",
        screen=ChatScreen,
    ),
    Mode(
        name="memory",
        key="f3",
        title="Memory",
        does="what the memory does and costs",
        screen=MemoryScreen,
    ),
    Mode(
        name="compare",
        key="f4",
        title="Compare",
        does="one question, answered with the memory and without",
        screen=CompareScreen,
    ),
)

ALL_KEYS = (*KEYS, *(mode.binding for mode in ALL_MODES))
"""Everything that can be bound in the config file."""
