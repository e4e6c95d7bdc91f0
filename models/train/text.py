"""General text that the memory must not disturb: The Debian Administrator's Handbook.

Reads the HTML of the Debian package `debian-handbook` (GPL-2+ or CC-BY-SA-3.0). The
chapters of `EVAL_PAGES` are never trained.
"""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

EVAL_PAGES = (
    "sect.role-of-distributions.html",
    "sect.why-debian.html",
    "sect.backup.html",
)
_LEAST_CHARACTERS = 80  # of a paragraph: shorter ones are labels and commands


class _Paragraphs(HTMLParser):
    """Collects the text of every `<div class="para">` that holds no other one."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._open: list[bool] = []  # of every open div: is it a paragraph?
        self._pieces: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "div":
            return
        self._open.append(("class", "para") in attrs)
        self._pieces.clear()

    def handle_endtag(self, tag: str) -> None:
        if tag != "div" or not self._open:
            return
        text = " ".join("".join(self._pieces).split())
        if self._open.pop() and len(text) >= _LEAST_CHARACTERS:
            self.found.append(text)
        self._pieces.clear()

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1]:
            self._pieces.append(data)


def read_page(path: Path) -> str:
    """Return the paragraphs of one page, an empty line between them."""
    parser = _Paragraphs()
    parser.feed(path.read_text(encoding="utf-8"))
    return "\n\n".join(parser.found)


def training_pages(folder: Path) -> list[str]:
    """Return the text of every page that may be trained, in the order of names."""
    paths = sorted(folder.glob("*.html"))
    texts = [read_page(path) for path in paths if path.name not in EVAL_PAGES]
    return [text for text in texts if text]


def evaluation_text(folder: Path) -> str:
    """Return the pages that are never trained."""
    return "\n\n".join(read_page(folder / name) for name in EVAL_PAGES) + "\n"
