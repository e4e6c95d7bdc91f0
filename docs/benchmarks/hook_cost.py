"""What the eval callback costs, piece by piece: `python docs/benchmarks/hook_cost.py`.

The same 64 tokens through contexts without and with a callback, in turn; prints median
milliseconds per token and the median ratio to the first context.
"""

from __future__ import annotations

import time
from statistics import median

import numpy as np
from numpy.typing import NDArray

from engram_local.catalog import default_model
from engram_local.llama.hook import PythonFunction
from engram_local.llama.runtime import Backbone
from engram_local.settings import Settings

N_PROMPT, N_DECODE, N_REPETITIONS = 16, 64, 11
LAYERS = (2, 14)
WORK_S = 60e-6


def nothing(_line: int, _hidden: NDArray[np.float32]) -> None:
    """Look and do nothing."""


def work(_line: int, _hidden: NDArray[np.float32]) -> None:
    """Keep llama.cpp waiting for a while."""
    end = time.perf_counter() + WORK_S
    while time.perf_counter() < end:
        pass


def open_arms() -> dict[str, Backbone]:
    """Return one context per arm."""
    path, settings = default_model(), Settings(n_ctx=512)
    arms = {
        "no callback": Backbone(path, settings),
        "no callback again": Backbone(path, settings),
        "asked only": Backbone(path, settings, hook_width=576),
        "empty function": Backbone(path, settings, hook_width=576),
        "60 us of work": Backbone(path, settings, hook_width=576),
    }
    for name, function in (("empty function", nothing), ("60 us of work", work)):
        arm = arms[name]
        arm.hook_layers(LAYERS, PythonFunction(function, arm.n_embd))
    return arms


def decode_ms(backbone: Backbone, token_ids: list[int]) -> float:
    """Return the mean time of one token."""
    backbone.reset()
    backbone.decode(token_ids[:N_PROMPT], 0)
    start = time.perf_counter()
    for number, token_id in enumerate(token_ids[N_PROMPT:]):
        backbone.decode([token_id], N_PROMPT + number)
    return 1e3 * (time.perf_counter() - start) / N_DECODE


def main() -> None:
    """Measure and print."""
    arms = open_arms()
    names = list(arms)
    generator = np.random.default_rng(0)
    token_ids = generator.integers(0, 49_000, N_PROMPT + N_DECODE).tolist()
    times: dict[str, list[float]] = {name: [] for name in names}
    for repetition in range(N_REPETITIONS + 1):  # the first warms up
        turn = repetition % len(names)
        for name in (*names[turn:], *names[:turn]):
            times[name].append(decode_ms(arms[name], token_ids))
    reference = times[names[0]][1:]
    for name in names:
        own = times[name][1:]
        ratio = median(a / b for a, b in zip(reference, own, strict=True))
        print(f"{name:<20}{median(own):>8.3f} ms{ratio:>8.3f}")


if __name__ == "__main__":
    main()
