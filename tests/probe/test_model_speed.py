"""Rates from the times of a few models: what went in comes out."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from engram_local import catalog
from engram_local.bench import synthetic_llama
from engram_local.bench.client import Job
from engram_local.bench.synthetic_llama import parse_shape
from engram_local.bench.turn import Turn
from engram_local.errors import BenchError, FileError
from engram_local.figures import Figure, Source
from engram_local.formats.header import read_header
from engram_local.hardware import Compute, TypeRate
from engram_local.probe import model_speed
from engram_local.probe.model_speed import (
    N_LONG,
    N_PROMPT,
    N_STEPS,
    Case,
    Work,
    explain,
    measure_models,
    work_of,
)
from engram_local.spec import BackboneShape, RowType
from tests.bench.fakes import FakeWorker, FakeWorld, make_turn, plain_part
from tests.fakes import backbone_file

Times = tuple[float, float]


def measured(value: float) -> Figure:
    return Figure(value, Source.MEASURED)


TRUTH = Compute(
    weight_bytes_per_s=measured(30e9),
    flops_per_s=measured(400e9),
    layer_s=measured(50e-6),
    attention_flops_per_s=measured(25e9),
    prompt_attention_flops_per_s=measured(90e9),
    types=(
        TypeRate(
            name="Q4_0",
            weight_bytes_per_s=measured(30e9),
            flops_per_s=measured(400e9),
        ),
        TypeRate(
            name="Q4_1",
            weight_bytes_per_s=measured(20e9),
            flops_per_s=measured(80e9),
        ),
    ),
)
NARROW = Work(
    n_layers=16, weight_bytes=72_000_000, token_flops=2e8, attention_flops=4e4
)
WIDE = Work(
    n_layers=2, weight_bytes=145_000_000, token_flops=1.7e8, attention_flops=2e4
)
OTHER = Work(n_layers=30, weight_bytes=96_000_000, token_flops=2e8, attention_flops=7e4)


def true_times(work: Work, type_name: str, n_prompt: int, n_decode: int) -> Times:
    """Return the seconds of a prompt, and of a step in the middle of an answer."""
    rates = TRUTH.for_type(type_name)
    step, prompt = TRUTH.attention_flops_per_s, TRUTH.prompt_attention_flops_per_s
    assert rates.weight_bytes_per_s and rates.flops_per_s and rates.layer_s
    assert step is not None and prompt is not None
    depth = n_prompt + n_decode // 2
    return (
        n_prompt * work.token_flops / rates.flops_per_s.value
        + n_prompt**2 / 2 * work.attention_flops / prompt.value,
        work.weight_bytes / rates.weight_bytes_per_s.value
        + depth * work.attention_flops / step.value
        + work.n_layers * rates.layer_s.value,
    )


def case(work: Work, *lengths: int, type_name: str = "Q4_0") -> Case:
    """Return a case whose turns took what the truth says, and once much longer."""
    case = Case(path=Path("x"), type_name=type_name, work=work, prompt_lengths=lengths)
    for n_tokens in lengths:
        prompt_s, step_s = true_times(work, type_name, n_tokens, N_STEPS)
        case.prompts_s[n_tokens] = [10 * prompt_s, prompt_s]
        case.steps_s[n_tokens] = [step_s, 10 * step_s]
    return case


def cases() -> list[Case]:
    return [
        case(NARROW, N_PROMPT, N_LONG),
        case(WIDE, N_PROMPT),
        case(OTHER, N_PROMPT, type_name="Q4_1"),
    ]


def test_the_rates_that_made_the_times_are_found() -> None:
    found = explain(cases())
    for name in (
        "weight_bytes_per_s",
        "flops_per_s",
        "layer_s",
        "attention_flops_per_s",
        "prompt_attention_flops_per_s",
    ):
        figure, truth = getattr(found, name), getattr(TRUTH, name)
        assert figure.value == pytest.approx(truth.value), name
        assert figure.source is Source.MEASURED
    for rate, truth in zip(found.types, TRUTH.types, strict=True):
        assert rate.name == truth.name
        assert rate.weight_bytes_per_s.value == pytest.approx(
            truth.weight_bytes_per_s.value
        )
        assert rate.flops_per_s.value == pytest.approx(truth.flops_per_s.value)


def test_a_layer_takes_no_less_than_nothing() -> None:
    narrow, wide, other = cases()
    wide.steps_s[N_PROMPT] = [2 * seconds for seconds in wide.steps_s[N_PROMPT]]
    found = explain([narrow, wide, other])
    assert found.layer_s is not None and found.layer_s.value == 0.0


def test_times_that_contradict_each_other_are_an_error() -> None:
    narrow, wide, other = cases()
    narrow.steps_s[N_LONG] = [narrow.step_s(N_PROMPT) / 2]
    with pytest.raises(BenchError, match="contradict"):
        explain([narrow, wide, other])


@pytest.fixture
def default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny default model, of which only the vocabulary and the name matter."""
    path = backbone_file().write(tmp_path / "Tiny.Q4_1.gguf")
    monkeypatch.setattr(catalog, "default_model", lambda: path)
    return path


