"""How fast llama.cpp computes here: a few short runs, and the rates that explain them.

Four small models are run in turns, each in a process of its own, and what they take is
split into what `Compute` adds up again. A wide and shallow model gives the rates of
weights, a narrow and deep one the time per layer and, with a long prompt, attention.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median_low

import numpy as np

from engram_local import catalog
from engram_local.bench.client import Job, ProcessWorker, Worker
from engram_local.bench.synthetic_llama import parse_shape, write_backbone
from engram_local.errors import BenchError
from engram_local.events import Progress
from engram_local.figures import Figure, Source
from engram_local.formats.header import Header, read_header
from engram_local.hardware import Compute, TypeRate
from engram_local.scratch_files import scratch_folder
from engram_local.settings import Settings
from engram_local.spec import RowType

N_PROMPT, N_LONG = 512, 1536
"""Tokens of a prompt: one batch, and enough that attention is a third of the time.

There is none of a few tokens: the first 500 slow a decode step down by more than the
next 500 do, and whoever waits for an answer has a prompt."""

N_STEPS = 32
"""Decoded after a prompt; 0.2 s on 2 cores."""

BUDGET_S = 28.0
"""No round begins after this; 5 of them and the start take 26 s on 2 cores."""

_NARROW, _WIDE, _OTHER = "896x10", "2048x2", "1024x4"
_N_WARM = 64  # tokens of a first prompt that does not count

Start = Callable[[Job], Worker]
Clock = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a model asks of a processor."""

    n_layers: int
    weight_bytes: int
    """Read in a decode step; the output counts, the token embedding does not."""

    token_flops: float
    """Of a prompt token: 2 per weight of the layers. llama.cpp computes the output,
    and most of the last layer, for the last token alone."""

    attention_flops: float
    """Per earlier token, all layers: 2 per query value and as many per value that is
    gathered, `2 * n_heads * (key size + value size)` of a layer."""


@dataclass(slots=True, kw_only=True)
class Case:
    """A model, what it asks for, and what its turns took, by tokens of the prompt.

    The median counts, as in `bench`; of an even number of turns the faster one of the
    middle, as one other program is enough to make a step of 8 ms one of 80.
    """

    path: Path
    type_name: str
    work: Work
    prompt_lengths: tuple[int, ...] = (N_PROMPT,)
    prompts_s: dict[int, list[float]] = field(default_factory=dict)
    steps_s: dict[int, list[float]] = field(default_factory=dict)

    def take_turns(self, worker: Worker) -> None:
        """Run every prompt once, and a few tokens after each."""
        for n_tokens in self.prompt_lengths:
            turn = worker.replay(*_tokens(n_tokens, worker.n_vocab))
            step_s = turn.decode.elapsed_s / turn.decode.n_tokens
            self.prompts_s.setdefault(n_tokens, []).append(turn.prompt.elapsed_s)
            self.steps_s.setdefault(n_tokens, []).append(step_s)

    def prompt_s(self, n_tokens: int) -> float:
        """Return the seconds of a prompt."""
        return median_low(self.prompts_s[n_tokens])

    def step_s(self, n_tokens: int) -> float:
        """Return the seconds of a decode step after a prompt."""
        return median_low(self.steps_s[n_tokens])


def _tokens(n_tokens: int, n_vocab: int) -> tuple[list[int], list[int]]:
    token_ids = [i % n_vocab for i in range(n_tokens + N_STEPS)]
    return token_ids[:n_tokens], token_ids[n_tokens:]


def measure_models(
    folder: Path,
    *,
    n_rounds: int = 5,
    n_threads: int | None = None,
    n_gpu_layers: int = 0,
    start: Start = ProcessWorker,
    clock: Clock = time.monotonic,
    progress: Progress = lambda what, part: None,
) -> Compute:
    """Return the rates of the processor, or of a GPU that gets `n_gpu_layers`.

    folder: where 0.4 GB of models are while it is measured; they are gone at the end.
    Raises FileError if the default model, whose vocabulary the others have, is not
    installed, BenchError if the times make no sense, and what a worker raises.
    """
    begin = clock()
    settings = Settings(
        n_ctx=N_LONG + N_STEPS, n_threads=n_threads, n_gpu_layers=n_gpu_layers
    )
    with _models(folder, progress) as cases, ExitStack() as stack:
        workers: list[Worker] = []
        for case in cases:
            progress("starting models", len(workers) / len(cases))
            job = Job(model=case.path, memory=None, settings=settings)
            workers.append(stack.enter_context(start(job)))
            workers[-1].replay(*_tokens(_N_WARM, workers[-1].n_vocab))
        for number in range(2 * n_rounds):
            late = number > 0 and clock() - begin > BUDGET_S
            if late or (number >= n_rounds and not _contradict(cases)):
                break
            for i, (case, worker) in enumerate(zip(cases, workers, strict=True)):
                part = (number + i / len(cases)) / n_rounds
                progress("running models", min(part, 1.0))
                case.take_turns(worker)
    return explain(cases)


def _contradict(cases: Sequence[Case]) -> bool:
    """Return whether more rounds are needed: noise can make no sense of all times."""
    try:
        explain(cases)
    except BenchError:
        return True
    return False


