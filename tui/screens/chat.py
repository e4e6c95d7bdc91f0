"""The chat screen."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import VerticalScroll

from tui.screens.base import AppScreen


class ChatScreen(AppScreen):
    """Messages and a prompt."""

    def compose_body(self) -> ComposeResult:
        yield VerticalScroll(id="messages")
