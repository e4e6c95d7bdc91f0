"""A question with a few answers, over another screen; one may type another answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from engram_local.units import escape_control


class PickScreen(ModalScreen[str | None]):
    """Ends with the id of an answer, with what was typed, or None for neither."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Cancel", show=False)
    ]

    def __init__(
        self,
        title: str,
        answers: Mapping[str, str],
        *,
        taken: str | None = None,
        typed: str | None = None,
    ) -> None:
        """answers: what is shown for each id. taken: the id that is so now.

        typed: what may be typed in place of them; None = nothing.
        """
        super().__init__()
        self._title = title
        self._answers = answers
        self._taken = taken
        self._typed = typed

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(Content(self._title))
            yield OptionList(*(self._option(name) for name in self._answers))
            if self._typed is not None:
                yield Input(placeholder=self._typed, compact=True)

    def on_mount(self) -> None:
        if self._taken is not None and self._taken in self._answers:
            number = list(self._answers).index(self._taken)
            self.query_one(OptionList).highlighted = number

    def _option(self, name: str) -> Option:
        mark = "● " if name == self._taken else "○ "
        return Option(Content(mark + escape_control(self._answers[name])), id=name)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Take an answer."""
        self.dismiss(event.option_id)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take what was typed, if anything was."""
        if event.value.strip():
            self.dismiss(event.value.strip())
