"""A program in a pseudo-terminal: keys are pressed, and what it writes is read."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import termios
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

import psutil

LIMIT_S = 60.0
"""Longer than anything takes; whoever waits so long will wait forever."""

_STEP_S = 0.05
_ESCAPES = re.compile(r"\x1b(\[[0-9;?<>=]*[ -/]*[@-~]|[()][A-Z0-9]|[=>])")


class Terminal:
    """Starts a program; kills it and all that it started at the end of a `with`."""

    def __init__(
        self,
        command: list[str],
        environment: Mapping[str, str],
        *,
        columns: int = 120,
        lines: int = 40,
    ) -> None:
        self.written = ""
        """All that it wrote, with its escape sequences."""

        self._file: int | None
        self._pid, self._file = pty.fork()
        if self._pid == 0:
            os.execvpe(command[0], command, {**environment, "TERM": "xterm-256color"})
        self.resize(columns, lines)
        self.process = psutil.Process(self._pid)
        self._code: int | None = None
        self._seen: set[psutil.Process] = set()

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *exc: object) -> None:
        for process in (*self.children(), self.process):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.hang_up()
        if self._code is None:
            os.waitpid(self._pid, 0)

    @property
    def text(self) -> str:
        """All that it wrote, as far as that is text."""
        return _ESCAPES.sub("", self.written)

    def children(self) -> list[psutil.Process]:
        """Return the processes that it started and that still run."""
        with suppress(psutil.NoSuchProcess):
            self._seen.update(self.process.children(recursive=True))
        return [one for one in self._seen if _runs(one)]

    def press(self, *keys: str) -> None:
        """Send keys, as a terminal does: "a", "\\r", "\\x1b[13~"."""
        assert self._file is not None
        for key in keys:
            os.write(self._file, key.encode())
            self.read(_STEP_S)

    def resize(self, columns: int, lines: int) -> None:
        """Give the terminal another size; the program hears of it."""
        assert self._file is not None
        size = struct.pack("HHHH", lines, columns, 0, 0)
        fcntl.ioctl(self._file, termios.TIOCSWINSZ, size)

    def read(self, seconds: float = _STEP_S) -> None:
        """Take what comes in some time."""
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0:
            if self._file is None:
                time.sleep(left_s)
                return
            if not select.select([self._file], [], [], left_s)[0]:
                return
            try:
                data = os.read(self._file, 65536)
            except OSError:  # it has ended
                time.sleep(left_s)
                return
            self.written += data.decode("utf-8", "replace")

    def wait(self, is_done: Callable[[], object]) -> None:
        """Read until something is done."""
        end_s = time.monotonic() + LIMIT_S
        while not is_done():
            assert time.monotonic() < end_s, f"waited too long: {self.text[-2000:]}"
            self.read()

    def wait_for(self, words: str) -> None:
        """Read until something is written that was not before."""
        begin = len(self.text)
        self.wait(lambda: words in self.text[begin:])

    def hang_up(self) -> None:
        """Be closed by the user. Calling it twice is fine."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def exit_code(self) -> int:
        """Wait for its end; 128 and the signal if one killed it."""
        self.wait(self._has_ended)
        assert self._code is not None
        return self._code

    def _has_ended(self) -> bool:
        pid, status = os.waitpid(self._pid, os.WNOHANG)
        if pid:
            code = os.waitstatus_to_exitcode(status)
            self._code = code if code >= 0 else 128 - code
        return bool(pid)


def _runs(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False
