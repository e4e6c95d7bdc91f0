"""A conversation: messages in order, and what happens to them."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Conversation:
    """Messages for the chat template. One owner, no lock."""

    system: str | None = None
    """Replaces the template's own system prompt; None = keep that."""

    messages: list[dict[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clear()

    def ask(self, text: str) -> list[dict[str, str]]:
        """Return all messages with a new question at the end; keep it for later."""
        self.messages.append({"role": "user", "content": text})
        return list(self.messages)

    def answer(self, text: str) -> None:
        """Add the model's answer, whole or cut off."""
        self.messages.append({"role": "assistant", "content": text})

    def take_back(self) -> None:
        """Forget a question that could not be answered."""
        if self.messages and self.messages[-1]["role"] == "user":
            self.messages.pop()

    def clear(self) -> None:
        """Begin anew, with the system prompt only."""
        self.messages = []
        if self.system is not None:
            self.messages.append({"role": "system", "content": self.system})
