"""A terminal for programs that draw on one: type into it, read what they wrote.

Run as a program it is what a shell is to the program in it: it holds the terminal, so
that what the program has left of it can be looked at.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Self

PATIENCE_S = 60.0
"""Longer means that what is waited for will not come."""

KEYS = {
    "enter": "\r",
    "escape": "\x1b",
    "alt+left": "\x1b[1;3D",
    "f1": "\x1bOP",
    "f2": "\x1bOQ",
    "f3": "\x1bOR",
    "f4": "\x1bOS",
    **{f"f{n}": f"\x1b[{code}~" for n, code in enumerate((15, 17, 18, 19, 20), 5)},
    **{f"ctrl+{letter}": chr(ord(letter) - 96) for letter in "bcopqrt"},
}
"""What a terminal sends for them."""

_MOVES = re.compile(rb"\x1b\[[\d;]*H")
_ESCAPES = re.compile(
    rb"\x1b(\[[0-?]*[ -/]*[@-~]|[P\]_^].*?(\x1b\\|\x07)|.)", re.DOTALL
)


class Terminal:
    """A program in a terminal. One owner; a thread reads what the program writes."""

    def __init__(
        self,
        *command: str,
        environ: Mapping[str, str],
        columns: int = 120,
        lines: int = 40,
    ) -> None:
        """Start the command as a shell would. environ: is added to ours."""
        self.output = b""
        """All that was written."""

        self._sent_at = 0
        self._code: int | None = None
        self._is_open = self._reads = True
        self._master, slave = pty.openpty()
        self.resize(columns, lines)
        self.modes_before = self.modes()
        self._leader = subprocess.Popen(
            [sys.executable, __file__, os.ttyname(slave), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, "TERM": "xterm-256color", **environ},
            start_new_session=True,
        )
        os.close(slave)
        assert self._leader.stdout is not None
        self.pid = int(self._leader.stdout.readline())
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def press(self, *keys: str) -> None:
        """Press keys by their names; what is no name is typed."""
        self._sent_at = len(self.output)
        for key in keys:
            os.write(self._master, KEYS.get(key, key).encode())

    def shown(self) -> str:
        """Return what was drawn since the last key, without colours, moves as lines."""
        text = _MOVES.sub(b"\n", self.output[self._sent_at :])
        return _ESCAPES.sub(b"", text).decode("utf-8", "replace")

    def wait_for(self, text: str) -> None:
        """Wait until a text was drawn since the last key."""
        self.wait_until(lambda: text in self.shown(), f"{text!r} is drawn")

    def wait_until(self, is_so: Callable[[], Any], what: str) -> None:
        """Wait for something while the program runs."""
        end = time.monotonic() + PATIENCE_S
        while not is_so():
            assert not self.has_ended(), f"ended before {what}:\n{self.shown()}"
            assert time.monotonic() < end, f"not so that {what}:\n{self.shown()}"
            time.sleep(0.01)

    def exit_code(self) -> int:
        """Wait for the end of the program; a signal is a negative number."""
        end = time.monotonic() + PATIENCE_S
        while not self.has_ended():
            assert time.monotonic() < end, f"it does not end:\n{self.shown()}"
            time.sleep(0.01)
        self._stop_reading()
        while self._is_open and self._take(0):
            pass
        assert self._code is not None
        return self._code

    def has_ended(self) -> bool:
        """Return whether the program has ended."""
        said = self._leader.stdout
        assert said is not None
        if self._code is None and select.select([said], [], [], 0)[0]:
            self._code = int(said.readline())
        return self._code is not None

    def modes(self) -> list[Any]:
        """Return the terminal's modes, as termios has them."""
        return termios.tcgetattr(self._master)

    def resize(self, columns: int, lines: int) -> None:
        """Change the size; the system tells the program."""
        self._sent_at = len(self.output)
        size = struct.pack("HHHH", lines, columns, 0, 0)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)

    def hang_up(self) -> None:
        """Close the terminal's window."""
        self._stop_reading()
        if self._is_open:
            self._is_open = False
            os.close(self._master)

    def close(self) -> None:
        """End all that still runs."""
        self.hang_up()
        with suppress(ProcessLookupError):
            if not self.has_ended():
                os.kill(self.pid, signal.SIGKILL)
        self._leader.communicate(timeout=PATIENCE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _stop_reading(self) -> None:
        self._reads = False
        self._reader.join()

    def _read(self) -> None:
        while self._reads:
            self._take(0.05)

    def _take(self, seconds: float) -> bool:
        """Wait for what is written; tell whether something was."""
        is_more = bool(select.select([self._master], [], [], seconds)[0])
        if is_more:
            self.output += os.read(self._master, 65536)
        return is_more


def lead(name: str, *command: str) -> None:
    """Begin a session on a terminal, run a command, and say its pid and its end."""
    signal.signal(signal.SIGHUP, lambda *_: None)  # the command still gets it
    terminal = os.open(name, os.O_RDWR)  # a session's leader gets the first one so
    process = subprocess.Popen(
        command, stdin=terminal, stdout=terminal, stderr=terminal
    )
    print(process.pid, flush=True)
    print(process.wait(), flush=True)
    sys.stdin.read()  # the terminal stays as it is


if __name__ == "__main__":
    lead(*sys.argv[1:])
