"""How far a load into RAM is, from what the process has got."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from engram_local.errors import Interrupted
from engram_local.llama import interrupt, load_watch
from engram_local.llama.load_watch import Arrival, Counters, watched
from engram_local.units import MIB


class Process:
    """A process whose counters a test sets."""

    def __init__(self) -> None:
        self.own, self.read = 500, 70

    def count(self) -> Counters:
        return Counters(own_bytes=self.own, read_bytes=self.read)


def test_between_two_tensors_own_memory_tells() -> None:
    process = Process()
    arrival = Arrival(1000, process.count)
    arrival.note(0.1)
    assert arrival.now() == ("loading the model", 0.1)
    process.own += 250
    assert arrival.now() == ("loading the model", pytest.approx(0.35))
    arrival.note(0.9)  # that tensor is done; so much of it had been there before
    assert arrival.now() == ("loading the model", 0.9)
    process.own += 400
    assert arrival.now() == ("loading the model", 1.0)


def test_memory_that_was_locked_before_fills_by_read_calls() -> None:
    process = Process()
    arrival = Arrival(1000, process.count)
    process.own, process.read = 1000, 90
    assert arrival.now() == ("locking memory for it", 0.5)
    arrival.note(0.0)
    process.read += 300
    assert arrival.now() == ("loading the model", pytest.approx(0.3))


def test_memory_that_shrinks_is_no_progress() -> None:
    process = Process()
    arrival = Arrival(1000, process.count)
    arrival.note(0.0)
    process.own = 0
    assert arrival.now() == ("loading the model", 0.0)


def test_after_ctrl_c_it_says_how_to_end_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arrival = Arrival(1000, Process().count)
    monkeypatch.setattr(interrupt, "requested", lambda: True)
    assert "Ctrl-C once more" in arrival.now()[0]


def test_a_thread_shows_it_until_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_watch, "_INTERVAL_S", 0.001)
    shown: list[tuple[str, float]] = []
    names, seen = set(), threading.Event()

    def progress(what: str, part: float) -> None:
        names.add(threading.current_thread().name)
        shown.append((what, part))
        if part >= 0.5:
            seen.set()

    with watched(1000, progress) as arrival:
        arrival.note(0.5)
        assert seen.wait(60)
    assert names == {"load watch"}
    assert not any(thread.name == "load watch" for thread in threading.enumerate())
    n_shown = len(shown)
    arrival.note(0.9)
    assert len(shown) == n_shown


def test_a_system_that_does_not_tell_of_reads_counts_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def denied(_process: object) -> None:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil.Process, "io_counters", denied)
    assert load_watch.count().read_bytes == 0


def test_this_process_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(4 * MIB))
    before = load_watch.count()
    data = np.frombuffer(path.read_bytes(), np.uint8)
    own = np.ones(64 * MIB, np.uint8)
    after = load_watch.count()
    assert after.read_bytes - before.read_bytes >= data.size
    assert after.own_bytes - before.own_bytes >= own.size - MIB


def test_who_is_shown_it_can_end_it() -> None:
    def end(what: str, part: float) -> None:
        raise Interrupted("enough")

    with pytest.raises(Interrupted, match="enough"), watched(1000, end) as arrival:
        for _ in range(1000):
            arrival.note(0.5)
            time.sleep(0.01)
