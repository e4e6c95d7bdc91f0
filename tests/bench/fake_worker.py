"""A worker process without an engine; it does what its model is called."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path

from tests.bench.fakes import N_VOCAB, make_turn


def answer(**value: object) -> None:
    """Send one line."""
    print(json.dumps(value), flush=True)


def main() -> None:
    """Answer, fail or hang."""
    model = Path(json.loads(sys.stdin.readline())["model"])
    if model.name == "missing":
        error = {"code": "bad-file", "exit_code": 3, "message": "gone", "hint": "look"}
        answer(error=error)
        sys.exit(3)
    answer(ready={"n_vocab": N_VOCAB})
    if model.name == "pid":  # so that a test can see whether it is still there
        model.with_name(f"{os.getpid()}.pid").touch()
    for line in sys.stdin:
        request = json.loads(line)
        if "text" in request:
            answer(token_ids=[len(request["text"])])
        elif model.name == "dies":
            sys.exit("Traceback ...\nMemoryError: no more")
        elif model.name == "lost":
            sys.exit("error[file-lost]: a mapped file is gone\nhint: restore it")
        elif model.name == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        elif model.name in ("hangs", "pid"):
            time.sleep(600)
        else:
            answer(turn=asdict(make_turn()))


if __name__ == "__main__":
    main()
