"""What a worker answers, on an engine that takes no time."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest

from engram_local.bench import worker
from engram_local.bench.turn import most, read_turn
from engram_local.bench.worker import main, serve
from engram_local.errors import FileError
from engram_local.measuring import Replay
from engram_local.telemetry import Usage
from tests.cli.fakes import STATS

JOB = json.dumps({"model": "model.gguf", "memory": None, "settings": {}}) + "\n"


@dataclass(slots=True)
class FakeEngine:
    """Reads 100 bytes from the drive per prompt, 10 per token, if memory is on."""

    n_vocab: int = 7
    n_ctx: int = 64
    on: bool = True
    has_memory: bool = True
    can_leave_out_memory: bool = True
    calls: list[str] = field(default_factory=list)
    drive_bytes: int = 1000
    n_resident: int = 0

    @property
    def memory(self) -> Any:
        """Only the resident bytes are looked at."""
        if not self.on or not self.has_memory:
            return None
        return SimpleNamespace(resident_bytes=self.n_resident)

    def tokenize(self, text: str) -> list[int]:
        """One token for all."""
        return [len(text)]

    def use_memory(self, on: bool) -> None:
        """Write it down."""
        self.calls.append(f"memory {'on' if on else 'off'}")
        self.on = on

    def replay(
        self,
        prompt_ids: Sequence[int],
        token_ids: Sequence[int],
        *,
        between: Callable[[], None],
    ) -> Replay:
        """Take two seconds for the prompt, half a one for each token."""
        self.calls.append("replay")
        self._read(100)
        between()
        self._read(10 * len(token_ids))
        stats = STATS if self.memory is not None else None
        return Replay(
            prompt_s=2.0,
            token_s=(0.5,) * len(token_ids),
            prompt_memory=stats,
            token_memory=None if stats is None else replace(stats, rows_read=32),
        )

    def _read(self, n_bytes: int) -> None:
        if self.memory is not None:
            self.drive_bytes += n_bytes
            self.n_resident += n_bytes

    def __enter__(self) -> FakeEngine:
        return self

    def __exit__(self, *exc: object) -> None:
        self.calls.append("closed")


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """An engine whose drive reads are this process's."""
    engine = FakeEngine()

    def usage() -> Usage:
        return Usage(
            drive_bytes=engine.drive_bytes, n_major_faults=None, peak_rss_bytes=5
        )

    monkeypatch.setattr(worker, "measure_usage", usage)
    return engine


def ask(engine: FakeEngine, *requests: dict[str, Any]) -> list[dict[str, Any]]:
    """Send requests and return the answers, as they cross the pipe."""
    answers: list[dict[str, Any]] = []
    lines = [json.dumps(request) for request in requests]
    serve(engine, lines, lambda value: answers.append(json.loads(json.dumps(value))))  # type: ignore[arg-type]
    return answers


def test_a_turn_is_counted_in_two_parts(engine: FakeEngine) -> None:
    (answer,) = ask(engine, {"prompt_ids": [1, 2, 3], "token_ids": [4, 5]})
    turn = read_turn(answer["turn"])
    assert (turn.prompt.n_tokens, turn.prompt.elapsed_s) == (3, 2.0)
    assert (turn.decode.n_tokens, turn.decode.elapsed_s) == (2, 1.0)
    assert turn.decode.tokens_per_s == 2.0
    assert (turn.prompt.rows_read, turn.decode.rows_read) == (48, 32)
    assert turn.decode.rows_per_s == 32.0
    assert (turn.prompt.drive_bytes, turn.decode.drive_bytes) == (100, 20)
    assert turn.prompt.amplification == pytest.approx(100 / 1632)
    assert turn.prompt.n_major_faults is None
    assert turn.prompt.stall == STATS.stall
    assert turn.prompt.resident_before_bytes == 0
    assert turn.prompt.resident_after_bytes == turn.decode.resident_before_bytes == 100
    assert turn.decode.resident_after_bytes == 120
    assert turn.peak_rss_bytes == 5


def test_a_turn_without_a_memory_has_no_rows(engine: FakeEngine) -> None:
    engine.has_memory = False
    (answer,) = ask(engine, {"prompt_ids": [1], "token_ids": [4]})
    turn = read_turn(answer["turn"])
    for part in (turn.prompt, turn.decode):
        assert part.rows_read == part.useful_bytes == 0
        assert part.stall is part.amplification is part.resident_after_bytes is None


def test_the_memory_is_off_for_one_request_only(engine: FakeEngine) -> None:
    tokens = {"prompt_ids": [1], "token_ids": [4]}
    off, on = ask(engine, {**tokens, "memory": False}, tokens)
    assert engine.calls == ["memory off", "replay", "memory on", "replay"]
    assert read_turn(off["turn"]).decode.rows_read == 0
    assert read_turn(on["turn"]).decode.rows_read == 32


def test_a_text_becomes_tokens(engine: FakeEngine) -> None:
    assert ask(engine, {"text": "four"}) == [{"token_ids": [4]}]


def run_main(
    monkeypatch: pytest.MonkeyPatch, open_engine: Callable[..., Any], requests: str
) -> tuple[int, list[dict[str, Any]]]:
    """Run the process's main function on strings."""
    out = io.StringIO()
    monkeypatch.setattr(worker.Engine, "open", open_engine)
    monkeypatch.setattr(worker.relay, "take_stdout", lambda: out)
    monkeypatch.setattr("sys.stdin", io.StringIO(requests))
    code = main()
    return code, [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_worker_says_that_it_is_ready_and_ends_with_stdin(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = json.dumps({"text": "a"}) + "\n"
    code, answers = run_main(monkeypatch, lambda *_, **__: engine, JOB + request)
    assert code == 0
    assert answers == [{"ready": {"n_vocab": 7, "n_ctx": 64}}, {"token_ids": [1]}]
    assert engine.calls == ["closed"]


def test_an_error_is_an_answer_and_the_exit_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise FileError("no such file", hint="look for it")

    code, answers = run_main(monkeypatch, refuse, JOB)
    assert code == 3
    assert answers == [
        {
            "error": {
                "code": "bad-file",
                "exit_code": 3,
                "message": "no such file",
                "hint": "look for it",
            }
        }
    ]


def test_the_most_of_what_is_unknown_is_unknown() -> None:
    assert most([3, 5, 4]) == 5
    assert most([3, None]) is None
