"""Ctrl-C while native code runs: kept back, then handed to Python."""

from __future__ import annotations

import ctypes
import signal
import threading

import pytest

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
