"""`engram-local bench`: decode and prompt speed, arms interleaved in one process."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from engram_local.cli import options
from engram_local.cli.status import status_line
from engram_local.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `bench`."""
    parser.add_argument("model", nargs="?", type=Path, metavar="MODEL")
    parser.add_argument("-p", "--n-prompt", type=int, default=512, metavar="N")
    parser.add_argument("-n", "--n-gen", type=int, default=64, metavar="N")
    parser.add_argument("-r", "--repetitions", type=int, default=5, metavar="N")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options.add_model_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    from engram_local.bench.arms import Plan, run_arms
    from engram_local.bench.summary import as_text, noise_floor, summarize_runs

    if min(args.n_prompt, args.n_gen, args.repetitions) < 1:
        raise UsageError("-p, -n and -r need at least 1")
    if args.no_memory or args.prefetch is not None:
        raise UsageError("bench always measures with and without memory and prefetch")
    settings = options.settings_of(args, temperature=0.0)
    plan = Plan(
        n_prompt=args.n_prompt,
        n_decode=args.n_gen,
        n_repetitions=args.repetitions,
    )
    model, memory = options.files_of(args)
    with status_line() as status:
        runs = run_arms(model, memory, settings, plan, progress=status)
    summaries = summarize_runs(runs)
    if args.json:
        decode, prompt = noise_floor(summaries)
        floor = {"decode": decode, "prompt": prompt}
        arms = [asdict(item) for item in summaries]
        print(json.dumps({"arms": arms, "noise_floor": floor}, indent=2))
    else:
        print(as_text(summaries))
    return 0
