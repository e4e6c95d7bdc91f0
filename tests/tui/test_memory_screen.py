"""The Memory screen by its keys, with an engine that tells made-up traces."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, OptionList, Static

from engram_local.chat.conversation import ChatMessage
from engram_local.errors import EngramError, Interrupted, UsageError
from engram_local.events import TokenTrace
from engram_local.settings import Settings
from engram_local.worker.protocol import (
    ChooseMemory,
    Compare,
    EvictTable,
    ExplainToken,
    Generate,
    LookAtTable,
    ModelInfo,
    Open,
    Request,
    TraceAnswer,
    UseMemory,
    WarmTable,
)
from tests.tui.fakes import MEMORY, MODEL, Answer, FakeEngine, Reply, fake_app
from tests.tui.traces import REPLIES, TRACE, refused
from tui.app import EngramApp
from tui.gates import spread_of
from tui.screens.memory import MemoryScreen
from tui.screens.pick import PickScreen
from tui.widgets.choice_line import ChoiceLine
from tui.widgets.gauge import Gauge
from tui.widgets.heat_legend import HeatLegend
from tui.widgets.heat_text import HeatText
from tui.widgets.histogram import StallHistogram
from tui.widgets.residency_strip import ResidencyStrips
from tui.widgets.token_card import TokenCard

Act = Callable[[EngramApp, Pilot[int]], Awaitable[None]]

QUESTION = Generate(
    messages=(ChatMessage(role="user", content="What is it?"),), settings=Settings()
)
NATIVE = replace(MEMORY, kind="native")


@pytest.fixture(autouse=True)
def no_probe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What was measured on this computer does not count; cursors rest for a moment."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("tui.screens.memory._REST_S", 0.1)


def engine_of(
    *answers: Answer,
    model: ModelInfo = MODEL,
    replies: dict[type[Request], Reply] | None = None,
) -> FakeEngine:
    return FakeEngine(*answers, model=model, replies=REPLIES | (replies or {}))


def drive(engine: FakeEngine, act: Act, *, asks: bool = True) -> None:
    """Run the app with an answer, show the screen, and act on it."""

    async def run() -> None:
        app = fake_app(engine)
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            if asks:
                await ask(app)
            await pilot.press("f3")
            await settle(pilot)
            assert isinstance(app.screen, MemoryScreen)
            await act(app, pilot)

    asyncio.run(run())


async def ask(app: EngramApp) -> None:
    async for _ in app.link.ask(QUESTION):
        pass


async def settle(pilot: Pilot[int]) -> None:
    """Let the cursor rest, and what follows from it be done."""
    await pilot.pause(0.15)
    await until(pilot, lambda: not pilot.app.workers)
    await pilot.pause()


async def until(pilot: Pilot[int], is_so: Callable[[], bool]) -> None:
    """Wait, ten seconds at most."""
    for _ in range(200):
        if is_so():
            return
        await pilot.pause(0.05)
    raise AssertionError("it never came")


def text_of(app: EngramApp, kind: type[Static] = TokenCard) -> str:
    return str(app.screen.query_one(kind).content)


def legend(app: EngramApp) -> str:
    return app.screen.query_one(HeatLegend).render().plain


def asked(engine: FakeEngine, kind: type[Request]) -> list[Request]:
    return [request for request in engine.requests if isinstance(request, kind)]


def notes(app: EngramApp) -> str:
    return "\n".join(note.message for note in app._notifications)


def test_the_last_answer_is_shown_with_its_gates() -> None:
    engine = engine_of()

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        heat = app.screen.query_one(HeatText)
        assert heat.render_line(0).text.startswith("A dodecahedron is a polyhedron")
        backgrounds = {
            segment.style.bgcolor for segment in heat.render_line(0) if segment.style
        }
        assert len(backgrounds) > 5
        assert "(nine in ten tokens)" in legend(app)
        assert len(asked(engine, TraceAnswer)) == 1

    drive(engine, act)


def test_a_newer_answer_replaces_it() -> None:
    engine = engine_of(Answer(), Answer(chunks=("Another",)))

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await pilot.press("end")
        await ask(app)
        await settle(pilot)
        assert len(asked(engine, TraceAnswer)) == 2
        assert app.screen.query_one(HeatText).cursor == 0

    drive(engine, act)


def test_after_a_comparison_the_chats_answer_is_still_shown() -> None:
    engine = engine_of()

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        request = Compare(messages=QUESTION.messages, settings=QUESTION.settings)
        async for _ in app.link.ask(request):
            pass
        await settle(pilot)
        assert len(asked(engine, TraceAnswer)) == 1
        heat = app.screen.query_one(HeatText)
        assert heat.render_line(0).text.startswith("A dodecahedron")
        await pilot.press("end")
        await settle(pilot)
        assert "cannot be told any more" in text_of(app)

    drive(engine, act)


@pytest.mark.parametrize("keys", [["m"], ["m", "m"], ["t", "down", "enter"]])
def test_after_a_change_of_memory_rows_are_those_of_the_next_answer(
    keys: list[str],
) -> None:
    engine = engine_of(Answer(), Answer(chunks=("Another",)))

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        for key in keys:
            await pilot.press(key)
            await pilot.pause()
        n_asked = len(asked(engine, ExplainToken))
        await pilot.press("right")
        await settle(pilot)
        assert "cannot be told any more" in text_of(app)
        assert len(asked(engine, ExplainToken)) == n_asked
        await ask(app)
        await settle(pilot)
        await settle(pilot)
        assert "layer 2, 2 tokens" in text_of(app)

    drive(engine, act)


def test_another_models_answer_is_forgotten() -> None:
    engine = engine_of()

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        engine._model = replace(MODEL, path="/models/other.gguf")
        await app.link.open(Open(model="other", memory=None, settings=Settings()))
        await settle(pilot)
        assert "no answer of the chat" in legend(app)
        assert app.screen.query_one(HeatText).render_line(0).text.strip() == ""

    drive(engine, act)


def test_a_token_shows_its_rows_once_the_cursor_rests() -> None:
    engine = engine_of()

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        n_asked = len(asked(engine, ExplainToken))
        for _ in range(5):
            app.screen.query_one(HeatText).action_move(1)
        await pilot.pause()
        assert '" polyhedron"' in text_of(app)
        await settle(pilot)
        assert "layer 2, 3 tokens" in text_of(app)
        assert "gate of layer 15: " in text_of(app)
        requests = asked(engine, ExplainToken)
        assert requests[-1] == ExplainToken(position=TRACE.first + 5)
        assert len(requests) - n_asked <= 2, "not one per key"

    drive(engine, act)


def test_a_click_chooses_a_token() -> None:
    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await pilot.click(HeatText, offset=(4, 0))
        await settle(pilot)
        assert text_of(app).startswith('" dodec"')

    drive(engine_of(), act)


def test_a_message_about_a_token_of_the_answer_before_shows_one_of_this() -> None:
    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        heat = app.screen.query_one(HeatText)
        heat.post_message(HeatText.Chosen(heat, 10_000))
        await settle(pilot)
        assert "1 of " in str(app.screen.query_one(TokenCard).content)

    drive(engine_of(), act)


def test_rows_that_cannot_be_told_are_a_sentence() -> None:
    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        assert "the position is not in the sequence" in text_of(app)

    drive(engine_of(replies={ExplainToken: refused}), act)


def test_layers_are_taken_in_turn() -> None:
    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        heat, line = app.screen.query_one(HeatText), app.screen.query_one(ChoiceLine)

        def colours() -> list[str]:
            return [str(segment.style) for segment in heat.render_line(0)]

        drawn = [colours()]
        for _ in range(2):
            await pilot.press("l")
            drawn.append(colours())
        assert len({tuple(one) for one in drawn}) == 3
        assert line.taken == 2
        await pilot.press("l")
        assert colours() == drawn[0]
        await pilot.click(ChoiceLine, offset=(23, 0))
        assert line.taken == 1

    drive(engine_of(), act)


def test_the_scale_is_the_answers_own_or_the_whole() -> None:
    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await pilot.press("l")
        low, high = spread_of([token.gates[0] for token in TRACE.tokens])
        assert legend(app).startswith(f"gate {low:.2f} ")
        assert f" {high:.2f} (nine in ten tokens)" in legend(app)
        await pilot.press("s")
        assert legend(app).startswith("gate 0.00")
        assert legend(app).endswith("1.00 (0 closed, 1 open)")

    drive(engine_of(), act)


def test_gates_may_be_bars() -> None:
    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await pilot.press("b")
        assert set(app.screen.query_one(HeatText).render_line(1).text) & set("▂▃▄▅▆▇")
        assert "▃▄▅" in legend(app)

    drive(engine_of(), act)


def test_another_theme_changes_text_and_legend_alike() -> None:
    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        before = str(app.screen.query_one(HeatLegend).render().spans)
        app.theme = "textual-light"
        await settle(pilot)
        legend_now = app.screen.query_one(HeatLegend).render()
        assert str(legend_now.spans) != before
        tints = app.screen.query_one(HeatText).tints
        assert [span.style for span in legend_now.spans] == list(tints)

    drive(engine_of(), act)


def test_before_the_first_answer_there_is_a_sentence() -> None:
    engine = engine_of()

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        assert "no answer of the chat" in legend(app)
        assert asked(engine, TraceAnswer) == []

    drive(engine, act, asks=False)


def test_a_native_memory_has_rows_but_no_gates_and_no_stalls() -> None:
    tokens = tuple(replace(token, gates=()) for token in TRACE.tokens)
    replies: dict[type[Request], Reply] = {TraceAnswer: [replace(TRACE, tokens=tokens)]}
    model = replace(MODEL, memory=NATIVE, can_leave_out_memory=False)
    engine = engine_of(model=model, replies=replies)

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        assert "llama.cpp gathers and gates these rows itself" in legend(app)
        assert "gates: not known" in text_of(app)
        assert "layer 2, 2 tokens" in text_of(app)
        assert not app.screen.query_one(StallHistogram).display
        stalls = str(app.screen.query_one("#stalls", Static).content)
        assert "inside its graph" in stalls
        for key, sentence in (
            ("m", "cannot be left out"),
            ("c", "cannot be left out"),
            ("t", "chosen when the model is loaded"),
        ):
            await pilot.press(key)
            await pilot.pause()
            assert sentence in notes(app)
            app.clear_notifications()
        assert asked(engine, UseMemory) + asked(engine, ChooseMemory) == []

    drive(engine, act)


@pytest.mark.parametrize(
    ("memories", "sentence"),
    [
        (("/models/a.gguf", "/models/b.gguf"), "There are 2 files of a memory here"),
        ((), "engram-local convert"),
    ],
)
def test_without_a_memory_the_screen_says_what_to_do(
    memories: tuple[str, ...], sentence: str
) -> None:
    model = replace(MODEL, memory=None, memory_on=False, memories=memories)
    engine = engine_of(model=model)

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        nothing = app.screen.query_one("#nothing", Static)
        assert nothing.display
        assert "has no memory loaded" in str(nothing.content)
        assert sentence in str(nothing.content)
        assert not app.screen.query_one("#memory").display
        await pilot.press("w", "e", "m", "t")
        await pilot.pause()
        assert "There is no memory." in notes(app)
        assert asked(engine, LookAtTable) == []

    drive(engine, act)


def test_stalls_rates_and_readiness_are_those_of_the_status() -> None:
    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        histogram = app.screen.query_one(StallHistogram).render().plain
        assert "p50 <= 0.03 ms" in histogram
        assert "57 steps" in histogram
        stalls = str(app.screen.query_one("#stalls", Static).content)
        assert "last answer: p50 0.040 · p95 30.000 · max 41.000 ms" in stalls
        assert "ready 100 of 114 times a layer asked, late 14" in stalls
        gauge = app.screen.query_one(Gauge).render().plain
        assert gauge == "330 per s · drive not measured: engram-local probe"

    drive(engine_of(), act)


def test_the_drives_rate_is_the_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up: list[tuple[Path, float]] = []

    def measured(path: Path, in_flight: float) -> float:
        looked_up.append((path, in_flight))
        return 3300.0

    monkeypatch.setattr("tui.screens.memory.measured_reads_per_s", measured)

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        gauge = app.screen.query_one(Gauge).render().plain
        assert gauge.splitlines()[0] == "330 / 3,300 per s (10 %)"
        assert gauge.splitlines()[1].startswith("█████")
        assert looked_up == [(Path(MEMORY.path), MEMORY.rows_per_token)]

    drive(engine_of(), act)


def strips(app: EngramApp) -> str:
    return app.screen.query_one(ResidencyStrips).render().plain


def test_the_table_is_looked_at_while_nothing_else_is_done() -> None:
    engine = engine_of(Answer(), Answer(waits=True))

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await until(pilot, lambda: "layer 2: 44 % of 3.8 MiB in RAM" in strips(app))
        answering = asyncio.create_task(ask(app))
        await until(pilot, lambda: app.link.state.phase == "busy")
        await pilot.pause(0.1)
        n_looks = len(asked(engine, LookAtTable))
        await pilot.pause(1.6)
        assert len(asked(engine, LookAtTable)) == n_looks
        await pilot.press("escape")
        await answering
        await until(pilot, lambda: len(asked(engine, LookAtTable)) > n_looks)

    drive(engine, act)


def test_a_screen_that_is_not_shown_asks_nothing() -> None:
    engine = engine_of(Answer(), Answer(chunks=("Another",)))

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await pilot.press("f2")
        n_requests = len(engine.requests)
        await pilot.pause(1.2)
        assert len(engine.requests) == n_requests
        await ask(app)
        await pilot.press("f3")
        await settle(pilot)
        assert len(asked(engine, TraceAnswer)) == 2

    drive(engine, act)


def test_a_look_that_fails_is_a_sentence() -> None:
    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        sentence = "the position is not in the sequence"
        await until(pilot, lambda: sentence in strips(app))

    drive(engine_of(replies={LookAtTable: refused}), act)


@pytest.mark.parametrize(
    ("key", "kind", "percent"), [("w", WarmTable, "100 %"), ("e", EvictTable, "0 %")]
)
def test_the_table_is_warmed_and_evicted(
    key: str, kind: type[Request], percent: str
) -> None:
    engine = engine_of()

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await pilot.press(key)
        await pilot.pause()
        assert len(asked(engine, kind)) == 1
        assert f"layer 2: {percent} of 3.8 MiB in RAM" in strips(app)

    drive(engine, act)


def test_a_warm_up_shows_how_far_it_is_and_can_be_stopped() -> None:
    waiting = asyncio.Event()
    engine = SlowWarming(waiting)

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await pilot.press("w")
        await pilot.pause()
        assert "reading the table 40 % (Esc stops it)" in strips(app)
        await pilot.press("e")
        assert "Something is being loaded" in notes(app)
        assert asked(engine, EvictTable) == []
        await pilot.press("escape")
        await pilot.pause()
        assert waiting.is_set()
        assert "Esc" not in strips(app)
        assert "stopped" not in notes(app), "who stops it knows"

    drive(engine, act)


class SlowWarming(FakeEngine):
    """Warms until it is cancelled."""

    def __init__(self, cancelled: asyncio.Event) -> None:
        super().__init__(replies=REPLIES)
        self._stop = cancelled

    async def _events(self, request):  # type: ignore[no-untyped-def]
        async for event in super()._events(request):
            yield event
            if isinstance(request, WarmTable) and not self._stop.is_set():
                await self._stop.wait()

                raise Interrupted("the warm-up was stopped")

    def cancel(self) -> None:
        self._stop.set()


def test_the_memory_is_switched_off_and_on() -> None:
    engine = engine_of()

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await pilot.press("m")
        await pilot.pause()
        assert asked(engine, UseMemory) == [UseMemory(on=False)]
        assert " · OFF · " in str(app.screen.query_one("#about", Static).content)
        await pilot.press("m")
        await pilot.pause()
        assert asked(engine, UseMemory)[-1] == UseMemory(on=True)

    drive(engine, act)


def test_a_memory_is_chosen_from_the_list_or_typed() -> None:
    model = replace(MODEL, memories=(MEMORY.path, "/models/other.gguf"))
    engine = engine_of(model=model)

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await pilot.press("c", "down", "enter")
        await pilot.pause()
        await pilot.press("c")
        await pilot.pause()
        typed = app.screen.query_one(Input)
        typed.focus()
        typed.value = "~/my.gguf"
        await pilot.press("enter")
        await pilot.pause()
        await pilot.press("c", "end", "enter")
        await pilot.pause()
        assert asked(engine, ChooseMemory) == [
            ChooseMemory(memory="/models/other.gguf", tier="mmap"),
            ChooseMemory(memory=os.path.expanduser("~/my.gguf"), tier="mmap"),
            ChooseMemory(memory=None, tier="mmap"),
        ]
        assert "has no memory" in str(app.screen.query_one("#nothing", Static).content)

    drive(engine, act)


def test_escape_chooses_nothing() -> None:
    engine = engine_of()

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        for key in "ct":
            await pilot.press(key)
            await pilot.pause()
            assert isinstance(app.screen, PickScreen)
            await pilot.press("escape")
            await pilot.pause()
        assert asked(engine, ChooseMemory) == []

    drive(engine, act)


def test_the_tier_is_switched_and_its_cost_said() -> None:
    engine = engine_of()

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await pilot.press("t")
        await pilot.pause()
        options = app.screen.query_one(OptionList)
        said = [
            str(options.get_option_at_index(number).prompt)
            for number in range(options.option_count)
        ]
        assert said[0].startswith("● mmap")
        assert "all 7.6 MiB are read into RAM" in said[1]
        assert "8 reads per token" in said[2]
        await pilot.press("down", "enter")
        await pilot.pause()
        assert asked(engine, ChooseMemory) == [
            ChooseMemory(memory=MEMORY.path, tier="ram")
        ]
        assert "tier ram" in str(app.screen.query_one("#about", Static).content)

    drive(engine, act)


def test_what_fails_is_said() -> None:
    error: EngramError = UsageError("this cannot [b]be", hint="do \x1b[2J that")

    def fail(request: Request) -> Sequence[object]:
        raise error

    engine = engine_of(replies={EvictTable: fail, UseMemory: fail})

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await pilot.press("e")
        await pilot.pause()
        assert notes(app) == "this cannot [b]be\ndo \\x1b[2J that"

    drive(engine, act)


def test_while_an_answer_is_written_nothing_is_changed() -> None:
    engine = engine_of(Answer(), Answer(waits=True))

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        answering = asyncio.create_task(ask(app))
        await pilot.pause(0.1)
        await pilot.press("m", "w", "e", "t", "c")
        await pilot.pause()
        assert "An answer is being written" in notes(app)
        await pilot.press("escape")
        await answering
        assert isinstance(app.screen, MemoryScreen)
        changes = (UseMemory, WarmTable, EvictTable, ChooseMemory)
        assert not [one for one in engine.requests if isinstance(one, changes)]

    drive(engine, act)


def test_texts_of_tokens_drive_no_terminal_and_no_markup() -> None:
    tokens = (TokenTrace(token_id=1, text="\x1b[2J[b]x[/b]", gates=(0.5, 0.5)),)
    engine = engine_of(replies={TraceAnswer: [replace(TRACE, tokens=tokens)]})

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        line = app.screen.query_one(HeatText).render_line(0).text
        assert line.startswith("\\x1b[2J[b]x[/b]")
        assert text_of(app).startswith('"\\x1b[2J[b]x[/b]"')

    drive(engine, act)
