"""Pictures of the chat screen. `pytest --snapshot-update` makes them anew."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from textual.pilot import Pilot

from engram_local.chat.records import SessionInfo
from engram_local.telemetry import MachineRam, Resources
from engram_local.units import GIB, MIB
from engram_local.worker.protocol import GpuUse
from tests.tui.driving import ask, chat_of, settle
from tests.tui.fakes import STATUS, Answer, FakeEngine, fake_app
from tui.app import EngramApp
from tui.screens.sessions import SessionsScreen

SnapCompare = Callable[..., bool]
SIZES = [(120, 40), (80, 24)]
ANSWER = """A **lemur** is a primate of *Madagascar*.

* It has a `tail`.
* It eats fruit.

```python
def weight_kg(length_cm: float) -> float:
    return 0.00007 * length_cm**2.7
```

| species | weight |
|---|---|
| indri | 9.5 kg |
"""
INFOS = tuple(
    SessionInfo(
        id=f"0000000{number}",
        title=title,
        model="/models/smollm2.gguf",
        n_messages=2 * number,
        updated_at=0.0,
    )
    for number, title in enumerate(("What is a lemur?", "[b]Code[/b], please"), 1)
)


@pytest.fixture(autouse=True)
def frozen_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing blinks, nothing moves, and this computer does not count."""
    monkeypatch.setenv("TEXTUAL_ANIMATIONS", "none")
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.setattr(
        "tui.engine_link.measure_machine_ram",
        lambda: MachineRam(total_bytes=32 * GIB, available_bytes=24 * GIB),
    )
    monkeypatch.setattr(
        "tui.engine_link.measure_resources",
        lambda pid: Resources(
            rss_anon_bytes=900 * MIB, rss_file_bytes=4 * GIB, vram_bytes=None
        ),
    )


def prepared(
    act: Callable[[Pilot[Any]], Awaitable[None]],
) -> Callable[[Pilot[Any]], Awaitable[None]]:
    """Return what runs before the picture is taken."""

    async def run_before(pilot: Pilot[Any]) -> None:
        await settle(pilot)
        chat_of(pilot.app).prompt.cursor_blink = False
        app = pilot.app
        assert isinstance(app, EngramApp)
        await app.link.measure()
        await act(pilot)
        await settle(pilot)

    return run_before


async def nothing(pilot: Pilot[Any]) -> None:
    """Leave the app as it starts."""


async def ask_about_lemurs(pilot: Pilot[Any]) -> None:
    await ask(pilot, "What is a lemur? [b]Briefly.[/b]")


@pytest.mark.parametrize("size", SIZES)
def test_an_empty_chat(snap_compare: SnapCompare, size: tuple[int, int]) -> None:
    app = fake_app(FakeEngine())
    assert snap_compare(app, terminal_size=size, run_before=prepared(nothing))


@pytest.mark.parametrize("size", SIZES)
def test_a_chat(snap_compare: SnapCompare, size: tuple[int, int]) -> None:
    app = fake_app(FakeEngine(Answer(chunks=(ANSWER,))))
    assert snap_compare(app, terminal_size=size, run_before=prepared(ask_about_lemurs))


def test_a_chat_without_colours(
    snap_compare: SnapCompare, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = fake_app(FakeEngine(Answer(chunks=(ANSWER,))))

    async def act(pilot: Pilot[Any]) -> None:
        await ask_about_lemurs(pilot)
        await pilot.press("alt+up")

    assert snap_compare(app, terminal_size=(120, 40), run_before=prepared(act))


def test_loading(snap_compare: SnapCompare) -> None:
    never = asyncio.Event()
    app = fake_app(FakeEngine(loads_until=never))
    assert snap_compare(
        app, terminal_size=(80, 24), run_before=prepared(ask_about_lemurs)
    )


def test_a_lost_engine(snap_compare: SnapCompare) -> None:
    app = fake_app(FakeEngine(Answer(chunks=("A lem",), dies=True)))
    assert snap_compare(
        app, terminal_size=(80, 24), run_before=prepared(ask_about_lemurs)
    )


def test_sessions(snap_compare: SnapCompare, monkeypatch: pytest.MonkeyPatch) -> None:
    app = fake_app(FakeEngine())
    monkeypatch.setattr(app.store, "list", lambda search="": INFOS)

    async def act(pilot: Pilot[Any]) -> None:
        await pilot.press("f7")
        await settle(pilot)
        assert isinstance(pilot.app.screen, SessionsScreen)
        pilot.app.screen.query_one("Input").cursor_blink = False  # type: ignore[attr-defined]

    assert snap_compare(app, terminal_size=(80, 24), run_before=prepared(act))


def test_the_sidebar_with_a_gpu(snap_compare: SnapCompare) -> None:
    gpu = GpuUse(name="GeForce RTX 4090", used_bytes=18 * GIB, total_bytes=24 * GIB)
    engine = FakeEngine()
    engine.pid = 1
    app = fake_app(engine)

    async def act(pilot: Pilot[Any]) -> None:
        state = app.link.state
        assert state.model is not None
        parts = tuple(
            replace(part, vram_bytes=64 * part.ram_bytes) for part in state.model.parts
        )
        app.link._set(
            replace(
                state,
                model=replace(state.model, parts=parts),
                status=replace(STATUS, gpus=(gpu,)),
            )
        )

    assert snap_compare(app, terminal_size=(120, 40), run_before=prepared(act))
