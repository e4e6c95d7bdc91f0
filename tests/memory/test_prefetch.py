"""The thread that prepares ahead: complete, in order, honest about errors, joined."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError

import pytest

from engram_local.errors import TableError
from engram_local.memory.prefetch import Inline, Prefetcher, Preparer


def prefetch_threads() -> list[str]:
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith("engram-prefetch")]


@pytest.fixture(params=[Prefetcher, Inline])
def preparer(request: pytest.FixtureRequest) -> Iterator[Preparer]:
    made: Preparer = request.param()
    yield made
    made.close()


def test_no_result_is_dropped(preparer: Preparer) -> None:
    pending = [preparer.submit(lambda i=i: i * i) for i in range(500)]
    assert [one.wait()[0] for one in pending] == [i * i for i in range(500)]


def test_results_may_be_asked_for_in_any_order(preparer: Preparer) -> None:
    pending = [preparer.submit(lambda i=i: i) for i in range(10)]
    assert [one.wait()[0] for one in reversed(pending)] == list(reversed(range(10)))


def test_work_is_done_once_however_often_it_is_asked_for(preparer: Preparer) -> None:
    calls: list[int] = []
    pending = preparer.submit(lambda: calls.append(1) or len(calls))
    assert [pending.wait()[0] for _ in range(3)] == [1, 1, 1]


def test_an_error_reaches_whoever_waits_and_nobody_else(preparer: Preparer) -> None:
    def fail() -> int:
        raise TableError("the drive is gone")

    before = preparer.submit(lambda: 1)
    broken = preparer.submit(fail)
    after = preparer.submit(lambda: 2)
    with pytest.raises(TableError, match="the drive is gone"):
        broken.wait()
    assert (before.wait()[0], after.wait()[0]) == (1, 2)


def test_waiting_is_never_negative(preparer: Preparer) -> None:
    pending = preparer.submit(lambda: None)
    assert pending.wait()[1] >= 0


def test_closing_twice_is_fine(preparer: Preparer) -> None:
    preparer.close()
    preparer.close()


def test_work_is_made_in_the_order_it_came() -> None:
    preparer = Prefetcher()
    order: list[int] = []
    pending = [preparer.submit(lambda i=i: order.append(i)) for i in range(100)]
    pending[-1].wait()
    assert order == list(range(100))
    preparer.close()


def test_the_thread_has_a_name_and_is_joined() -> None:
    preparer = Prefetcher()
    name = preparer.submit(lambda: threading.current_thread().name).wait()[0]
    assert name.startswith("engram-prefetch")
    assert prefetch_threads() == [name]
    preparer.close()
    assert prefetch_threads() == []


def test_ready_tells_whether_the_work_is_done() -> None:
    preparer = Prefetcher()
    go_on = threading.Event()
    pending = preparer.submit(go_on.wait)
    assert not pending.ready
    go_on.set()
    pending.wait()
    assert pending.ready
    preparer.close()


def test_closing_ends_running_work_and_forgets_the_rest() -> None:
    preparer = Prefetcher()
    begun, go_on = threading.Event(), threading.Event()

    def work() -> str:
        begun.set()
        go_on.wait()
        return "done"

    running, waiting = preparer.submit(work), preparer.submit(lambda: "never")
    begun.wait()
    closer = threading.Thread(target=preparer.close)
    closer.start()
    with pytest.raises(CancelledError):
        waiting.wait()
    go_on.set()
    closer.join()
    assert running.wait()[0] == "done"


def test_without_a_thread_nothing_is_made_before_it_is_asked_for() -> None:
    preparer = Inline()
    calls: list[int] = []
    pending = preparer.submit(lambda: calls.append(1))
    assert not pending.ready
    assert calls == []
    pending.wait()
    assert calls == [1]
    assert prefetch_threads() == []