def test_work_is_counted_from_the_header(default: Path, tmp_path: Path) -> None:
    shape = replace(parse_shape("128x3"), n_heads=4, n_kv_heads=2)
    path = tmp_path / "made.gguf"
    synthetic_llama.write_backbone(path, shape, RowType.Q4_0)
    n_vocab = len(read_header(default).texts("tokenizer.ggml.tokens"))
    attention = 2 * 128 * 128 + 2 * 128 * 64
    ffn = 3 * 128 * shape.ffn_size
    weights = 3 * (attention + ffn) + n_vocab * 128
    norms_bytes = 3 * 2 * 128 * 4
    assert work_of(read_header(path)) == Work(
        n_layers=3,
        weight_bytes=weights * 18 // 32 + norms_bytes,
        token_flops=2.0 * (3 * attention + 2 * ffn),  # not the last layer's
        attention_flops=4.0 * 128 * 3,
    )


class Computer:
    """Starts workers that take what the truth says, and counts their rounds."""

    def __init__(self) -> None:
        self.world = FakeWorld()
        self.names: dict[Path, str] = {}
        """Of the models that were made, by where they are."""

        self.models: list[str] = []
        self.jobs: list[Job] = []

    def start(self, job: Job) -> FakeWorker:
        """Start a worker."""
        assert job.memory is None and job.model.exists()
        name = self.name_of(job.model)
        self.models.append(name)
        self.jobs.append(job)
        return Timed(self.world, name, has_memory=False)

    def make(self, path: Path, shape: BackboneShape, _: RowType) -> None:
        """Make a small file in place of a model."""
        self.names[path] = f"{shape.hidden_size}x{shape.n_layers}"
        backbone_file().write(path)

    def name_of(self, path: Path) -> str:
        """Return what a model is called."""
        return self.names.get(path, path.stem)


class Timed(FakeWorker):
    """Takes a turn in no time, and says that it took the true one."""

    def replay(
        self,
        prompt_ids: Sequence[int],
        token_ids: Sequence[int],
        *,
        memory: bool = True,
    ) -> Turn:
        """Look up what it takes."""
        FakeWorker.replay(self, prompt_ids, token_ids, memory=memory)
        work = {"896x10": NARROW, "2048x2": WIDE, "1024x4": OTHER}.get(
            self.label, OTHER
        )
        type_name = "Q4_1" if work is OTHER else "Q4_0"
        n_prompt, n_decode = len(prompt_ids), len(token_ids)
        prompt_s, step_s = true_times(work, type_name, n_prompt, n_decode)
        return make_turn(
            prompt=plain_part(n_tokens=n_prompt, elapsed_s=prompt_s),
            decode=plain_part(n_tokens=n_decode, elapsed_s=step_s * n_decode),
        )


