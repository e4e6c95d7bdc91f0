"""What our decode loop costs:
`OPENBLAS_NUM_THREADS=1 python docs/benchmarks/bare_loop.py`.

The same tokens of the default model through

* a bare loop: `llama_decode` of `llama_batch_get_one`, numpy's argmax of the logits,
* the same loop in a context of its own, which shows how much is noise,
* `Engine.replay`, without and with memory: sampler chain (greedy), submit, decode,

in turn, in one process, with the same context parameters and threads. A ratio compares
two turns of the same repetition, by mean and by median time of a token. Nothing but
engram-local and its default model needs to be installed. The command line sets the same
variable.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import mean, median
from typing import Any

import llama_cpp
import numpy as np
from common import print_table, ratios, spread, turns

from engram_local import Engine, Settings
from engram_local.attachment import MemoryChoice
from engram_local.catalog import default_model
from engram_local.llama import logs
from engram_local.settings import default_threads

N_PROMPT, N_VOCAB = 16, 49_000
BARE, AGAIN, OURS, MEMORY = "bare loop", "bare loop again", "engine", "engine, memory"

Decode = Callable[[list[int], list[int]], list[float]]
"""(prompt, tokens) -> seconds of each token."""

Times = dict[str, list[list[float]]]
"""Per arm and repetition the seconds of each token."""


def open_bare(stack: ExitStack, path: Path, settings: Settings) -> Decode:
    """Return a bare loop with a model and a context of its own."""
    params = llama_cpp.llama_model_default_params()
    model = llama_cpp.llama_model_load_from_file(os.fsencode(path), params)
    stack.callback(llama_cpp.llama_model_free, model)
    context = llama_cpp.llama_init_from_model(model, context_params(settings))
    stack.callback(llama_cpp.llama_free, context)
    vocab = llama_cpp.llama_model_get_vocab(model)
    n_vocab = llama_cpp.llama_vocab_n_tokens(vocab)
    return lambda prompt, tokens: bare_loop(context, n_vocab, prompt, tokens)


def context_params(settings: Settings) -> Any:
    """Return what an engine with these settings gives llama.cpp."""
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = settings.n_ctx
    params.n_batch = settings.n_batch
    params.n_ubatch = settings.n_ubatch
    params.n_threads = params.n_threads_batch = settings.n_threads
    params.no_perf = True
    return params


def bare_loop(
    context: ctypes.c_void_p, n_vocab: int, prompt: list[int], tokens: list[int]
) -> list[float]:
    """Decode `tokens` after `prompt`; return the seconds of each."""
    llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
    evaluate(context, prompt)
    times = [time.perf_counter()]
    for token in tokens:
        logits = llama_cpp.llama_get_logits(context)
        int(np.ctypeslib.as_array(logits, (n_vocab,)).argmax())
        evaluate(context, [token])
        times.append(time.perf_counter())
    return np.diff(times).tolist()


def evaluate(context: ctypes.c_void_p, token_ids: list[int]) -> None:
    """Decode one batch."""
    tokens = (llama_cpp.llama_token * len(token_ids))(*token_ids)
    batch = llama_cpp.llama_batch_get_one(tokens, len(token_ids))
    if llama_cpp.llama_decode(context, batch) != 0:
        raise SystemExit("llama_decode failed")
    llama_cpp.llama_synchronize(context)


def open_engine(stack: ExitStack, memory: MemoryChoice, settings: Settings) -> Decode:
    """Return the engine's loop."""
    engine = stack.enter_context(Engine.open(memory=memory, settings=settings))
    return lambda prompt, tokens: list(engine.replay(prompt, tokens).token_s)


def measure(arms: dict[str, Decode], n_repetitions: int, n_tokens: int) -> Times:
    """Run the arms in turn on the same tokens; one repetition before warms up."""
    token_s: Times = {name: [] for name in arms}
    for name in turns(list(arms), n_repetitions + 1):
        generator = np.random.default_rng(len(token_s[name]))
        ids = generator.integers(0, N_VOCAB, N_PROMPT + n_tokens).tolist()
        token_s[name].append(arms[name](ids[:N_PROMPT], ids[N_PROMPT:]))
    return {name: runs[1:] for name, runs in token_s.items()}


def print_results(token_s: Times) -> None:
    """Print speeds, and their ratios to the bare loop."""
    by_mean, by_median = (
        {name: [1 / middle(run) for run in runs] for name, runs in token_s.items()}
        for middle in (mean, median)
    )
    rows = [
        [
            name,
            spread(by_mean[name], 1),
            spread(ratios(by_mean, name, BARE), 3),
            spread(ratios(by_median, name, BARE), 3),
        ]
        for name in token_s
    ]
    print_table(["arm", "tok/s", "to bare loop", "by median token"], rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-r", "--repetitions", type=int, default=21)
    parser.add_argument("-n", "--tokens", type=int, default=64)
    parser.add_argument("-t", "--threads", type=int, default=default_threads())
    args = parser.parse_args()
    settings = Settings(n_ctx=512, n_threads=args.threads, temperature=0)
    logs.capture()
    with ExitStack() as stack:
        arms = {
            BARE: open_bare(stack, default_model(), settings),
            AGAIN: open_bare(stack, default_model(), settings),
            OURS: open_engine(stack, None, settings),
            MEMORY: open_engine(stack, "auto", settings),
        }
        print_results(measure(arms, args.repetitions, args.tokens))


if __name__ == "__main__":
    main()
