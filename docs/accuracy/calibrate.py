"""What llama.cpp reaches of a data sheet: `python docs/accuracy/calibrate.py`.

Fits the middle values of `gpu_rates` in engram_local/sizing/speed.py to the published
decode steps and prompts of whole models on GPUs. Every device counts alike, however
many speeds it has; the error told is that of devices which were left out.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import fmean, median

if __name__ == "__main__":  # started as a script: the checkout is not on the path
    sys.path.insert(0, str(Path(__file__).parents[2]))

from docs.accuracy.compare import LLAMA, hardware_of, used_shares
from docs.accuracy.published import PublishedSpeed, load_speeds

BANDWIDTH_PARTS = [part / 100 for part in range(50, 101, 2)]
LAYERS_PER_S = [1e3 * n for n in (10, 15, 20, 25, 30, 40, 50, 60, 80, 120)]
FLOPS_PARTS = [part / 100 for part in range(30, 121, 2)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A published speed, with what a token takes at a data sheet's full rates."""

    device: str
    published_s: float
    memory_s: float
    """Decode: weights and cache. Prompt: all weights, over the tokens of a batch."""

    n_layers: int = 0
    compute_s: float = 0.0


Params = tuple[float, ...]
Predict = Callable[[Sample, Params], float]


def decode_s(sample: Sample, params: Params) -> float:
    """Return a decode step's seconds at a part of the bandwidth and layers per s."""
    part, layers_per_s = params
    return sample.memory_s / part + sample.n_layers / layers_per_s


def prompt_s(sample: Sample, params: Params) -> float:
    """Return a prompt token's seconds at parts of the operations and bandwidth."""
    flops_part, bandwidth_part = params
    return max(sample.compute_s / flops_part, sample.memory_s / bandwidth_part)


def samples(speeds: Sequence[PublishedSpeed], what: str) -> Iterator[Sample]:
    """Yield the speeds of whole models on GPUs; prompts where the maker's rate is."""
    for speed in speeds:
        if speed.engine != LLAMA or speed.n_expert_layers_in_ram:
            continue
        gpu = hardware_of(speed).gpus[0]
        flops, bandwidth = gpu.compute.flops_per_s, gpu.bytes_per_s
        assert bandwidth is not None
        if what == "decode" and speed.decode_per_s:
            depth = speed.depth + (speed.n_decode or 512) // 2
            (share,) = used_shares(speed, depth)
            n_bytes = share.weight_bytes + share.cache_bytes
            yield Sample(
                device=speed.device,
                published_s=1 / speed.decode_per_s,
                memory_s=n_bytes / bandwidth.value,
                n_layers=share.n_layers,
            )
        if what == "prompt" and speed.prompt_per_s and flops is not None:
            depth = speed.n_prompt or 512
            (share,) = used_shares(speed, depth)
            n_flops = share.token_flops + share.prompt_attention_flops
            yield Sample(
                device=speed.device,
                published_s=1 / speed.prompt_per_s,
                memory_s=share.streamed_bytes / bandwidth.value,
                compute_s=n_flops / flops.value,
            )


def fit(known: Sequence[Sample], predict: Predict, grid: Sequence[Params]) -> Params:
    """Return the parameters with the least mean ratio between told and published."""
    counts = Counter(sample.device for sample in known)

    def loss(params: Params) -> float:
        return sum(
            abs(math.log(predict(sample, params) / sample.published_s))
            / counts[sample.device]
            for sample in known
        )

    return min(grid, key=loss)


def errors_left_out(
    known: Sequence[Sample], predict: Predict, grid: Sequence[Params]
) -> Iterator[float]:
    """Yield each speed's error, fitted without its device."""
    for device in sorted({sample.device for sample in known}):
        params = fit([one for one in known if one.device != device], predict, grid)
        for sample in known:
            if sample.device == device:
                yield sample.published_s / predict(sample, params) - 1


def main() -> None:
    """Fit decode, then prompts with its part of the bandwidth; print both."""
    speeds = load_speeds()
    decode = list(samples(speeds, "decode"))
    grid: list[Params] = list(product(BANDWIDTH_PARTS, LAYERS_PER_S))
    part, layers_per_s = fit(decode, decode_s, grid)
    print(f"decode: {part:.2f} of the bandwidth, {layers_per_s:,.0f} layers/s")
    _print_errors(list(errors_left_out(decode, decode_s, grid)))
    prompts = list(samples(speeds, "prompt"))
    grid = [(flops_part, part) for flops_part in FLOPS_PARTS]
    print(f"prompt: {fit(prompts, prompt_s, grid)[0]:.2f} of the operations")
    _print_errors(list(errors_left_out(prompts, prompt_s, grid)))


def _print_errors(errors: Sequence[float]) -> None:
    sizes = sorted(map(abs, errors))
    print(
        f"  devices left out: {len(sizes)} speeds, median error {median(sizes):.0%}, "
        f"mean {fmean(sizes):.0%}, nine of ten within "
        f"{sizes[math.ceil(0.9 * len(sizes)) - 1]:.0%}, worst {sizes[-1]:.0%}"
    )


if __name__ == "__main__":
    main()
