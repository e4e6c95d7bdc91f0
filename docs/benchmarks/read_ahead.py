"""Prompts on a cold table: `python docs/benchmarks/read_ahead.py MODEL [-t 1] [-r 5]`.

MODEL has a table of its own (`qwen4exp` or `gemma4`) on a drive. Every turn is a
process of its own, since pages that llama.cpp has touched stay mapped and cannot be
evicted. A warm-up that repeats one token goes before; then random tokens, the same for
all arms of a repetition. Prints medians, and how much of the way from llama.cpp's cold
prompt to the resident one each arm goes. `--steps` adds arms that leave a part out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

import engram_local.memory.page_reader as page_reader

from common import Measured, print_table, spread, turns  # isort: skip
from engram_local.bench.eviction import Region, evict, read_through
from engram_local.engine import Engine
from engram_local.settings import Settings
from engram_local.telemetry import measure_usage
from engram_local.units import MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One way to run the prompt."""

    tier: str = "mmap"
    cold: bool = True
    prefetch: bool = True
    maps: bool = True
    """Pages are also mapped where llama.cpp reads them."""


ARMS = {
    "resident": Arm(tier="ram"),
    "llama.cpp cold": Arm(prefetch=False),
    "ours cold": Arm(),
}
STEPS = {
    "llama.cpp warm": Arm(cold=False, prefetch=False),
    "ours warm": Arm(cold=False),
    "ours cold, not mapped": Arm(maps=False),
}
BASE, SLOW = "resident", "llama.cpp cold"


def take_turn(arm: Arm, args: argparse.Namespace) -> dict[str, float]:
    """Run one prompt and a few tokens here; return milliseconds and MiB."""
    if not arm.maps:
        page_reader.find_mapping = lambda *_: None
    region = Region(path=args.model)
    if arm.cold:
        evict(region)
    else:
        read_through(region)
    settings = Settings(
        n_threads=args.threads,
        n_batch=args.ubatch,
        n_ubatch=args.ubatch,
        n_ctx=args.prompt + args.tokens,
        memory_tier=arm.tier,
        prefetch=arm.prefetch,
    )
    with Engine.open(args.model, settings=settings) as engine:
        engine.replay([7] * args.prompt, [7] * 2)
        ids = np.random.default_rng(args.seed).integers(
            0, engine.n_vocab, args.prompt + args.tokens
        )
        before = measure_usage().drive_bytes or 0
        replay = engine.replay(ids[: args.prompt].tolist(), ids[args.prompt :].tolist())
        drive_bytes = (measure_usage().drive_bytes or 0) - before
    return {
        "prompt_ms": 1e3 * replay.prompt_s,
        "token_ms": 1e3 * median(replay.token_s),
        "mib": drive_bytes / MIB,
    }


def measure(name: str, repetition: int, arguments: list[str]) -> dict[str, float]:
    """Take a turn in a process of its own."""
    command = [sys.executable, __file__, *arguments]
    command += ["--turn", name, "--seed", str(repetition)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def print_results(found: dict[str, list[dict[str, float]]]) -> None:
    """Print a table of all arms."""
    prompts: Measured = {
        name: [turn["prompt_ms"] for turn in values] for name, values in found.items()
    }
    fast, slow = median(prompts[BASE]), median(prompts[SLOW])
    rows = []
    for name, values in found.items():
        closed = (slow - median(prompts[name])) / (slow - fast)
        rows.append(
            [
                name,
                spread(prompts[name], 0),
                f"{100 * closed:.0f} %",
                spread([turn["token_ms"] for turn in values], 2),
                f"{median(turn['mib'] for turn in values):.0f}",
            ]
        )
    print_table(["arm", "prompt, ms", "gap closed", "ms per token", "MiB read"], rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("-t", dest="threads", type=int, default=1)
    parser.add_argument("-r", dest="repetitions", type=int, default=5)
    parser.add_argument("-p", dest="prompt", type=int, default=2048)
    parser.add_argument("-n", dest="tokens", type=int, default=32)
    parser.add_argument("-ub", dest="ubatch", type=int, default=512)
    parser.add_argument("--steps", action="store_true")
    parser.add_argument("--turn", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.turn is not None:
        print(json.dumps(take_turn((ARMS | STEPS)[args.turn], args)))
        return
    names = [*ARMS, *(STEPS if args.steps else ())]
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for number, name in enumerate(turns(names, args.repetitions)):
        repetition = number // len(names)
        found[name].append(measure(name, repetition, sys.argv[1:]))
    print_results(found)


if __name__ == "__main__":
    main()
