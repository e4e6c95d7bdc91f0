"""A whole probe: what fails is a note, and the rest is measured all the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engram_local.errors import DirectReadError, Interrupted
from engram_local.probe.runner import ALL_LAYERS, Outside, Scope, run_probe
from tests.probe.fakes import COMPUTE, DRIVE, IDENTITY, MEMORY

SCOPE = Scope(folder=Path("folder"), n_threads=2)


class World:
    """Remembers what it was asked to measure."""

    def __init__(self) -> None:
        self.asked: dict[str, dict[str, object]] = {}
        self.gpu_layers: list[object] = []
        self.error: Exception | None = None
        self.busy_percent = 0.0

    def outside(self) -> Outside:
        """Return what measures at once."""

        def memory(n_threads: int, **asked: object) -> object:
            self.asked["memory"] = {"n_threads": n_threads} | asked
            return MEMORY

        def drive(folder: Path, **asked: object) -> object:
            self.asked["drive"] = {"folder": folder} | asked
            if self.error is not None:
                raise self.error
            return DRIVE

        def models(folder: Path, **asked: object) -> object:
            self.asked["models"] = {"folder": folder} | asked
            self.gpu_layers.append(asked["n_gpu_layers"])
            return COMPUTE

        return Outside(
            memory=memory,  # type: ignore[arg-type]
            drive=drive,  # type: ignore[arg-type]
            models=models,  # type: ignore[arg-type]
            copies=lambda: [25e9, 6e9],
            busy_percent=lambda: self.busy_percent,
        )


def test_all_is_measured() -> None:
    world = World()
    probe = run_probe(IDENTITY, SCOPE, outside=world.outside())
    assert (probe.memory, probe.drive, probe.cpu, probe.gpu) == (
        MEMORY,
        DRIVE,
        COMPUTE,
        None,
    )
    assert probe.identity == IDENTITY
    assert (probe.notes, probe.n_threads, probe.quick) == ((), 2, False)
    assert "numpy" in probe.packages
    assert len(probe.date) == len("2026-11-22")
    assert world.gpu_layers == [0]
    assert world.asked["models"]["n_rounds"] == 5
    assert world.asked["drive"]["file"] is None


def test_quick_is_fewer_rounds_and_gpu_is_once_more() -> None:
    world = World()
    scope = Scope(
        folder=Path("folder"), file=Path("f"), n_threads=3, quick=True, gpu=True
    )
    probe = run_probe(IDENTITY, scope, outside=world.outside())
    assert probe.gpu == COMPUTE and probe.quick
    assert world.gpu_layers == [0, ALL_LAYERS]
    assert world.asked["models"]["n_rounds"] == 2
    assert world.asked["models"]["n_threads"] == 3
    assert world.asked["memory"]["n_rounds"] == 2
    assert world.asked["drive"]["n_rounds"] == 1
    assert world.asked["drive"]["file"] == Path("f")


@pytest.mark.parametrize(
    ("gpus", "rates"), [((), []), (("RTX 4090", "RTX 3060"), [25e9, 6e9])]
)
def test_copies_are_measured_where_there_are_gpus(
    gpus: tuple[str, ...], rates: list[float]
) -> None:
    identity = replace(IDENTITY, gpus=gpus)
    probe = run_probe(identity, SCOPE, outside=World().outside())
    assert [rate.value for rate in probe.host_bytes_per_s] == rates


def test_what_cannot_be_measured_is_a_note() -> None:
    world = World()
    world.error = DirectReadError("it lies in RAM", hint="use --dir")
    probe = run_probe(IDENTITY, SCOPE, outside=world.outside())
    assert probe.drive is None and probe.cpu == COMPUTE
    (note,) = probe.notes
    assert note == "the drive was not measured: it lies in RAM (use --dir)"


@pytest.mark.parametrize("error", [Interrupted("stop"), RuntimeError("a mistake")])
def test_other_errors_end_it(error: Exception) -> None:
    world = World()
    world.error = error
    with pytest.raises(type(error)):
        run_probe(IDENTITY, SCOPE, outside=world.outside())


def test_a_busy_computer_is_a_note() -> None:
    world = World()
    world.busy_percent = 60.0
    (note,) = run_probe(IDENTITY, SCOPE, outside=world.outside()).notes
    assert "60 % of the processor" in note
