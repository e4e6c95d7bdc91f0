"""The screens of the app: one list, which keys, tabs, palette and help share."""

from __future__ import annotations

from dataclasses import dataclass

from textual.screen import Screen

from tui.keys import KEYS, Key
from tui.screens.chat import ChatScreen
from tui.screens.compare import CompareScreen
from tui.screens.logs import LogsScreen
from tui.screens.memory import MemoryScreen
from tui.screens.models import ModelsScreen
from tui.screens.size import SizeScreen


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
    Mode(
        name="size",
        key="f5",
        title="Size",
        does="what a model needs, and how fast it would be",
        screen=SizeScreen,
    ),
    Mode(
        name="models",
        key="f6",
        title="Models",
        does="the models on this computer; load one",
        screen=ModelsScreen,
    ),
    Mode(
        name="logs",
        key="f8",
        title="Logs",
        does="what the engine's process says",
        screen=LogsScreen,
    ),
)

ALL_KEYS = (*KEYS, *(mode.binding for mode in ALL_MODES))
"""Everything that can be bound in the config file."""
