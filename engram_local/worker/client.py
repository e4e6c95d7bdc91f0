"""The engine's process as a screen sees it: ask, be told, cancel, end it. asyncio.

Nothing here waits for long but what is awaited, and no thread is started.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import Protocol

from engram_local import relay
from engram_local.errors import EngramError, WorkerLostError
from engram_local.units import MIB, escape_control
from engram_local.worker import codec
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

_COMMAND = (sys.executable, "-m", "engram_local.worker.child")
_LINE_BYTES = 64 * MIB
"""The longest line; the trace of 20,000 tokens is one of 2 MiB."""

_LOG_LINES = 500
_LAST_LINES = 20
_GRACE_S = 3.0
"""For a process whose stdin has ended, which takes at most 2 s; then it is killed."""

_REST_S = 1.0
"""For what is still in its pipes, which somebody else might keep open."""

_KILLED = -9
_OUT_OF_MEMORY = "the system may have run out of memory"
_MIXED = "two versions were mixed, maybe by an update: start again"

_HELLO = 0


class EnginePort(Protocol):
    """An engine somewhere else. Use from one asyncio loop."""

    @property
    def pid(self) -> int | None:
        """The process; None while there is none."""

    @property
    def log(self) -> deque[str]:
        """What it wrote on stderr, printable, the newest last."""

    async def start(self) -> Hello:
        """Start the process; once. Raises WorkerLostError."""

    def ask(self, request: Request) -> AsyncIterator[Event]:
        """Send a request when the iteration begins; yield its events but `Done`.

        Raises EngramError with the values of `Failed`, and WorkerLostError if the
        process has ended. Who stops in the middle, or is cancelled, cancels the
        request. Requests that are asked at the same time are done in order.
        """

    def cancel(self) -> None:
        """End the request that is being done; its iteration ends by itself."""

    async def close(self) -> None:
        """End the process. Calling it twice is fine; iterations raise WorkerLostError.

        If this is cancelled, the process ends by itself a little later.
        """


class EngineClient:
    """An `EnginePort` with a child process, in a session of its own.

    So Ctrl-C reaches only us. The child ends when its stdin does: also when we are
    killed. A new process takes a new client.
    """

    def __init__(
        self, *, on_log: Callable[[str], None], command: Sequence[str] | None = None
    ) -> None:
        """on_log: called with each line of `log`. command: in place of our child's."""
        self.log: deque[str] = deque(maxlen=_LOG_LINES)
        self._on_log = on_log
        self._command = tuple(command or _COMMAND)
        self._numbers = itertools.count(_HELLO + 1)
        self._answers: dict[int, asyncio.Queue[Event | EngramError]] = {}
        """By request, the oldest first; only those whose end is awaited."""
        self._process: asyncio.subprocess.Process | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False
        self._lost: EngramError | None = None

    @property
    def pid(self) -> int | None:
        """See `EnginePort.pid`."""
        is_there = self._process is not None and self._process.returncode is None
        return self._process.pid if self._process is not None and is_there else None

    async def start(self) -> Hello:
        """See `EnginePort.start`."""
        answers = self._answers[_HELLO] = asyncio.Queue()
        self._process = process = await self._create()
        stderr = asyncio.create_task(self._read_log(process), name="engine log")
        events = asyncio.create_task(self._read(process, stderr), name="engine events")
        self._tasks = [stderr, events]
        hello = await answers.get()
        self._answers.pop(_HELLO, None)
        try:
            return _checked(_raised(hello))
        except EngramError:
            await self.close()
            raise

    async def ask(self, request: Request) -> AsyncIterator[Event]:
        """See `EnginePort.ask`."""
        number, answers = next(self._numbers), asyncio.Queue[Event | EngramError]()
        self._send(number, request)
        self._answers[number] = answers
        try:
            while not isinstance(event := await answers.get(), Done):
                yield _raised(event)
        finally:
            if self._answers.pop(number, None) is not None:  # it is still being done
                with suppress(EngramError):
                    self._send(number, Cancel())

    def cancel(self) -> None:
        """See `EnginePort.cancel`."""
        if self._answers:
            with suppress(EngramError):  # nothing is being done any more
                self._send(next(iter(self._answers)), Cancel())

    async def close(self) -> None:
        """See `EnginePort.close`."""
        self._closed = True
        if self._process is not None:
            await _ended(self._process)
            _, pending = await asyncio.wait(self._tasks, timeout=2 * _REST_S)
            for task in pending:
                task.cancel()
            self._lose(WorkerLostError("the engine was closed"))

    # --- the process --------------------------------------------------------------

    async def _create(self) -> asyncio.subprocess.Process:
        # numpy's product of a few rows would wake threads, against llama.cpp's.
        environ = {"OPENBLAS_NUM_THREADS": "1", **os.environ}
        try:
            return await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=_LINE_BYTES,
                env=environ,
                start_new_session=True,
            )
        except OSError as error:
            self._lost = WorkerLostError(
                f"the engine's process cannot be started: {error}"
            )
            raise self._lost from error

    def _send(self, number: int, request: Request) -> None:
        if self._lost is not None:
            raise self._lost
        if self._process is None or self._closed:
            raise WorkerLostError("the engine's process does not run")
        assert self._process.stdin is not None
        # Without `drain`: requests are small, and that the pipe is broken shows below.
        self._process.stdin.write(codec.encode(number, request))

    async def _read(
        self, process: asyncio.subprocess.Process, stderr: asyncio.Task[None]
    ) -> None:
        """Give events to who waits for them until there are none any more."""
        assert process.stdout is not None
        problem: Exception | None = None
        try:
            async for line in process.stdout:
                if not line.endswith(b"\n"):  # its end is missing, and nothing follows
                    break
                self._give(*codec.decode_event(line))
                await asyncio.sleep(0)  # a burst of events must not stop the screen
        except (EngramError, ValueError) as error:  # ValueError: too long a line
            problem = error
            _kill(process)
        await _ended(process)
        await asyncio.wait([stderr], timeout=_REST_S)
        self._lose(self._ending(process, problem))

    def _give(self, number: int, event: Event) -> None:
        answers = self._answers.get(number)
        if answers is not None:  # else nobody wants to know
            answers.put_nowait(event)
            if isinstance(event, Done | Failed):
                del self._answers[number]

    def _ending(
        self, process: asyncio.subprocess.Process, problem: Exception | None
    ) -> WorkerLostError:
        assert process.returncode is not None
        log = tuple(self.log)[-_LAST_LINES:]
        if self._closed:
            return WorkerLostError("the engine was closed", log=log)
        if problem is not None:
            what = f"what the engine's process said is not understood: {problem}"
            return WorkerLostError(what, log=log, hint=_MIXED)
        return WorkerLostError(
            f"the engine's process {relay.how_it_ended(process.returncode)}",
            log=log,
            hint=_OUT_OF_MEMORY if process.returncode == _KILLED else None,
        )

    def _lose(self, error: EngramError) -> None:
        self._lost = self._lost or error
        for answers in self._answers.values():
            answers.put_nowait(self._lost)
        self._answers.clear()

    async def _read_log(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        while True:
            try:
                line = await process.stderr.readline()
            except ValueError:  # too long a line, which is gone now
                continue
            if not line:
                return
            self._tell(escape_control(line.decode("utf-8", "replace").rstrip("\n")))

    def _tell(self, line: str) -> None:
        self.log.append(line)
        try:
            self._on_log(line)
        except Exception:
            # The log must be read on: a full pipe would stop the engine.
            logger.exception("a line of the engine's log could not be shown")


async def _ended(process: asyncio.subprocess.Process) -> None:
    """Give a process no reason to go on, and wait for its end; at last kill it."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        await asyncio.wait_for(process.wait(), _GRACE_S)
    except TimeoutError:
        _kill(process)
        await process.wait()


def _kill(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):  # it was faster
        process.kill()


def _checked(event: Event) -> Hello:
    """Return the first event, which has to be right."""
    if not isinstance(event, Hello):
        kind = type(event).__name__
        raise WorkerLostError(f"the engine's process began with {kind}", hint=_MIXED)
    if event.protocol != PROTOCOL:
        raise WorkerLostError(
            f"the engine's process speaks protocol {event.protocol}, this program "
            f"{PROTOCOL}",
            hint=_MIXED,
        )
    return event


def _raised(event: Event | EngramError) -> Event:
    """Return an event; raise what is an error."""
    if isinstance(event, EngramError):
        raise event
    if isinstance(event, Failed):
        raise relay.relayed(
            {
                "code": event.code,
                "exit_code": event.exit_code,
                "message": event.message,
                "hint": event.hint,
            }
        )
    return event