@pytest.fixture
def computer(monkeypatch: pytest.MonkeyPatch) -> Computer:
    """Models are small files, but are said to ask for what real ones do."""
    works = {"896x10": NARROW, "2048x2": WIDE}
    computer = Computer()
    monkeypatch.setattr(
        model_speed,
        "work_of",
        lambda header: works.get(computer.name_of(header.path), OTHER),
    )
    monkeypatch.setattr(model_speed, "write_backbone", computer.make)
    return computer


@pytest.mark.usefixtures("default")
def test_models_are_run_in_turns_and_gone(computer: Computer, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    parts: list[float] = []
    found = measure_models(
        folder,
        n_rounds=2,
        n_threads=3,
        n_gpu_layers=7,
        start=computer.start,
        progress=lambda what, part: parts.append(part),
    )
    assert found.flops_per_s is not None
    assert found.flops_per_s.value == pytest.approx(400e9)
    assert [rate.name for rate in found.types] == ["Q4_0", "Q8_0", "Q4_1"]
    assert len(computer.models) == 4
    assert {
        (job.settings.n_threads, job.settings.n_gpu_layers) for job in computer.jobs
    } == {(3, 7)}
    a, b, c, d = computer.models
    assert computer.world.log[4:] == [a, a, b, c, d] * 2 + [
        f"end {name}" for name in (d, c, b, a)
    ]
    assert min(parts) >= 0 and max(parts) < 1
    assert not any(path.exists() for path in computer.names)
    assert list(folder.iterdir()) == []


@pytest.mark.usefixtures("default")
def test_no_round_begins_when_the_time_is_up(
    computer: Computer, tmp_path: Path
) -> None:
    times_s = iter([0.0, 5.0, model_speed.BUDGET_S + 1])
    measure_models(
        tmp_path, n_rounds=9, start=computer.start, clock=lambda: next(times_s)
    )
    turns = [line for line in computer.world.log[4:] if not line.startswith("end")]
    assert len(turns) == 2 * 5  # of nine rounds


@pytest.mark.usefixtures("default")
@pytest.mark.parametrize(("n_noisy", "n_rounds"), [(0, 2), (1, 3), (9, 4)])
def test_times_that_make_no_sense_are_taken_again_but_not_forever(
    computer: Computer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    n_noisy: int,
    n_rounds: int,
) -> None:
    tries = iter(range(100))

    def explain_later(cases: Sequence[Case]) -> Compute:
        if next(tries) < n_noisy:
            raise BenchError("noise")
        return explain(cases)

    monkeypatch.setattr(model_speed, "explain", explain_later)
    with nullcontext() if n_noisy < 2 else pytest.raises(BenchError):
        measure_models(tmp_path, n_rounds=2, start=computer.start, clock=lambda: 0.0)
    turns = [line for line in computer.world.log[4:] if not line.startswith("end")]
    assert len(turns) == n_rounds * 5


@pytest.mark.usefixtures("default")
def test_an_interruption_ends_the_workers_and_removes_the_models(
    computer: Computer, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()

    def interrupt(what: str, part: float) -> None:
        if what == "running models" and part > 0.3:
            assert all(path.exists() for path in computer.names)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_models(folder, start=computer.start, progress=interrupt)
    assert [line for line in computer.world.log if line.startswith("end")] == [
        f"end {name}" for name in reversed(computer.models)
    ]
    assert not any(path.exists() for path in computer.names)
    assert list(folder.iterdir()) == []


def test_without_the_default_model_nothing_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> Path:
        raise FileError("not installed")

    monkeypatch.setattr(catalog, "default_model", missing)
    with pytest.raises(FileError, match="not installed"):
        measure_models(tmp_path)
    assert list(tmp_path.iterdir()) == []
