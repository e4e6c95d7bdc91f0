"""Opening an engine as front ends do: what is planned, told and passed on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engram_local import opening
from engram_local.errors import FileError
from engram_local.settings import Settings
from engram_local.sizing.plan import make_plan
from engram_local.sizing.request import Request
from tests.fakes import backbone_file
from tests.sizing.samples import DENSE, DESKTOP

Opened = dict[str, Any]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return backbone_file().write(tmp_path / "model.gguf")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    """Put an engine of 256 tokens in place of the real one; return what it got."""
    arguments: Opened = {}

    def open_fake(model: Path | None, **others: Any) -> Any:
        arguments.update(model=model, **others)
        return SimpleNamespace(n_ctx=256, notes=("the table is not locked",))

    monkeypatch.setattr(opening.Engine, "open", open_fake)
    return arguments


def test_the_settings_are_those_that_the_plan_settled(
    opened: Opened, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "open_spec", lambda *_, **__: DENSE)
    monkeypatch.setattr(opening, "look", lambda _: DESKTOP)
    result = opening.open_engine(model, memory=None, settings=Settings())
    assert opened["settings"] == Settings(n_gpu_layers=33)
    assert opened["memory"] is None
    assert {part.name for part in result.parts} >= {"weights", "KV cache"}


def test_nothing_is_planned_where_fitting_is_not_asked(
    opened: Opened, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "open_spec", _raise(AssertionError("was asked")))
    result = opening.open_engine(model, settings=Settings(), fit=False, swappable=True)
    assert opened["settings"] == Settings()
    assert opened["swappable"]
    assert result.parts == ()


def test_a_file_that_cannot_be_sized_is_left_to_the_loader(
    opened: Opened, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "open_spec", _raise(FileError("odd")))
    opening.open_engine(model, settings=Settings())
    assert opened["model"] == model


@pytest.mark.parametrize(
    ("settings", "asked", "notes"),
    [
        (Settings(), None, ()),
        (Settings(), 4096, ("the context is 256 tokens, not 4096",)),
        (Settings(n_ctx=300), None, ("the context is 256 tokens, not 300",)),
        (Settings(n_ctx=0), None, ()),
        (Settings(memory_tier="ram"), None, ("the table is not locked",)),
    ],
)
def test_who_asked_for_something_hears_that_it_is_otherwise(
    opened: Opened,
    model: Path,
    settings: Settings,
    asked: int | None,
    notes: tuple[str, ...],
) -> None:
    result = opening.open_engine(model, settings=settings, asked_n_ctx=asked, fit=False)
    assert result.notes == notes


def test_parts_are_those_of_the_plan() -> None:
    request = Request(n_ctx=2048, n_gpu_layers=8)
    plan = make_plan(DENSE, DENSE.weights[0], request, DESKTOP)
    parts = {part.name: part for part in opening.parts_of(plan)}
    assert sum(part.vram_bytes for part in parts.values()) == plan.vram_bytes
    assert sum(part.ram_bytes for part in parts.values()) == plan.ram_bytes
    assert parts["weights"].vram_bytes and parts["weights"].ram_bytes
    assert opening.parts_of(None) == ()


def _raise(error: BaseException) -> Callable[..., Any]:
    def function(*_: object, **__: object) -> None:
        raise error

    return function
