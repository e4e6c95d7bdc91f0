"""What is typed on a terminal: lines, and texts of several lines."""

from __future__ import annotations

import sys
from contextlib import suppress

_QUOTES = '"""'


def next_input() -> str | None:
    """Return what is typed, without spaces around it; None = the input has ended.

    A text of several lines stands between triple quotes. The first Ctrl-C on an empty
    line is forgiven, the second one raises KeyboardInterrupt.
    """
    try:
        return _text()
    except EOFError:
        print(file=sys.stderr)
        return None
    except KeyboardInterrupt:
        # It may have been meant for an answer that ended just before.
        print("\nCtrl-C once more, Ctrl-D or /bye to quit", file=sys.stderr)
    with suppress(EOFError):
        return _text()
    return None


def edited(text: str) -> str | None:
    """Let the user change a line; None if it is given up, or cannot be done here."""
    try:
        import readline
    except ImportError:  # Windows
        return None
    if "\n" in text or not sys.stdout.isatty():
        return None
    readline.set_startup_hook(lambda: readline.insert_text(text))
    try:
        return _read_line("edit> ")
    except (EOFError, KeyboardInterrupt):
        print(file=sys.stderr)
        return None
    finally:
        readline.set_startup_hook(None)


def _text() -> str:
    line = _read_line(">>> ").strip()
    if not line.startswith(_QUOTES):
        return line
    lines = [line.removeprefix(_QUOTES)]
    while not lines[-1].rstrip().endswith(_QUOTES):
        lines.append(_read_line("... "))
    lines[-1] = lines[-1].rstrip().removesuffix(_QUOTES)
    return "\n".join(lines).strip()


def _read_line(prompt: str) -> str:
    with suppress(ImportError):  # not on Windows
        import readline  # noqa: F401 - gives input() editing and history

    if not sys.stdout.isatty():  # stdout is for answers
        print(prompt, end="", file=sys.stderr, flush=True)
        prompt = ""
    # What is no UTF-8 comes as halves of characters, which can be stored nowhere.
    return input(prompt).encode("utf-8", "replace").decode("utf-8")
