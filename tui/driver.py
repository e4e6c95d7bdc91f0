"""How the app uses its terminal: Textual's way, but it ends when the terminal does.

Without this the thread that writes would end instead, the app would wait for it for
ever, and nobody would see either.
"""

from __future__ import annotations

import os
import signal
from typing import Any, TextIO

from textual.drivers.linux_driver import LinuxDriver


class TerminalDriver(LinuxDriver):
    """For all systems but Windows."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        assert self._file is not None
        self._file = Output(self._file)  # type: ignore[assignment]

    def run_input_thread(self) -> None:
        """Read keys until the app ends, or the terminal does."""
        try:
            super().run_input_thread()
        except OSError:
            _hang_up()


class Output:
    """A terminal to write on; once it is gone, what is written is too."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> None:
        """Write a text."""
        try:
            self._file.write(text)
        except OSError:
            self._give_up()

    def flush(self) -> None:
        """Write what was not written yet."""
        try:
            self._file.flush()
        except OSError:
            self._give_up()

    def fileno(self) -> int:
        """Return the number of the file."""
        return self._file.fileno()

    def _give_up(self) -> None:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, self._file.fileno())  # for what is in buffers
        os.close(nothing)
        _hang_up()


def _hang_up() -> None:
    """Do what the system does for most programs whose terminal is gone."""
    os.kill(os.getpid(), signal.SIGHUP)
