"""Running the same tokens through several engines in turn.

Absolute speeds on a shared machine are noise; a ratio of two runs that followed each
other is not. Every repetition runs all arms on the same tokens, in another order each
time, and the reference arm twice: the ratio of those two is the noise floor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engram_local.engine import Engine, Replay
from engram_local.settings import Settings

REFERENCE = "none"
REPEATED = "none again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One way of running the model."""

    name: str
    memory: bool
    prefetch: bool = True


ARMS = (
    Arm(name=REFERENCE, memory=False),
    Arm(name=REPEATED, memory=False),
    Arm(name="memory", memory=True),
    Arm(name="memory, no prefetch", memory=True, prefetch=False),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is measured."""

    n_prompt: int = 512
    n_decode: int = 64
    n_repetitions: int = 5
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One arm in one repetition."""

    arm: str
    repetition: int
    n_prompt: int
    n_decode: int
    replay: Replay

    @property
    def prompt_tokens_per_s(self) -> float:
        """Prompt tokens per second."""
        return self.n_prompt / self.replay.prompt_s

    @property
    def tokens_per_s(self) -> float:
        """Tokens per second, one at a time."""
        return self.n_decode / sum(self.replay.token_s)


def run_arms(
    model: Path | None,
    memory: Path,
    settings: Settings,
    plan: Plan,
    *,
    progress: Callable[[str, float], None] | None = None,
) -> list[Run]:
    """Run every arm `n_repetitions` times, after one repetition that is thrown away.

    Engines share the file mapping of the weights; each has its own context.
    """
    with ExitStack() as stack:
        engines = {
            key: stack.enter_context(
                Engine.open(
                    model,
                    memory=memory if key[0] else None,
                    settings=settings.with_prefetch(key[1]),
                )
            )
            for key in sorted({(arm.memory, arm.prefetch) for arm in ARMS})
        }
        n_total = (plan.n_repetitions + 1) * len(ARMS)
        runs = []
        for number, (arm, repetition) in enumerate(_order(plan)):
            if progress is not None:
                progress(f"{arm.name}", number / n_total)
            engine = engines[arm.memory, arm.prefetch]
            runs.append(_run(engine, arm, repetition, plan))
    return [run for run in runs if run.repetition > 0]


def _order(plan: Plan) -> Iterator[tuple[Arm, int]]:
    """Turn the order by one in every repetition; number 0 warms up."""
    for repetition in range(plan.n_repetitions + 1):
        turn = repetition % len(ARMS)
        for arm in (*ARMS[turn:], *ARMS[:turn]):
            yield arm, repetition


def _run(engine: Engine, arm: Arm, repetition: int, plan: Plan) -> Run:
    prompt_ids, token_ids = _tokens(engine.n_vocab, plan, repetition)
    return Run(
        arm=arm.name,
        repetition=repetition,
        n_prompt=len(prompt_ids),
        n_decode=len(token_ids),
        replay=engine.replay(prompt_ids, token_ids),
    )


def _tokens(
    n_vocab: int, plan: Plan, repetition: int
) -> tuple[Sequence[int], Sequence[int]]:
    """Random tokens, as llama-bench uses them; the same for all arms."""
    generator = np.random.default_rng([plan.seed, repetition])
    ids = generator.integers(0, n_vocab, plan.n_prompt + plan.n_decode).tolist()
    return ids[: plan.n_prompt], ids[plan.n_prompt :]
