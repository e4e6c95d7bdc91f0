"""A terminal that is gone ends the app, and nothing waits for it."""

from __future__ import annotations

import os
import pty
import signal
import sys
from collections.abc import Iterator

import pytest

if sys.platform == "win32":
    pytest.skip("no pseudo-terminals", allow_module_level=True)

from tui.driver import Output


@pytest.fixture
def hang_ups() -> Iterator[list[int]]:
    """The signals that came for a terminal that is gone."""
    came: list[int] = []
    before = signal.signal(signal.SIGHUP, lambda number, _: came.append(number))
    yield came
    signal.signal(signal.SIGHUP, before)


def test_what_is_written_on_a_closed_terminal_is_gone(hang_ups: list[int]) -> None:
    window, terminal = pty.openpty()
    with os.fdopen(terminal, "w") as file:
        output = Output(file)
        output.write("seen\n")
        output.flush()
        assert os.read(window, 100) == b"seen\r\n"
        assert hang_ups == []
        os.close(window)
        output.write("not seen\n")
        output.flush()
        assert hang_ups == [signal.SIGHUP]
        for _ in range(100):
            output.write("not seen\n" * 100)
        output.flush()
    assert hang_ups == [signal.SIGHUP]
