"""Predicted against measured speed: `python docs/benchmarks/prediction.py`.

Runs the probe's models, predicts from them what `size` would predict for the default
backbone and the two that `bench` makes, then measures these as `bench` does: a process
each, in turns, 512 prompt tokens and 64 decoded. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from common import print_table, spread

from engram_local.bench.client import Job, ProcessWorker
from engram_local.bench.synthetic_llama import SHAPES, write_backbone
from engram_local.bench.tokens import Plan, draw_tokens
from engram_local.catalog import default_model
from engram_local.formats.models import read_model
from engram_local.hardware import Compute, Hardware
from engram_local.probe.model_speed import measure_models
from engram_local.scratch_files import scratch_folder
from engram_local.settings import Settings
from engram_local.sizing.allocations import Placement
from engram_local.sizing.machine import look
from engram_local.sizing.request import Request
from engram_local.sizing.speed import decode_time, prompt_time, shares_of

PLAN = Plan(n_prompt=512, n_decode=64)
GOAL = 0.15


@dataclass(frozen=True, slots=True, kw_only=True)
class Speeds:
    """Tokens per second of one model."""

    decode: list[float]
    prompt: list[float]


def predict(path: Path, hardware: Hardware) -> tuple[float, float]:
    """Return decode and prompt tokens per second, as `size` computes them."""
    spec = read_model(path)
    depth = PLAN.n_prompt + PLAN.n_decode // 2

    def seconds_at(depth: int, *, decode: bool) -> float:
        shares = shares_of(
            spec, spec.weights[0], Request(), Placement(), hardware, depth=depth
        )
        assert shares is not None
        if decode:
            return decode_time(shares).seconds.value
        return prompt_time(shares, None).seconds.value

    return (
        1 / seconds_at(depth, decode=True),
        1 / seconds_at(PLAN.n_prompt, decode=False),
    )


def measure(paths: list[Path], n_repetitions: int) -> list[Speeds]:
    """Return what each model does, in turns; the first turn of each does not count."""
    settings = Settings(n_ctx=PLAN.n_tokens)
    speeds = [Speeds(decode=[], prompt=[]) for _ in paths]
    with ExitStack() as stack:
        workers = [
            stack.enter_context(
                ProcessWorker(Job(model=path, memory=None, settings=settings))
            )
            for path in paths
        ]
        for repetition in range(n_repetitions + 1):
            for worker, speed in zip(workers, speeds, strict=True):
                turn = worker.replay(*draw_tokens(worker.n_vocab, PLAN)(repetition))
                if repetition > 0:
                    part = turn.decode
                    speed.decode.append(part.n_tokens / part.elapsed_s)
                    part = turn.prompt
                    speed.prompt.append(part.n_tokens / part.elapsed_s)
    return speeds


def with_compute(hardware: Hardware, compute: Compute) -> Hardware:
    """Return the computer with a processor of these rates."""
    return replace(hardware, cpu=replace(hardware.cpu, compute=compute))


def rows_of(
    name: str, predicted: tuple[float, float], speeds: Speeds
) -> list[list[str]]:
    """Return a line for decode and one for prompts."""
    rows = []
    for what, guess, values in (
        ("decode", predicted[0], speeds.decode),
        ("prompt", predicted[1], speeds.prompt),
    ):
        error = guess / median(values) - 1
        mark = "" if abs(error) <= GOAL else " (!)"
        row = [name, what, f"{guess:.1f}", spread(values, 1), f"{error:+.1%}{mark}"]
        rows.append(row)
    return rows


def main() -> None:
    """Probe, predict, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--dir", type=Path, default=Path("/var/tmp"))
    args = parser.parse_args()
    hardware = with_compute(look(), measure_models(args.dir))
    with scratch_folder(args.dir) as folder:
        paths = [default_model()]
        for name, shape in SHAPES.items():
            paths.append(folder.new_file(f"synthetic {name}.gguf"))
            write_backbone(paths[-1], shape)
        predicted = [predict(path, hardware) for path in paths]
        measured = measure(paths, args.repetitions)
    head = ["model", "what", "predicted tok/s", "measured tok/s", "error"]
    rows = [
        row
        for path, guess, speeds in zip(paths, predicted, measured, strict=True)
        for row in rows_of(Path(folder.name_of(path)).stem, guess, speeds)
    ]
    print_table(head, rows)


if __name__ == "__main__":
    main()