@contextmanager
def _models(parent: Path, progress: Progress) -> Iterator[list[Case]]:
    """Give the models that are run: narrow and wide, then one of each other type."""
    default = catalog.default_model()
    made = (
        (_NARROW, RowType.Q4_0, (N_PROMPT, N_LONG)),
        (_WIDE, RowType.Q4_0, (N_PROMPT,)),
        (_OTHER, RowType.Q8_0, (N_PROMPT,)),
    )
    with scratch_folder(parent) as folder:
        cases: list[Case] = []
        for name, weight_type, lengths in made:
            progress("writing models", len(cases) / len(made))
            path = folder.new_file(f"{name}.gguf")
            write_backbone(path, parse_shape(name), weight_type)
            cases.append(_case(path, weight_type.name, lengths))
        type_name = default.stem.rpartition(".")[2]  # SmolLM2-135M-Instruct.Q4_1
        yield [*cases, _case(default, type_name, (N_PROMPT,))]


def _case(path: Path, type_name: str, lengths: tuple[int, ...]) -> Case:
    work = work_of(read_header(path))
    return Case(path=path, type_name=type_name, work=work, prompt_lengths=lengths)


def work_of(header: Header) -> Work:
    """Return what a dense llama backbone asks for; raise FormatError if it is none."""
    architecture = header.architecture
    n_layers = header.integer(f"{architecture}.block_count")
    n_heads = header.integer(f"{architecture}.attention.head_count")
    width = header.integer(f"{architecture}.embedding_length")
    head_size = header.integer(f"{architecture}.rope.dimension_count", width // n_heads)
    layers = [t for name, t in header.tensors.items() if name.startswith("blk.")]
    last_ffn = f"blk.{n_layers - 1}.ffn_"
    in_prompt = [t for t in layers if not t.name.startswith(last_ffn)]
    tied = "output.weight" not in header.tensors
    output = header.tensor("token_embd.weight" if tied else "output.weight")
    return Work(
        n_layers=n_layers,
        weight_bytes=sum(t.n_bytes or 0 for t in [*layers, output]),
        token_flops=2.0 * sum(t.n_elements for t in in_prompt if len(t.shape) > 1),
        attention_flops=4.0 * n_heads * head_size * n_layers,
    )


def explain(cases: Sequence[Case]) -> Compute:
    """Return the rates by which the cases take what they took.

    cases: narrow and wide of one type, then one of each other type. Raises BenchError
    if the times contradict each other, which noise can do.
    """
    narrow, wide, *others = cases
    # A prompt three times as long takes three times as long, but for attention.
    times = N_LONG / N_PROMPT
    attention = narrow.work.attention_flops
    prompt_attention = _rate(
        attention * (N_LONG**2 - times * N_PROMPT**2) / 2,
        narrow.prompt_s(N_LONG) - times * narrow.prompt_s(N_PROMPT),
    )
    step_attention = _rate(
        attention * (N_LONG - N_PROMPT),
        narrow.step_s(N_LONG) - narrow.step_s(N_PROMPT),
    )
    bytes_per_s, layer_s = _split_step(narrow, wide, step_attention)
    return Compute(
        weight_bytes_per_s=bytes_per_s,
        flops_per_s=_flops_rate(wide, prompt_attention),
        layer_s=layer_s,
        attention_flops_per_s=step_attention,
        prompt_attention_flops_per_s=prompt_attention,
        types=tuple(
            TypeRate(
                name=case.type_name,
                weight_bytes_per_s=_bytes_rate(case, step_attention, layer_s),
                flops_per_s=_flops_rate(case, prompt_attention),
            )
            for case in (wide, *others)
        ),
    )


def _split_step(narrow: Case, wide: Case, attention: Figure) -> tuple[Figure, Figure]:
    """Return the rate of bytes, and the time per layer, which is not below zero."""
    cases = (narrow, wide)
    sizes = [[case.work.n_layers, case.work.weight_bytes] for case in cases]
    times = [_matrix_step_s(case, attention) for case in cases]
    layer_s = Figure(max(0.0, float(np.linalg.solve(sizes, times)[0])), Source.MEASURED)
    return _bytes_rate(wide, attention, layer_s), layer_s


def _bytes_rate(case: Case, attention: Figure, layer_s: Figure) -> Figure:
    layers_s = case.work.n_layers * layer_s.value
    return _rate(case.work.weight_bytes, _matrix_step_s(case, attention) - layers_s)


def _matrix_step_s(case: Case, attention: Figure) -> float:
    """Return what a step takes beside attention."""
    depth = N_PROMPT + N_STEPS / 2
    attention_s = depth * case.work.attention_flops / attention.value
    return case.step_s(N_PROMPT) - attention_s


def _flops_rate(case: Case, attention: Figure) -> Figure:
    attention_s = N_PROMPT**2 / 2 * case.work.attention_flops / attention.value
    return _rate(
        N_PROMPT * case.work.token_flops, case.prompt_s(N_PROMPT) - attention_s
    )


def _rate(amount: float, elapsed_s: float) -> Figure:
    if elapsed_s <= 0:
        raise BenchError(
            "the times of two runs contradict each other",
            hint="measure again while the computer does nothing else",
        )
    return Figure(amount / elapsed_s, Source.MEASURED)
