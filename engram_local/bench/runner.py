"""Turns of all arms in alternation, each arm in a process of its own.

Absolute speeds on a shared machine are noise; a ratio of two short turns that followed
each other is not. Every repetition runs all arms on the same tokens, in another order
each time. Warm arms keep their worker, and their first repetition is thrown away. A
cold arm gets a new worker for each turn: a process keeps the pages it has touched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import psutil

from engram_local.bench.arms import Arm, Suite
from engram_local.bench.client import Job, ProcessWorker, Worker
from engram_local.bench.eviction import Eviction, Region, evict, read_through
from engram_local.bench.subject import Subject
from engram_local.bench.tokens import Plan, Source, TokenIds, cut_text, draw_tokens
from engram_local.bench.turn import Turn
from engram_local.errors import BenchError, EngramError
from engram_local.events import Progress
from engram_local.units import format_bytes

WARM, COLD = "warm", "cold"
COLD_PART = 0.01
"""Of a table, or its file, that may be in memory when it is called cold."""

RAM_PART = 0.8
"""Of the RAM that is available, what a table in it may take."""

_CANNOT_HERE = {"ram": "does-not-fit", "direct": "no-direct-reads"}
"""The error of a tier that this computer cannot offer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One arm in one repetition; they count from 1."""

    arm: str
    group: str
    repetition: int
    turn: Turn


@dataclass(slots=True, kw_only=True)
class Result:
    """What was measured, and a sentence for each thing that was not."""

    runs: list[Run] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """What a bench does to the world; tests put something else in its place."""

    start: Callable[[Job], Worker] = ProcessWorker
    evict: Callable[[Region], Eviction] = evict
    read_through: Callable[[Region], None] = read_through
    available_bytes: Callable[[], int] = lambda: int(psutil.virtual_memory().available)


def run_arms(
    suite: Suite,
    arms: Sequence[Arm],
    subject: Subject,
    plan: Plan,
    *,
    outside: Outside | None = None,
    progress: Progress = lambda what, part: None,
) -> Result:
    """Run every arm `n_repetitions` times, beside the suite's base, twice.

    Raises what a worker raised; all of them have ended then.
    """
    bench = _Bench(subject, plan, outside or Outside(), progress)
    # Cold ones after the others have ended, which map the table.
    for group in (WARM, COLD):
        chosen = [arm for arm in arms if arm.cold == (group == COLD)]
        if chosen:
            bench.run_group(group, [suite.base, suite.again, *chosen])
    return bench.result


class _Bench:
    def __init__(
        self, subject: Subject, plan: Plan, outside: Outside, progress: Progress
    ) -> None:
        self.result = Result()
        self._subject = subject
        self._plan = plan
        self._outside = outside
        self._progress = progress
        self._source: Source | None = None
        self._left_out: set[str] = set()

    def run_group(self, group: str, arms: Sequence[Arm]) -> None:
        with ExitStack() as stack:
            workers = self._start_warm(stack, group, arms)
            if any(arm.tier == "mmap" and not arm.cold for arm in arms):
                self._fill_cache()
            if any(arm.cold for arm in arms):
                # What was written or read at once is cached in pieces of up to 2 MiB,
                # and each page that a worker touches then keeps its whole piece.
                self._outside.evict(self._subject.rows.region)
            n_all = self._plan.n_repetitions + 1
            for repetition in range(n_all):
                token_ids = self._tokens(workers, arms[0], repetition)
                for number, arm in enumerate(rotate(arms, repetition)):
                    part = (repetition + number / len(arms)) / n_all
                    self._progress(f"{group}: {arm.name}", part)
                    turn = self._turn(arm, workers, token_ids, repetition)
                    self._check_base(*arms[:2])  # they may be cold, and not stay so
                    self._keep(arm, group, repetition, turn)

    def _start_warm(
        self, stack: ExitStack, group: str, arms: Sequence[Arm]
    ) -> dict[str, Worker]:
        workers: dict[str, Worker] = {}
        in_ram: dict[Job, str] = {}
        for number, arm in enumerate(arms):
            self._progress(f"starting {group}: {arm.name}", number / len(arms))
            if arm.cold:
                continue
            same = in_ram.get(self._job(arm))
            if same in workers:  # two copies of a table would need twice the RAM
                workers[arm.name] = workers[same]
            elif worker := self._start(arm):
                workers[arm.name] = stack.enter_context(worker)
            if arm.tier == "ram":
                in_ram.setdefault(self._job(arm), arm.name)
        self._check_base(arms[0])
        return workers

    def _check_base(self, *arms: Arm) -> None:
        for arm in arms:
            if arm.name in self._left_out:
                raise BenchError(
                    f"{arm.name} is what all others are set against: "
                    f"{self.result.notes[-1]}"
                )

    def _start(self, arm: Arm) -> Worker | None:
        """Start a worker; leave its arm out where this computer cannot run it."""
        available_bytes = self._outside.available_bytes()
        if arm.tier == "ram" and self._table_bytes > RAM_PART * available_bytes:
            self._leave_out(
                arm,
                f"its table is {format_bytes(self._table_bytes)}, "
                f"{format_bytes(available_bytes)} of RAM are available",
            )
            return None
        try:
            return self._outside.start(self._job(arm))
        except EngramError as error:
            if error.code != _CANNOT_HERE.get(arm.tier or ""):
                raise
            self._leave_out(arm, error.message)
            return None

    def _job(self, arm: Arm) -> Job:
        subject = self._subject
        return Job(
            model=subject.model,
            memory=None if arm.tier is None else subject.rows.memory,
            settings=arm.settings(subject.settings),
        )

    def _fill_cache(self) -> None:
        """Bring the table into the page cache: warm means that its pages are there."""
        available_bytes = self._outside.available_bytes()
        if self._table_bytes <= available_bytes:
            self._progress("reading the table", 0.0)
            self._outside.read_through(self._subject.rows.region)
        else:
            self.result.notes.append(
                f"the table is {format_bytes(self._table_bytes)}, "
                f"{format_bytes(available_bytes)} of RAM are available: the warm arms "
                "read a part of it from the drive"
            )

    def _turn(
        self,
        arm: Arm,
        workers: Mapping[str, Worker],
        token_ids: TokenIds,
        repetition: int,
    ) -> Turn | None:
        if arm.name in self._left_out:
            return None
        if not arm.cold:
            return workers[arm.name].replay(*token_ids)
        return self._cold_turn(arm, token_ids) if repetition > 0 else None

    def _cold_turn(self, arm: Arm, token_ids: TokenIds) -> Turn | None:
        worker = self._start(arm)
        if worker is None:
            return None
        with worker:
            # The backbone is warm then, and the memory's table was not touched.
            worker.replay(*token_ids, memory=False)
            reason = why_not_cold(self._outside.evict(self._subject.rows.region))
            if reason is None:
                return worker.replay(*token_ids)
        self._leave_out(arm, reason)
        return None

    def _leave_out(self, arm: Arm, reason: str) -> None:
        self._left_out.add(arm.name)
        self.result.notes.append(f"{arm.name} was left out: {reason}")
        self.result.runs = [run for run in self.result.runs if run.arm != arm.name]

    def _keep(self, arm: Arm, group: str, repetition: int, turn: Turn | None) -> None:
        if turn is not None and repetition > 0:
            run = Run(arm=arm.name, group=group, repetition=repetition, turn=turn)
            self.result.runs.append(run)

    def _tokens(
        self, workers: Mapping[str, Worker], base: Arm, repetition: int
    ) -> TokenIds:
        if self._source is None:
            with ExitStack() as stack:
                worker = next(iter(workers.values()), None)
                if worker is None:  # all arms are cold
                    job = self._job(base)
                    worker = stack.enter_context(self._outside.start(job))
                self._source = self._make_source(worker)
        return self._source(repetition)

    def _make_source(self, worker: Worker) -> Source:
        text = self._subject.text
        if text is None:
            return draw_tokens(worker.n_vocab, self._plan)
        return cut_text(worker.tokenize(text), self._plan)

    @property
    def _table_bytes(self) -> int:
        return self._subject.rows.table_bytes


def rotate(arms: Sequence[Arm], repetition: int) -> list[Arm]:
    """Return the order of a repetition: A B C, B C A, C A B, A B C ..."""
    turn = repetition % len(arms)
    return [*arms[turn:], *arms[:turn]]


def why_not_cold(eviction: Eviction) -> str | None:
    """Return a sentence if a file may not be called cold, else None."""
    stayed_bytes = eviction.after_bytes
    if stayed_bytes is None:
        return (
            "this system does not tell how much of its file is in memory; Linux does, "
            "to those who may write the file"
        )
    if stayed_bytes > COLD_PART * eviction.region_bytes:
        return (
            f"{format_bytes(stayed_bytes)} of {format_bytes(eviction.region_bytes)} "
            "stayed in memory when the file was evicted; another process has it "
            "mapped, or its file system lives in memory"
        )
    return None
