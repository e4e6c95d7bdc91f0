"""Workers that answer at once, and a world that does what a test says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from engram_local.bench.arms import Arm
from engram_local.bench.client import Job
from engram_local.bench.eviction import Eviction, Region
from engram_local.bench.runner import Outside
from engram_local.bench.subject import Rows, Subject
from engram_local.bench.turn import Part, Turn
from engram_local.errors import EngramError
from engram_local.events import Timing
from engram_local.settings import Settings

N_VOCAB = 50
MODEL = Path("model.gguf")
MEMORY = Path("memory.gguf")
TABLE_BYTES = 1000

SUBJECT = Subject(
    model=MODEL,
    rows=Rows(memory=MEMORY, region=Region(path=MEMORY), table_bytes=TABLE_BYTES),
    settings=Settings(),
)


def make_part(**changes: object) -> Part:
    """Return 10 tokens in half a second, with a memory."""
    part = Part(
        n_tokens=10,
        elapsed_s=0.5,
        rows_read=160,
        useful_bytes=5440,
        stall=Timing(total_ms=3.0, p50_ms=0.25, p95_ms=0.5, max_ms=1.0),
        drive_bytes=0,
        n_major_faults=0,
        resident_before_bytes=4096,
        resident_after_bytes=8192,
    )
    return replace(part, **changes)  # type: ignore[arg-type]


def plain_part(**changes: object) -> Part:
    """Return the same without a memory."""
    nothing: dict[str, object] = {
        "rows_read": 0,
        "useful_bytes": 0,
        "stall": None,
        "resident_before_bytes": None,
        "resident_after_bytes": None,
    }
    return make_part(**(nothing | changes))


def make_turn(**changes: object) -> Turn:
    """Return a turn with a memory."""
    turn = Turn(
        prompt=make_part(),
        decode=make_part(),
        rss_anon_bytes=100 << 20,
        rss_file_bytes=200 << 20,
        peak_rss_bytes=310 << 20,
    )
    return replace(turn, **changes)  # type: ignore[arg-type]


def plain_turn() -> Turn:
    """Return a turn without a memory."""
    return make_turn(prompt=plain_part(), decode=plain_part())


@dataclass(slots=True)
class FakeWorker:
    """Writes what it is asked into the log of its world."""

    world: FakeWorld
    label: str
    has_memory: bool
    n_vocab: int = N_VOCAB

    def tokenize(self, text: str) -> list[int]:
        """A token per character."""
        return [ord(character) for character in text]

    def replay(
        self,
        prompt_ids: Sequence[int],
        token_ids: Sequence[int],
        *,
        memory: bool = True,
    ) -> Turn:
        """Take no time."""
        self.world.log.append(f"{self.label}{'' if memory else ' (memory off)'}")
        self.world.tokens.append((self.label, list(prompt_ids), list(token_ids)))
        if self.label in self.world.replay_errors:
            raise self.world.replay_errors[self.label]
        return make_turn() if self.has_memory and memory else plain_turn()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.world.log.append(f"end {self.label}")


@dataclass(slots=True)
class FakeWorld:
    """What a bench sees, and a log of what it did."""

    log: list[str] = field(default_factory=list)
    tokens: list[tuple[str, list[int], list[int]]] = field(default_factory=list)
    start_errors: dict[str, EngramError] = field(default_factory=dict)
    replay_errors: dict[str, BaseException] = field(default_factory=dict)
    evictions: list[int | None] = field(default_factory=list)
    """Bytes that stay, one after the other; then nothing stays."""

    available_bytes: int = 1 << 40

    def outside(self) -> Outside:
        """Return the world as the runner takes it."""
        return Outside(
            start=self._start,
            evict=self._evict,
            read_through=lambda region: self.log.append(f"read {region.path}"),
            available_bytes=lambda: self.available_bytes,
        )

    def _start(self, job: Job) -> FakeWorker:
        label = label_of(job)
        self.log.append(f"start {label}")
        if label in self.start_errors:
            raise self.start_errors[label]
        return FakeWorker(self, label, job.memory is not None)

    def _evict(self, region: Region) -> Eviction:
        self.log.append(f"evict {region.path}")
        stays = self.evictions.pop(0) if self.evictions else 0
        return Eviction(region_bytes=10_000, before_bytes=10_000, after_bytes=stays)


def label_of(job: Job) -> str:
    """Return what a worker is called in the log: its tier and what else it has."""
    if job.memory is None:
        return "none"
    words = [job.settings.memory_tier]
    words += [] if job.settings.prefetch else ["late"]
    words += ["reference"] if job.settings.reference else []
    return " ".join(words)


def arm(name: str, **options: object) -> Arm:
    """Return an arm that reads from a mapped file."""
    return Arm(name=name, **({"tier": "mmap"} | options))  # type: ignore[arg-type]
