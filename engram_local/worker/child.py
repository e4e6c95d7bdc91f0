"""The engine's process: `python -m engram_local.worker.child`. Serves until stdin ends.

One thread reads: it queues requests, and acts on `Cancel` at once. The main thread does
them, as Python and llama.cpp want it. stdout is for events alone, whatever else is
printed goes to stderr, as does the log. When the last request is read, and on SIGTERM,
what is being done is ended; and if that takes too long, the process.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from functools import partial
from queue import SimpleQueue
from typing import BinaryIO, Protocol

from engram_local import __version__, relay
from engram_local.errors import EngramError
from engram_local.worker import codec
from engram_local.worker.call import Call
from engram_local.worker.protocol import (
    PROTOCOL,
    Cancel,
    Done,
    Event,
    Failed,
    Hello,
    Request,
)

logger = logging.getLogger(__name__)

_GRACE_S = 2.0
"""For ending what is being done and freeing the model. Native code may hang."""

_TOOK_TOO_LONG = 1
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class Doer(Protocol):
    """Who does requests: service.py."""

    def do(self, request: Request, call: Call) -> None:
        """Do a request, in the main thread; raises EngramError."""

    def interrupt(self) -> None:
        """End what is being done; called from any thread, also if nothing is."""

    def close(self) -> None:
        """Free everything."""


class Child:
    """Requests of one pipe done in order, their events written to another."""

    def __init__(self, doer: Doer, events: BinaryIO) -> None:
        self._doer = doer
        self._events = events
        self._writing = threading.Lock()
        self._requests: SimpleQueue[tuple[int, Request] | None] = SimpleQueue()
        self._ended = threading.Event()
        self._current: int | None = None
        self._cancelled: set[int] = set()
        self._cancelling = threading.Lock()
        """Over the two above: what ends one request must not hit the next."""

    def serve(self) -> None:
        """Do requests until there will be none any more; in the main thread."""
        self._say(0, Hello(protocol=PROTOCOL, version=__version__, pid=os.getpid()))
        while (asked := self._requests.get()) is not None and not self._ended.is_set():
            self._do(*asked)
        self._doer.close()

    def read(self, lines: Iterable[bytes]) -> None:
        """Take requests until they end; in a thread of its own."""
        try:
            for line in lines:
                self._take(*codec.decode_request(line))
        except EngramError as error:  # half a line, if the parent was killed
            logger.error("error[%s]: %s", error.code, error.message)
        self.end()

    def end(self) -> None:
        """End what is being done and `serve`, or the process; from any thread."""
        if not self._ended.is_set():
            self._ended.set()
            last = threading.Timer(_GRACE_S, os._exit, [_TOOK_TOO_LONG])
            last.daemon = True
            last.start()
            self._doer.interrupt()
            self._requests.put(None)

    def _take(self, number: int, request: Request) -> None:
        if not isinstance(request, Cancel):
            self._requests.put((number, request))
            return
        with self._cancelling:
            self._cancelled.add(number)
            if number == self._current:
                self._doer.interrupt()

    def _do(self, number: int, request: Request) -> None:
        with self._cancelling:
            self._current = number
        try:
            end = self._end_of(request, self._call(number))
        finally:
            with self._cancelling:
                self._current = None
                self._cancelled.discard(number)
        self._say(number, end)

    def _end_of(self, request: Request, call: Call) -> Done | Failed:
        """Do a request and return its last event."""
        try:
            call.check()
            self._doer.do(request, call)
        except EngramError as error:
            return Failed(**relay.values_of(error))
        except Exception as error:
            logger.exception("%s failed", type(request).__name__)
            what = f"{type(error).__name__}: {error}"
            return Failed(code="internal", exit_code=1, message=what, hint=None)
        return Done()

    def _call(self, number: int) -> Call:
        def is_cancelled() -> bool:
            return number in self._cancelled or self._ended.is_set()

        return Call(partial(self._say, number), is_cancelled)

    def _say(self, number: int, event: Event) -> None:
        try:
            with self._writing:
                self._events.write(codec.encode(number, event))
                self._events.flush()
        except OSError:  # nobody listens any more
            self.end()


def run(make_doer: Callable[[], Doer]) -> None:
    """Be the process; does not return."""
    events = relay.take_stdout()
    _take_signals()
    _log_to_stderr()
    child = Child(make_doer(), events.buffer)
    # A reader of its own: Python locks sys.stdin when it ends, where one thread waits.
    requests = open(os.dup(sys.stdin.fileno()), "rb")  # noqa: SIM115
    for task in (partial(child.read, requests), partial(_await_sigterm, child)):
        threading.Thread(target=task, daemon=True).start()
    child.serve()
    sys.stderr.flush()
    os._exit(0)  # no finalizer of a library may hang any more


def _take_signals() -> None:
    """Ctrl-C is the parent's, which says so; SIGTERM is for a thread that waits."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if _HAS_MASKS:
        # Also where llama/interrupt.py handles it: threads inherit this.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})


def _await_sigterm(child: Child) -> None:
    if _HAS_MASKS:
        signal.sigwait({signal.SIGTERM})
        child.end()


_HAS_MASKS = sys.platform != "win32"


def _log_to_stderr() -> None:
    logging.basicConfig(format=_FORMAT, datefmt="%H:%M:%S")
    for name in ("engram_local", "llama.cpp"):
        logging.getLogger(name).setLevel(logging.INFO)


def main() -> None:
    """Serve an engine."""
    from engram_local.worker.service import Service  # llama.cpp: 1 s; not for tests

    run(Service)


if __name__ == "__main__":
    main()
