"""The chat app beside `run`: `python docs/benchmarks/tui_speed.py`, on a quiet machine.

Both answer the same question with the same tokens and one thread less than there are
cores, in turns, the app in a pseudo-terminal. Prints the ratio of their tokens per
second, and the time between two frames while the app's answer came: from the first byte
of one to the first byte of the next, as the terminal gets them.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import pty
import select
import sqlite3
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from statistics import median

from engram_local.settings import default_threads

PROMPT = "Tell me a long story about a lighthouse keeper and the sea."
COMMAND = [sys.executable, "-m", "engram_local"]
N_COLUMNS, N_LINES = 120, 40
FRAME_GAP_S = 0.002
"""What comes faster than this is the rest of a frame."""

LIMIT_S = 120.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=512, help="tokens of an answer")
    parser.add_argument("-r", type=int, default=9, help="turns")
    parser.add_argument("-t", type=int, default=max(1, default_threads() - 1))
    args = parser.parse_args()
    flags = ["-n", str(args.n), "-t", str(args.t), "--temp", "0", "--seed", "1"]
    ratios, twins, gaps = [], [], []
    for turn in range(args.r):
        before = run_speed(flags)
        app, frames_s = app_speed(flags)
        after = run_speed(flags)
        ratios.append(app / ((before + after) / 2))
        twins.append(after / before)
        gaps += [1e3 * (b - a) for a, b in pairwise(frames_s)]
        print(f"{turn}: run {before:.1f} and {after:.1f}, app {app:.1f} tokens/s")
    noise = median(abs(twin - 1) for twin in twins)
    print(f"app / run: median {median(ratios):.3f}, run twice differs by {noise:.3f}")
    gaps.sort()
    p50, p99 = gaps[len(gaps) // 2], gaps[int(0.99 * len(gaps))]
    print(
        f"{len(gaps)} frames: p50 {p50:.1f} ms, p99 {p99:.1f} ms, max {gaps[-1]:.1f} ms"
    )


def run_speed(flags: list[str]) -> float:
    """Return the tokens per second of `run`."""
    command = [*COMMAND, "run", "-p", PROMPT, "--json", *flags]
    result = subprocess.run(command, check=True, capture_output=True)
    speed: float = json.loads(result.stdout)["decode"]["tokens_per_s"]
    return speed


def app_speed(flags: list[str]) -> tuple[float, list[float]]:
    """Return the tokens per second of the app, and when its frames came."""
    with tempfile.TemporaryDirectory() as folder:
        terminal = Terminal([*COMMAND, "tui", *flags], {"XDG_DATA_HOME": folder})
        try:
            terminal.read_while(
                lambda: "· memory mmap" not in terminal.text
            )  # it is loaded
            terminal.write(PROMPT)
            terminal.read_for(3.0)  # nobody types faster, and the app has started
            asked_s = time.perf_counter()
            terminal.write("\r")
            path = Path(folder) / "engram-local" / "sessions.db"
            terminal.read_while(lambda: read_stats(path) is None)
            stats = read_stats(path)
        finally:
            terminal.close()
    assert stats is not None
    speed = stats["tokens_per_s"]
    begin_s = asked_s + stats["first_token_s"]
    end_s = begin_s + (stats["n_tokens"] - 1) / speed
    return speed, [at_s for at_s in terminal.frames_s if begin_s < at_s < end_s]


def read_stats(path: Path) -> dict[str, float] | None:
    """Return the numbers of the first answer that has ended; None = not yet."""
    if not path.exists():
        return None
    # Read only: whoever loads a session ends its unfinished answers.
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        query = "SELECT stats FROM messages WHERE stats IS NOT NULL"
        row = connection.execute(query).fetchone()
    return row and json.loads(row[0])


class Terminal:
    """A program in a pseudo-terminal, and when it wrote."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.frames_s: list[float] = []
        self.text = ""
        self._last_s = 0.0
        self._pid, self._file = pty.fork()
        if self._pid == 0:
            os.environ.update(environment, TERM="xterm-256color", COLORTERM="truecolor")
            os.execvp(command[0], command)
        size = struct.pack("HHHH", N_LINES, N_COLUMNS, 0, 0)
        fcntl.ioctl(self._file, termios.TIOCSWINSZ, size)

    def write(self, keys: str) -> None:
        """Press keys."""
        os.write(self._file, keys.encode())

    def read_for(self, seconds: float) -> None:
        """Read what comes in some time."""
        end = time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0:
            self._read(left)

    def read_while(self, goes_on: Callable[[], bool]) -> None:
        """Read until `goes_on()` is false, which is asked twice a second."""
        end = time.perf_counter() + LIMIT_S
        while goes_on():
            if time.perf_counter() > end:
                raise TimeoutError(self.text[-2000:])
            self.read_for(0.5)

    def close(self) -> None:
        """End the program."""
        self.write("\x11")
        self.read_for(1.0)
        os.close(self._file)
        os.waitpid(self._pid, 0)

    def _read(self, timeout_s: float) -> None:
        if not select.select([self._file], [], [], timeout_s)[0]:
            return
        try:
            data = os.read(self._file, 65536)
        except OSError:  # it has ended
            time.sleep(timeout_s)
            return
        now_s = time.perf_counter()
        if now_s - self._last_s > FRAME_GAP_S:
            self.frames_s.append(now_s)
        self._last_s = now_s
        self.text = (self.text + data.decode("utf-8", "replace"))[-200_000:]


if __name__ == "__main__":
    main()
