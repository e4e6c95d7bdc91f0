"""How long a start takes: `python docs/benchmarks/start_time.py`.

From the start of a process to the first byte it prints, in turn: `--help`; a token of
the default model, with and without its memory; and llama.cpp loading the same model,
which the others cannot beat. A first run of each is thrown away, so code is compiled
and files are in memory.
"""

from __future__ import annotations

import subprocess
import sys
import time
from statistics import median

N_REPETITIONS = 9
LOAD = """
import time, llama_cpp
from engram_local.catalog import default_model
path = str(default_model()).encode()
quiet = llama_cpp.llama_log_callback(lambda *_: None)
llama_cpp.llama_log_set(quiet, None)
start = time.perf_counter()
model = llama_cpp.llama_model_load_from_file(
    path, llama_cpp.llama_model_default_params())
llama_cpp.llama_init_from_model(model, llama_cpp.llama_context_default_params())
print(time.perf_counter() - start)
"""
ENGRAM = [sys.executable, "-m", "engram_local"]
ONE_TOKEN = [*ENGRAM, "run", "-p", "Hi", "-n", "1", "--temp", "0"]


def first_byte_s(command: list[str]) -> float:
    """Return the seconds from a process's start to the first byte it prints."""
    start = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
    ) as process:
        assert process.stdout is not None and process.stdout.read(1)
        return time.perf_counter() - start


def load_s() -> float:
    """Return llama.cpp's own seconds, in a process of its own."""
    command = [sys.executable, "-c", LOAD]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)


def main() -> None:
    """Measure and print."""
    arms = {
        "engram-local --help": lambda: first_byte_s([*ENGRAM, "--help"]),
        "llama.cpp loads model and context": load_s,
        "run, first token": lambda: first_byte_s(ONE_TOKEN),
        "run, first token, no memory": lambda: first_byte_s(
            [*ONE_TOKEN, "--no-memory"]
        ),
    }
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(N_REPETITIONS + 1):
        for name, measure in arms.items():
            seconds[name].append(measure())
    print("| what | seconds, median (smallest-largest) |\n|---|---|")
    for name, values in seconds.items():
        own = values[1:]
        print(f"| {name} | {median(own):.2f} ({min(own):.2f}-{max(own):.2f}) |")


if __name__ == "__main__":
    main()
