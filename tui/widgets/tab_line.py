"""The first line: all screens with their keys, the shown one marked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from textual.content import Content
from textual.style import Style
from textual.widgets import Static


@dataclass(frozen=True, slots=True, kw_only=True)
class Tab:
    """A screen that can be shown."""

    name: str
    keys: str
    title: str
    is_shown: bool


class TabLine(Static):
    """Tabs, which can be clicked too."""

    def __init__(self, tabs: Iterable[Tab]) -> None:
        super().__init__(Content("").join([_draw(tab) for tab in tabs]))


def _draw(tab: Tab) -> Content:
    """Return ` F2 Chat `; the shown one in brackets, which needs no colours."""
    before, after = "[]" if tab.is_shown else "  "
    style = Style(bold=tab.is_shown, reverse=tab.is_shown)
    style += Style.from_meta({"@click": f"app.show('{tab.name}')"})
    return Content.styled(f"{before}{tab.keys} {tab.title}{after}", style)
