"""Where one types: several lines, growing; commands are completed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from textual.events import Key
from textual.message import Message
from textual.widgets import TextArea

from engram_local.chat.commands import COMMANDS, is_command

OWN_KEYS = {
    "prompt.send": "send",
    "prompt.newline": "newline",
    "prompt.complete": "complete",
}
"""Names of keys.py, and the actions of these keys."""


class Prompt(TextArea):
    """A text area that sends its text."""

    @dataclass
    class Sent(Message):
        """A text was sent; the prompt is empty again."""

        text: str

    def __init__(
        self, last_question: Callable[[], str | None], own_keys: Mapping[str, str]
    ) -> None:
        """last_question: what Up brings into an empty prompt.

        own_keys: keys as they are bound, and their actions in OWN_KEYS.
        """
        super().__init__(
            id="prompt",
            soft_wrap=True,
            compact=True,
            highlight_cursor_line=False,
            placeholder="Ask something, or / for commands",
        )
        self._last_question = last_question
        self._own_keys = own_keys

    def put(self, text: str) -> None:
        """Replace what stands there, with the cursor at the end."""
        self.text = text
        self.move_cursor(self.document.end)
        self.focus()

    async def _on_key(self, event: Key) -> None:
        """Do what our keys do in turn with what is typed.

        A binding is done by the app, while the next characters come here already.
        """
        action = self._own_keys.get(event.key)
        if action is not None:
            event.stop()
            event.prevent_default()
            await self.run_action(action)

    def action_send(self) -> None:
        """Send the text, if there is any."""
        text = self.text.strip("\n")
        if text.strip():
            self.text = ""
            self.post_message(self.Sent(text))

    def action_newline(self) -> None:
        """Begin another line."""
        self.insert("\n")

    def action_complete(self) -> None:
        """Take the suggested command, else go to the next widget."""
        if self.suggestion:
            self.insert(self.suggestion)
        else:
            self.screen.focus_next()

    def action_cursor_up(self, select: bool = False) -> None:
        """Go up a line; in an empty prompt bring the last question."""
        question = None if self.text else self._last_question()
        if question is None:
            super().action_cursor_up(select)
        else:
            self.put(question)

    def update_suggestion(self) -> None:
        """Suggest the rest of a command's name."""
        self.suggestion = rest_of_command(self.text)


def rest_of_command(text: str) -> str:
    """Return what is missing of the first command that begins so."""
    if not is_command(text) or " " in text or "\n" in text:
        return ""
    typed = text[1:]
    names = (name for command in COMMANDS for name in command.names)
    fitting = (name for name in names if name.startswith(typed) and typed)
    return next((name[len(typed) :] for name in fitting), "")


def fitting_commands(text: str, limit: int) -> list[str]:
    """Return the usage and help of commands that begin so, at most `limit` of them."""
    if not is_command(text) or "\n" in text:
        return []
    typed, _, rest = text[1:].partition(" ")
    found = [
        f"{command.usage} · {command.help}"
        for command in COMMANDS
        if any(
            name == typed if rest or text.endswith(" ") else name.startswith(typed)
            for name in command.names
        )
    ]
    more = len(found) - limit
    return found[:limit] + ([f"and {more} more; F1 lists all"] if more > 0 else [])
