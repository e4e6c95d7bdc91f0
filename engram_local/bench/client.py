"""A worker as the process that started it sees it: ask, be answered, end it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self

from engram_local import relay
from engram_local.bench.turn import Turn, read_turn
from engram_local.errors import BenchError
from engram_local.settings import Settings

_COMMAND = [sys.executable, "-m", "engram_local.bench.worker"]
_GRACE_S = 10.0
"""For freeing a model; whoever takes longer is killed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a worker opens."""

    model: Path
    memory: Path | Literal["auto"] | None
    """As `Engine.open` takes it."""

    settings: Settings

    def as_json(self) -> dict[str, Any]:
        """Return the first line that a worker is sent."""
        memory = None if self.memory is None else str(self.memory)
        settings = asdict(self.settings)
        return {"model": str(self.model), "memory": memory, "settings": settings}


class Worker(Protocol):
    """An open engine in another process; a context manager that ends it."""

    n_vocab: int

    def tokenize(self, text: str) -> list[int]:
        """Return the token ids of a text."""

    def replay(
        self,
        prompt_ids: Sequence[int],
        token_ids: Sequence[int],
        *,
        memory: bool = True,
    ) -> Turn:
        """Take a turn. memory: False leaves the memory out, and untouched.

        Raises what went wrong in the worker, BenchError if it ended without a word.
        """

    def __enter__(self) -> Self:
        """Nothing happens."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the worker: when it is done, or at once if there is an error."""


class ProcessWorker:
    """A `Worker` that runs `engram_local.bench.worker`.

    It has a session of its own, so that Ctrl-C reaches only us, and ends when its stdin
    does: also when we are killed.
    """

    def __init__(self, job: Job) -> None:
        """Start it and wait until it is ready; raises like `replay`."""
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - see _free
        # numpy's product of a few rows would wake threads, against llama.cpp's.
        environ = {"OPENBLAS_NUM_THREADS": "1", **os.environ}
        self._process = subprocess.Popen(
            _COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=environ,
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )
        try:
            self.n_vocab = int(self._ask(job.as_json())["ready"]["n_vocab"])
        except BaseException:
            self._kill()
            raise

    def tokenize(self, text: str) -> list[int]:
        """See `Worker.tokenize`."""
        token_ids: list[int] = self._ask({"text": text})["token_ids"]
        return token_ids

    def replay(
        self,
        prompt_ids: Sequence[int],
        token_ids: Sequence[int],
        *,
        memory: bool = True,
    ) -> Turn:
        """See `Worker.replay`."""
        request = {"prompt_ids": prompt_ids, "token_ids": token_ids, "memory": memory}
        return read_turn(self._ask(request)["turn"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self._finish()
        else:
            self._kill()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line.endswith("\n"):
            raise self._lost()
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise relay.relayed(answer["error"])
        return answer

    def _lost(self) -> BenchError:
        code = self._process.wait()
        ended = f"a worker {relay.how_it_ended(code)}"
        if code < 0:
            hint = "the system may have run out of memory: measure fewer --arms"
            return BenchError(ended, hint=hint)
        return BenchError(f"{ended}: {self._last_words()}")

    def _last_words(self) -> str:
        self._stderr.seek(0)
        lines = self._stderr.read().decode("utf-8", "replace").strip().splitlines()
        errors = [line for line in lines if line.startswith("error[")]
        return (errors or lines or ["no reason given"])[-1]

    def _finish(self) -> None:
        self._end_of_requests()
        try:
            self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._free()

    def _kill(self) -> None:
        self._process.kill()
        self._free()

    def _free(self) -> None:
        self._process.wait()
        self._end_of_requests()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._stderr.close()

    def _end_of_requests(self) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # a request that was never read
            self._process.stdin.close()
