"""The engine as screens see it: requests in, events out, one state for all widgets."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace

import psutil
from textual.dom import DOMNode
from textual.signal import Signal

from engram_local.errors import EngramError, WorkerLostError
from engram_local.telemetry import measure_machine_ram, measure_resources
from engram_local.worker.client import EnginePort
from engram_local.worker.protocol import (
    ChooseMemory,
    Compare,
    Event,
    Generate,
    LookAtTable,
    MemoryChanged,
    Open,
    Request,
    WarmTable,
)
from tui.state import EngineState, Phase, after, failed

MakePort = Callable[[Callable[[str], None]], EnginePort]
"""Gets what is called with every line of the engine's log."""

_LOG_LINES = 500

_PHASES: dict[type[Request], Phase] = {
    Open: "loading",
    ChooseMemory: "loading",
    WarmTable: "loading",
    Generate: "busy",
    Compare: "busy",
}
"""What the engine does during a request; during the others it seems idle."""


class EngineLink:
    """Owns the engine's process. For the app's asyncio loop only, no threads."""

    def __init__(self, owner: DOMNode, make_port: MakePort) -> None:
        """owner: the app; its widgets subscribe to the signals in on_mount."""
        self.state = EngineState()
        self.changed: Signal[EngineState] = Signal(owner, "engine-changed")
        self.logged: Signal[str] = Signal(owner, "engine-logged")
        self.asked: Generate | None = None
        """The newest question of the chat, and how it was to be answered."""
        self.log: deque[str] = deque(maxlen=_LOG_LINES)
        """The newest lines of the log, of ended processes too; oldest first."""
        self._make_port = make_port
        self._port: EnginePort | None = None
        self._pid: int | None = None
        """Of the process at the last look."""

        self._under_way: list[Phase] = []
        self._opening: Open | None = None

    async def open(self, request: Open) -> bool:
        """Load a model, in a new process if there is none; tell whether it worked.

        What went wrong is in the state.
        """
        self._opening = request
        if self._port is None and not await self._start():
            return False
        try:
            async for _ in self.ask(request):
                pass
        except EngramError:
            return False
        return True

    async def restart(self) -> bool:
        """End the process, start another, and load the same model and memory again."""
        await self.close()
        self._set(EngineState(machine=self.state.machine))
        return self._opening is not None and await self.open(self._opening)

    async def ask(self, request: Request) -> AsyncIterator[Event]:
        """Do a request; yield what the engine says until it is done.

        Go on to the end, also after `cancel`. Raises the engine's error, and
        WorkerLostError if its process ended.
        """
        if self._port is None:
            raise self.state.error or WorkerLostError("the engine is not running")
        if isinstance(request, Generate):
            self.asked = request
        self._begin(request)
        try:
            async for event in self._port.ask(request):
                if isinstance(event, MemoryChanged):
                    self._remember_memory(request, event)
                self._set(after(self.state, event))
                yield event
        except WorkerLostError as error:
            self._set(failed(self.state, "lost", error))
            await self._drop_port()
            raise
        except EngramError as error:
            if isinstance(request, Open):
                self._set(failed(self.state, "none", error))
            raise
        finally:
            self._end(request)

    def cancel(self) -> None:
        """End the request that is being done; what there is of an answer is kept."""
        if self._port is not None:
            self._port.cancel()

    def forget_chat(self) -> None:
        """Note that the chat shows something else than what the engine saw last."""
        self._set(replace(self.state, context=None, is_of_chat=False))

    async def close(self) -> None:
        """End the process, if there is one."""
        await self._drop_port()

    async def measure(self) -> None:
        """Look at the process and the computer; called at a steady rate."""
        resources = None
        before, self._pid = self._pid, None if self._port is None else self._port.pid
        if self._pid is not None:
            with suppress(psutil.Error):
                resources = measure_resources(self._pid)
        machine = measure_machine_ram()
        self._set(replace(self.state, resources=resources, machine=machine))
        if before is not None and self._pid is None and self._port is not None:
            await self._find_out()

    async def _find_out(self) -> None:
        """Learn how the process ended, while nobody waits for an answer of it."""
        with suppress(EngramError):
            async for _ in self.ask(LookAtTable(n_cells=1)):
                pass

    async def _start(self) -> bool:
        port = self._make_port(self._heard)
        try:
            await port.start()
        except EngramError as error:
            await port.close()
            self._set(failed(self.state, "lost", error))
            return False
        except asyncio.CancelledError:  # by another restart
            await port.close()
            raise
        self._port, self._pid = port, port.pid
        return True

    def _heard(self, line: str) -> None:
        self.log.append(line)
        self.logged.publish(line)

    async def _drop_port(self) -> None:
        port, self._port = self._port, None
        if port is not None:
            await port.close()

    def _begin(self, request: Request) -> None:
        phase = _PHASES.get(type(request))
        if phase is None:
            return
        self._under_way.append(phase)
        state = self.state
        if isinstance(request, Open):  # the old model is gone before the new one comes
            state = EngineState(resources=state.resources, machine=state.machine)
        self._set(replace(state, phase=phase, loading=None))

    def _end(self, request: Request) -> None:
        phase = _PHASES.get(type(request))
        if phase is None:
            return
        self._under_way.remove(phase)
        if self.state.phase not in ("lost", "none"):
            idle: Phase = "none" if self.state.model is None else "ready"
            phase = self._under_way[-1] if self._under_way else idle
            self._set(replace(self.state, phase=phase, loading=None))

    def _remember_memory(self, request: Request, event: MemoryChanged) -> None:
        """Let a restart load the memory that is used now, or none."""
        opening = self._opening
        if opening is None:
            return
        if isinstance(request, ChooseMemory):
            settings = replace(opening.settings, memory_tier=request.tier)
            opening = replace(opening, memory=request.memory, settings=settings)
        is_off = event.memory is not None and not event.memory_on
        self._opening = replace(opening, memory_on=not is_off)

    def _set(self, state: EngineState) -> None:
        if state != self.state:
            self.state = state
            self.changed.publish(state)
