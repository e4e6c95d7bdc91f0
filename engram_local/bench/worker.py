"""One engine in a process of its own: `python -m engram_local.bench.worker`.

Speaks JSON, one object per line: a job on stdin, {"ready": ...} on stdout; then one
answer per request, until stdin ends. While it waits for a request it sleeps in a read.

    {"text": "..."}                          {"token_ids": [...]}
    {"prompt_ids": [...], "token_ids": [...]}          {"turn": {...}}
    the same with "memory": false            {"turn": {...}}, the memory untouched

What goes wrong is an answer too, {"error": {...}}, and the last one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from engram_local import relay
from engram_local.bench.turn import Part, Turn, most
from engram_local.engine import Engine
from engram_local.errors import EngramError
from engram_local.events import MemoryStats
from engram_local.settings import Settings
from engram_local.telemetry import (
    Resources,
    Usage,
    measure_resources,
    measure_usage,
)

Answer = Callable[[dict[str, Any]], None]


def main() -> int:
    """Serve stdin and stdout; return the exit code."""
    requests, answer = sys.stdin, _answers(relay.take_stdout())
    try:
        with _open(json.loads(requests.readline())) as engine:
            answer({"ready": {"n_vocab": engine.n_vocab, "n_ctx": engine.n_ctx}})
            serve(engine, requests, answer)
    except EngramError as error:
        answer({"error": relay.values_of(error)})
        return error.exit_code
    except BrokenPipeError:  # nobody listens any more
        return 1
    return 0


def serve(engine: Engine, requests: Iterable[str], answer: Answer) -> None:
    """Answer one request after the other until they end."""
    for line in requests:
        request = json.loads(line)
        if "text" in request:
            answer({"token_ids": engine.tokenize(request["text"])})
        else:
            answer({"turn": asdict(_run(engine, **request))})


def _run(
    engine: Engine,
    prompt_ids: Sequence[int],
    token_ids: Sequence[int],
    memory: bool = True,
) -> Turn:
    if memory:
        return take_turn(engine, prompt_ids, token_ids)
    if not engine.can_leave_out_memory:  # then a table is touched in a few places only
        same = prompt_ids[0]
        return take_turn(engine, [same] * len(prompt_ids), [same] * len(token_ids))
    engine.use_memory(False)
    try:
        return take_turn(engine, prompt_ids, token_ids)
    finally:
        engine.use_memory(True)


def take_turn(
    engine: Engine, prompt_ids: Sequence[int], token_ids: Sequence[int]
) -> Turn:
    """Replay the tokens and count what it cost."""
    marks = [_look(engine)]
    replay = engine.replay(
        prompt_ids, token_ids, between=lambda: marks.append(_look(engine))
    )
    start, middle, end = *marks, _look(engine)
    token_s = sum(replay.token_s)
    seen = [mark.resources for mark in (middle, end)]
    return Turn(
        prompt=_part(prompt_ids, replay.prompt_s, replay.prompt_memory, start, middle),
        decode=_part(token_ids, token_s, replay.token_memory, middle, end),
        rss_anon_bytes=most(one.rss_anon_bytes for one in seen),
        rss_file_bytes=most(one.rss_file_bytes for one in seen),
        peak_rss_bytes=end.usage.peak_rss_bytes,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mark:
    """A moment in the life of the worker."""

    usage: Usage
    resources: Resources
    resident_bytes: int | None


def _look(engine: Engine) -> _Mark:
    memory = engine.memory
    return _Mark(
        usage=measure_usage(),
        resources=measure_resources(),
        resident_bytes=None if memory is None else memory.resident_bytes,
    )


def _part(
    token_ids: Sequence[int],
    elapsed_s: float,
    stats: MemoryStats | None,
    start: _Mark,
    end: _Mark,
) -> Part:
    before, after = start.usage, end.usage
    return Part(
        n_tokens=len(token_ids),
        elapsed_s=elapsed_s,
        rows_read=0 if stats is None else stats.rows_read,
        useful_bytes=0 if stats is None else stats.bytes_read,
        stall=None if stats is None else stats.stall,
        drive_bytes=_minus(after.drive_bytes, before.drive_bytes),
        n_major_faults=_minus(after.n_major_faults, before.n_major_faults),
        resident_before_bytes=start.resident_bytes,
        resident_after_bytes=end.resident_bytes,
    )


def _minus(after: int | None, before: int | None) -> int | None:
    return None if after is None or before is None else after - before


def _open(job: dict[str, Any]) -> Engine:
    memory = job["memory"]
    return Engine.open(
        Path(job["model"]),
        memory=memory if memory in (None, "auto") else Path(memory),
        settings=Settings(**job["settings"]),
    )


def _answers(stream: TextIO) -> Answer:
    def answer(value: dict[str, Any]) -> None:
        stream.write(json.dumps(value) + "\n")
        stream.flush()

    return answer


if __name__ == "__main__":
    sys.exit(main())
