"""Ctrl-C while native code runs: kept back, then handed to Python."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import engram_local
from engram_local.llama import interrupt


def should_abort() -> bool:
    """Ask what llama.cpp asks between two graph nodes."""
    callback = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p)
    return bool(callback(interrupt.abort_callback())(None))


def test_ctrl_c_is_kept_back_until_the_block_ends() -> None:
    steps = []
    with pytest.raises(KeyboardInterrupt), interrupt.deferred():
        assert not should_abort()
        signal.raise_signal(signal.SIGINT)
        steps.append(should_abort())
        steps.append(interrupt.requested())
    assert steps == [True, True]
    assert not should_abort()


def test_the_handler_of_whoever_runs_the_engine_is_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    signals: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: signals.append(number))
    try:
        with interrupt.deferred():
            signal.raise_signal(signal.SIGINT)
            assert signals == []
        assert signals == [signal.SIGINT]
        signal.raise_signal(signal.SIGINT)
        assert len(signals) == 2  # Python's own handling is back
    finally:
        signal.signal(signal.SIGINT, before)


def test_nothing_happens_without_ctrl_c() -> None:
    with interrupt.deferred():
        assert not should_abort()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_ctrl_c_still_ends_a_wait_afterwards() -> None:
    with interrupt.deferred():
        pass
    lock = threading.Lock()
    lock.acquire()
    main = threading.get_ident()
    ctrl_c = threading.Timer(0.05, signal.pthread_kill, (main, signal.SIGINT))
    give_up = threading.Timer(10, lock.release)
    ctrl_c.start()
    give_up.start()
    with pytest.raises(KeyboardInterrupt):
        lock.acquire()
    give_up.cancel()
    assert lock.locked()


def test_other_threads_leave_the_handler_alone() -> None:
    handlers = []

    def look() -> None:
        with interrupt.deferred():
            handlers.append(interrupt._libc().signal(signal.SIGINT, 0))
            interrupt._libc().signal(signal.SIGINT, handlers[0])

    before = interrupt._libc().signal(signal.SIGINT, 0)
    interrupt._libc().signal(signal.SIGINT, before)
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert handlers == [before]


TWICE = """
import os, signal, sys, threading, time
from contextlib import nullcontext
from engram_local.llama import interrupt

def press():
    os.kill(os.getpid(), signal.SIGINT)

twice_ends, elsewhere = (word == "yes" for word in sys.argv[1:])
# Who ends the process may be another thread than the one that is busy.
threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
try:
    with interrupt.deferred(twice_ends=twice_ends):
        with interrupt.taken_elsewhere() if elsewhere else nullcontext():
            press()
            while not interrupt.requested():
                time.sleep(0.01)
            print("first", flush=True)
            press()
            time.sleep(60 * twice_ends)
            print("second", flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def press_twice(twice_ends: str, elsewhere: str) -> tuple[int, list[str]]:
    root = Path(engram_local.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", TWICE, twice_ends, elsewhere],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout.splitlines()


@pytest.mark.parametrize("elsewhere", ["yes", "no"])
def test_a_second_ctrl_c_ends_a_load_at_once(elsewhere: str) -> None:
    assert press_twice("yes", elsewhere) == (130, ["first"])


def test_a_second_ctrl_c_in_other_blocks_is_one() -> None:
    code, said = press_twice("no", "yes")
    assert (code, said) == (0, ["first", "second", "interrupted"])


def test_each_block_begins_without_ctrl_c() -> None:
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), interrupt.deferred(twice_ends=True):
            assert not interrupt.requested() and not should_abort()
            signal.raise_signal(signal.SIGINT)
            assert interrupt.requested() and should_abort()
    assert not interrupt.requested()


def test_ctrl_c_that_was_left_to_others_comes_back() -> None:
    with interrupt.taken_elsewhere():
        assert signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


ABORT_ONLY = """
from engram_local.llama import interrupt
compile_it, names = interrupt.native, []
interrupt.native = lambda signature: lambda function: (
    names.append(function.__name__), compile_it(signature)(function)
)[1]
interrupt.abort_callback()
print(*names)
"""


def test_what_llama_asks_needs_no_handler() -> None:
    # It writes with a function that Windows does not have, and would not be linked.
    done = subprocess.run(
        [sys.executable, "-c", ABORT_ONLY], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["_should_abort"]


def test_another_thread_does_as_ctrl_c_does() -> None:
    with pytest.raises(KeyboardInterrupt), interrupt.deferred():
        thread = threading.Thread(target=interrupt.request)
        thread.start()
        thread.join()
        assert interrupt.requested() and should_abort()
    assert not should_abort()


def test_a_request_while_nothing_runs_ends_nothing() -> None:
    interrupt.request()
    with interrupt.deferred():
        assert not interrupt.requested() and not should_abort()


def test_who_ignores_ctrl_c_is_not_told_of_a_request() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupt.deferred():
            interrupt.request()
            assert should_abort()
    finally:
        signal.signal(signal.SIGINT, before)
    assert not should_abort()
