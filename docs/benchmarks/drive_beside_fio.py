"""What `engram-local probe` says of a drive, and fio: `drive_beside_fio.py`.

Both read the same file of random bytes, in turns: ours with so many threads, fio with
as many (`psync`), and fio with one that keeps as many reads in flight (`io_uring`).
Prints medians per second. Needs Linux, fio, and free space that it gives back.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import numpy as np

from engram_local.probe.drive_speed import DEPTHS, measure_drive
from engram_local.units import GIB, MIB

RUN_S = 1
ENGINES = {
    "fio psync": ["--ioengine=psync", "--thread", "--numjobs={depth}"],
    "fio io_uring": ["--ioengine=io_uring", "--iodepth={depth}", "--numjobs=1"],
}


def fio_reads_per_s(path: Path, engine: str, depth: int) -> float:
    """Run fio once."""
    command = [
        *("fio", "--name=probe", f"--filename={path}", "--readonly"),
        *("--direct=1", "--rw=randread", "--bs=4k", "--norandommap", "--randrepeat=0"),
        *("--time_based", f"--runtime={RUN_S}", "--group_reporting"),
        *(word.format(depth=depth) for word in ENGINES[engine]),
        "--output-format=json",
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout)["jobs"][0]["read"]["iops"])


def measure(path: Path, n_repetitions: int) -> dict[str, dict[int, list[float]]]:
    """Return reads per second by what read, and by depth."""
    rates: dict[str, dict[int, list[float]]] = {
        name: {depth: [] for depth in DEPTHS} for name in ("probe", *ENGINES)
    }
    for number in range(n_repetitions):
        print(f"{number + 1} of {n_repetitions}", file=sys.stderr)
        ours = measure_drive(path.parent, file=path, n_rounds=1, run_s=RUN_S)
        for rate in ours.reads:
            rates["probe"][rate.depth].append(rate.reads_per_s.value)
        for engine in ENGINES:
            for depth in DEPTHS:
                rates[engine][depth].append(fio_reads_per_s(path, engine, depth))
    return rates


def report(rates: dict[str, dict[int, list[float]]]) -> None:
    """Print a table; ratios are of medians."""
    print("| at once | probe | fio psync | fio io_uring | probe to psync |")
    print("|---|---|---|---|---|")
    for depth in DEPTHS:
        cells = []
        for own in rates.values():
            few, many = min(own[depth]), max(own[depth])
            cells.append(f"{median(own[depth]):,.0f} ({few:,.0f}-{many:,.0f})")
        ratio = median(rates["probe"][depth]) / median(rates["fio psync"][depth])
        print(f"| {depth} | {' | '.join(cells)} | {ratio:.2f} |")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(), help="on which drive")
    parser.add_argument("-r", "--repetitions", type=int, default=7)
    given = parser.parse_args()
    generator = np.random.default_rng()
    with tempfile.NamedTemporaryFile(dir=given.folder) as file:
        for _ in range(GIB // (16 * MIB)):
            file.write(generator.bytes(16 * MIB))
        file.flush()
        report(measure(Path(file.name), given.repetitions))


if __name__ == "__main__":
    main()
