"""A child without an engine; it does what the newest message says."""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import time
from dataclasses import replace

from engram_local.events import TextChunk
from engram_local.worker.codec import decode_request, encode
from engram_local.worker.protocol import (
    PROTOCOL,
    Cancel,
    Done,
    Event,
    Failed,
    Generate,
    Hello,
    Request,
)
from tests.worker.samples import FINISHED

requests: queue.Queue[tuple[int, Request]] = queue.Queue()
cancelled: queue.Queue[int] = queue.Queue()


def say(number: int, event: Event) -> None:
    """Send one event."""
    sys.stdout.buffer.write(encode(number, event))
    sys.stdout.buffer.flush()


def read() -> None:
    """Sort what comes; end with stdin."""
    for line in sys.stdin.buffer:
        number, request = decode_request(line)
        if isinstance(request, Cancel):
            cancelled.put(number)
        else:
            requests.put((number, request))
    os._exit(0)


def answer(number: int, text: str) -> None:
    """Do what is asked for; each way of going wrong follows a first word."""
    if text == "burst":
        for index in range(10_000):
            say(number, TextChunk(text=str(index)))
    elif text == "fail":
        say(number, Failed(code="bad-file", exit_code=3, message="gone", hint="look"))
        return
    elif text == "wait":
        say(number, TextChunk(text="first"))
        while cancelled.get() != number:
            pass
        say(number, replace(FINISHED, finish_reason="cancelled"))
    else:
        say(number, TextChunk(text=text))
    end(text)
    say(number, Done())


def end(text: str) -> None:
    """End in the way that is asked for, if it is one."""
    match text:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "abort":
            os.write(2, b"GGML_ASSERT(x \x1b[31m > 0) failed\n")
            os.abort()
        case "exit":
            sys.stderr.write("x" * 5000 + "\nMemoryError: no more")
            sys.stderr.flush()
            os._exit(5)
        case "close stdout":
            os.close(1)
            time.sleep(600)
        case "half a line":
            os.write(1, b'{"id": 1,')
            os._exit(0)
        case "garbage":
            os.write(1, b"Loading model...\n")
            time.sleep(600)


def main() -> None:
    """Serve, as the words on the command line say."""
    words = sys.argv[1:]
    if "silent" in words:
        sys.exit("ModuleNotFoundError: no engine")
    if "deaf" in words:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "speaks" in words:
        say(0, TextChunk(text="hello"))
    protocol = PROTOCOL + ("newer" in words)
    say(0, Hello(protocol=protocol, version="fake", pid=os.getpid()))
    if "deaf" in words:
        time.sleep(600)
    threading.Thread(target=read, daemon=True).start()
    while True:
        number, request = requests.get()
        assert isinstance(request, Generate)
        answer(number, request.messages[-1].content)


if __name__ == "__main__":
    main()
