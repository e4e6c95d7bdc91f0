"""The real child around a service without an engine: `python -m ...fake_service`.

What it does stands in the newest message, or in the environment's FAKE for closing.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import threading
import time

from engram_local.errors import FileError
from engram_local.events import TextChunk
from engram_local.units import MIB
from engram_local.worker import child
from engram_local.worker.call import Call
from engram_local.worker.protocol import Generate, Request
from tests.worker.samples import FINISHED

SAID_OFF = "\x1b[31mred"


class FakeService:
    """Does what it is told, in the main thread."""

    def __init__(self) -> None:
        self.interrupted = threading.Event()

    def do(self, request: Request, call: Call) -> None:
        """Do what stands in the newest message."""
        assert isinstance(request, Generate)
        text = request.messages[-1].content
        self.interrupted.clear()
        call.say(TextChunk(text=text))
        match text:
            case "until cancelled":
                # As in an engine, an interruption may come before it is awaited.
                while not call.is_cancelled():
                    self.interrupted.wait(0.01)
                call.say(FINISHED)
            case "progress":
                while True:
                    call.progress("loading", 0.5)
            case "hang":
                time.sleep(600)
            case "bug":
                raise ZeroDivisionError("by nothing")
            case "no memory":
                raise MemoryError
            case "fail":
                raise FileError("gone", hint="look")
            case "print":
                print("to stdout")
                ctypes.CDLL(None).puts(b"from C")
                ctypes.CDLL(None).fflush(None)
                logging.getLogger("engram_local.x").info("a log line")
                logging.getLogger("numba").info("of no interest")
            case "flood":
                while not call.is_cancelled():
                    call.say(TextChunk(text="x" * MIB))
            case "ctrl-c":
                os.kill(os.getpid(), signal.SIGINT)

    def interrupt(self) -> None:
        """End a wait."""
        self.interrupted.set()

    def close(self) -> None:
        """Say so, or hang."""
        logging.getLogger("engram_local.x").info("closed")
        if os.environ.get("FAKE") == "hangs":
            time.sleep(600)


if __name__ == "__main__":
    child._GRACE_S = 1.0
    child.run(FakeService)
