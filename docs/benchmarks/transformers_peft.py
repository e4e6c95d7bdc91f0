"""Decoding with an adapter, here and where it was trained:
`OPENBLAS_NUM_THREADS=1 python docs/benchmarks/transformers_peft.py`.

Needs `pip install torch==2.13.0 transformers==5.23.0 accelerate==1.15.0 peft==0.21.2
trl==1.16.0 jaxtyping typeguard python-dotenv safetensors` (torch for the CPU) and
`pip install --no-deps engram-peft==1.2.7`, which also asks for bitsandbytes and does
without it.

One engram-peft adapter (`--adapter`) on the default model:

* transformers and engram-peft: the model dequantized to float32, `generate`, greedy;
  without the adapter as well,
* engram-local: the same float32 weights, and the file as it comes, `Engine.replay`;
  with the adapter converted to a memory of F16 rows, and without.

All in one process, in turn, with the same number of threads, after the same prompt of
64 tokens; what comes before the first token is not timed. The float32 model (540 MB)
and the memory are written into a temporary folder. Before, the mean NLL of the prompt,
in one pass with the memory, must agree to 0.01. What is generated is not compared:
engram-peft 1.2.7 drops the convolution's history between tokens.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import typing
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import llama_cpp
import torch
import transformers
from common import print_table, ratios, spread, turns
from typing_extensions import override

from engram_local import Engine, Settings
from engram_local.catalog import default_model
from engram_local.cli import main as engram_local
from engram_local.llama import logs
from engram_local.settings import default_threads

GOLDEN = Path(__file__).parents[2] / "tests" / "golden"
N_PROMPT = 64
PEER, PEER_BARE = "transformers + engram-peft, float32", "transformers, float32"
MAX_NLL_DIFFERENCE = 0.01

Decode = Callable[[list[int], list[int]], float]
"""(prompt, tokens) -> tokens per second."""


class Stopwatch(transformers.generation.streamers.BaseStreamer):
    """Notes when `generate` hands out tokens: first the prompt, then one by one."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, value: torch.Tensor) -> None:
        """Note the time."""
        self.times.append(time.perf_counter())

    def end(self) -> None:
        """Do nothing."""


def open_peer(adapter: Path) -> Any:
    """Return engram-peft's model on the default model in float32."""
    if not hasattr(typing, "override"):  # engram-peft is written for Python 3.12
        typing.override = override  # type: ignore[attr-defined]
    import engram_peft

    messages: Any = transformers.utils.logging
    messages.disable_progress_bar()
    messages.set_verbosity_error()
    path = default_model()
    source = {"gguf_file": path.name}
    tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, **source)
    backbone = transformers.AutoModelForCausalLM.from_pretrained(
        path.parent, dtype=torch.float32, **source
    )
    model = engram_peft.EngramModel.from_pretrained(
        backbone, str(adapter), tokenizer=tokenizer
    )
    return model.eval()


def generate(
    model: Any, with_memory: bool, prompt: list[int], tokens: list[int]
) -> float:
    """Generate one token and as many more as are given; return those per second."""
    (model.load_engram if with_memory else model.unload_engram)()
    n_new = len(tokens) + 1
    stopwatch = Stopwatch()
    model.generate(
        input_ids=torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        do_sample=False,
        min_new_tokens=n_new,
        max_new_tokens=n_new,
        streamer=stopwatch,
    )
    return len(tokens) / (stopwatch.times[-1] - stopwatch.times[1])


def replay(engine: Engine, prompt: list[int], tokens: list[int]) -> float:
    """Return our tokens per second."""
    return len(tokens) / sum(engine.replay(prompt, tokens).token_s)


@torch.no_grad()
def mean_nll(model: Any, token_ids: list[int]) -> float:
    """Return engram-peft's mean negative log-likelihood, computed in one pass."""
    ids = torch.tensor([token_ids])
    logits = model(input_ids=ids).logits[0, :-1]
    return float(torch.nn.functional.cross_entropy(logits, ids[0, 1:]))


def write_float32(target: Path) -> None:
    """Write the default model with float32 weights."""
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = llama_cpp.LLAMA_FTYPE_ALL_F32
    params.allow_requantize = True
    files = os.fsencode(default_model()), os.fsencode(target)
    if llama_cpp.llama_model_quantize(*files, params) != 0:
        sys.exit(f"{target} cannot be written")


def convert(adapter: Path, target: Path) -> None:
    """Write the adapter as a memory."""
    if engram_local(["convert", str(adapter), "-o", str(target)]) != 0:
        sys.exit(f"{adapter} cannot be converted")


def open_engines(
    stack: ExitStack, adapter: Path, settings: Settings
) -> dict[str, Engine]:
    """Return an engine per arm of ours."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    float32, memory = folder / "float32.gguf", folder / "memory.gguf"
    write_float32(float32)
    convert(adapter, memory)
    return {
        f"engram-local, {weights}{', memory' if path else ''}": stack.enter_context(
            Engine.open(model, memory=path, settings=settings)
        )
        for weights, model in (("float32", float32), ("Q4_1", default_model()))
        for path in (memory, None)
    }


def check_same(model: Any, engine: Engine, prompt: list[int]) -> None:
    """Stop unless both compute the same thing."""
    theirs, ours = mean_nll(model, prompt), mean(engine.score(prompt))
    print(
        f"mean NLL of the prompt: engram-peft {theirs:.4f}, engram-local {ours:.4f}\n"
    )
    if abs(theirs - ours) > MAX_NLL_DIFFERENCE:
        sys.exit("these are not the same model")


def measure(
    arms: dict[str, Decode], token_ids: list[int], n_repetitions: int
) -> dict[str, list[float]]:
    """Run the arms in turn; one repetition before is not counted."""
    tokens_per_s: dict[str, list[float]] = {name: [] for name in arms}
    prompt, tokens = token_ids[:N_PROMPT], token_ids[N_PROMPT:]
    for name in turns(list(arms), n_repetitions + 1):
        tokens_per_s[name].append(arms[name](prompt, tokens))
    return {name: runs[1:] for name, runs in tokens_per_s.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-r", "--repetitions", type=int, default=11)
    parser.add_argument("-n", "--tokens", type=int, default=32, help="up to 96")
    parser.add_argument("-t", "--threads", type=int, default=default_threads())
    parser.add_argument("--adapter", type=Path, default=GOLDEN / "peft_a")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    settings = Settings(n_ctx=512, n_threads=args.threads, temperature=0)
    model = open_peer(args.adapter)
    with ExitStack() as stack:
        logs.capture()
        engines = open_engines(stack, args.adapter, settings)
        first = next(iter(engines.values()))
        text = (GOLDEN / "text_a.txt").read_text("utf-8")
        token_ids = first.tokenize(text)[: N_PROMPT + args.tokens]
        check_same(model, first, token_ids[:N_PROMPT])
        arms: dict[str, Decode] = {
            PEER: partial(generate, model, True),
            PEER_BARE: partial(generate, model, False),
            **{name: partial(replay, engine) for name, engine in engines.items()},
        }
        speeds = measure(arms, token_ids, args.repetitions)
    rows = [
        [name, spread(speeds[name], 1), spread(ratios(speeds, name, PEER), 2)]
        for name in speeds
    ]
    print_table(["arm", "tok/s", "to engram-peft"], rows)


if __name__ == "__main__":
    main()
