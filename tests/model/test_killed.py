"""Commands that make files, ended in the middle: nothing of them is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(
        not sys.platform.startswith("linux"), reason="files without a name: Linux only"
    ),
]

PATIENCE_S = 120.0
BENCH = ("bench", "--synthetic", "256x8", "--table", "32M", "-r", "999", "-t", "1")
PROBE = ("probe", "--quick", "-t", "1")


def writes(process: subprocess.Popen[bytes], folder: Path) -> bool:
    """Return whether a process has a file in the folder that is not empty."""
    for path in Path(f"/proc/{process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it was closed meanwhile
            if os.readlink(path).startswith(f"{folder}/") and path.stat().st_size:
                return True
    return False


def measures(process: subprocess.Popen[bytes], folder: Path) -> bool:
    """Return whether a worker has a file of the folder open or mapped."""
    for child in psutil.Process(process.pid).children():
        with suppress(OSError):  # it ended meanwhile
            if str(folder) in Path(f"/proc/{child.pid}/maps").read_text():
                return True
    return False


@pytest.mark.usefixtures("quantized")
@pytest.mark.parametrize("moment", [writes, measures])
@pytest.mark.parametrize(
    ("words", "number"),
    [
        (BENCH, signal.SIGKILL),
        (BENCH, signal.SIGTERM),
        (BENCH, signal.SIGINT),
        (PROBE, signal.SIGKILL),
    ],
)
def test_nothing_is_left(
    words: tuple[str, ...],
    moment: Callable[[subprocess.Popen[bytes], Path], bool],
    number: signal.Signals,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    folder, home = tmp_path / "files", tmp_path / "home"
    folder.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "engram_local", *words, "--dir", str(folder)],
        env={**os.environ, "XDG_CACHE_HOME": str(home)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    request.addfinalizer(process.kill)  # it would go on for ever after a failure here
    end = time.monotonic() + PATIENCE_S
    while not moment(process, folder):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == {2: 130, 15: 143}.get(number, -number)
    assert b"Traceback" not in err
    assert list(folder.iterdir()) == []
    _, alive = psutil.wait_procs(children, timeout=PATIENCE_S)
    assert [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []
    assert not [path for path in home.rglob("*") if path.is_file()]
