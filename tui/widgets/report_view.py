"""A sizing report, as `engram-local size` prints it, in the order of a screen."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from rich.text import Text
from textual.events import Resize
from textual.widgets import Static

if TYPE_CHECKING:
    from engram_local.sizing.render.document import Document
    from engram_local.sizing.report import Report

_LEAST_COLUMNS = 60
_ORDER = (
    "Memory",
    "Speed",
    "To run it",
    "N-gram table",
    "What if",
    "Inputs",
    "Computer",
    "Notes",
)
"""What changes with every key stands first, what it was computed from last."""


class ReportView(Static):
    """Draws a report of one model; its tables and sentences are those of the text."""

    def __init__(self) -> None:
        super().__init__("", markup=False)
        self._report: Report | None = None
        self._width = 0

    @property
    def report(self) -> Report | None:
        """What is shown."""
        return self._report

    def show(self, report: Report) -> None:
        """Draw a report in place of the one before."""
        self._report = report
        self._draw()

    def on_resize(self, event: Resize) -> None:
        if event.size.width != self._width:
            self._draw()

    def _draw(self) -> None:
        self._width = self.size.width
        if self._report is not None and self._width:
            width = max(self._width, _LEAST_COLUMNS)
            self.update(Text.from_ansi(screen_text(self._report, width)))


def screen_text(report: Report, width: int) -> str:
    """Return the report with escape sequences for colours, and no others."""
    from engram_local.sizing.render.sections import document_of
    from engram_local.sizing.render.text import render_document

    document = _for_screen(document_of(report))
    return render_document(document, width=width, color=True).rstrip("\n")


def _for_screen(document: Document) -> Document:
    (model,) = document.models
    sections = (*model.sections, *document.common)
    ordered = sorted(sections, key=lambda section: _ORDER.index(section.topic.value))
    return replace(
        document, common=(), models=(replace(model, sections=tuple(ordered)),)
    )
