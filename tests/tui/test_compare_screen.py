"""The Compare screen by its keys."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, Static

from engram_local.chat.conversation import ChatMessage
from engram_local.events import ArmStarted, TextChunk
from engram_local.settings import Settings
from engram_local.worker.protocol import Compare, Event, Generate, Request
from tests.tui.fakes import MODEL, FakeEngine, fake_app, finished
from tests.tui.traces import ANSWER_OFF, ANSWER_ON, REPLIES, refused
from tui.app import EngramApp
from tui.screens.compare import CompareScreen
from tui.widgets.answer_column import AnswerColumn
from tui.widgets.compare_table import CompareTable

Act = Callable[[EngramApp, Pilot[int]], Awaitable[None]]


def drive(engine: FakeEngine, act: Act, size: tuple[int, int] = (120, 40)) -> None:
    """Run the app, show the screen, and act on it."""

    async def run() -> None:
        app = fake_app(engine)
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await pilot.press("f4")
            await pilot.pause()
            assert isinstance(app.screen, CompareScreen)
            await act(app, pilot)

    asyncio.run(run())


def column(app: EngramApp, name: str) -> str:
    """Return what an answer's column says, its title and what is below it."""
    found = app.screen.query_one(name, AnswerColumn)
    return f"{found.query_one(Static).content}|{found.border_subtitle}"


def table(app: EngramApp) -> str:
    return str(app.screen.query_one(CompareTable).content)


def compared(engine: FakeEngine) -> list[Compare]:
    return [request for request in engine.requests if isinstance(request, Compare)]


def notes(app: EngramApp) -> str:
    return "\n".join(note.message for note in app._notifications)


async def type_in(pilot: Pilot[int], text: str) -> None:
    await pilot.press(*("space" if char == " " else char for char in text))


def test_one_question_gets_two_answers_and_their_numbers() -> None:
    engine = FakeEngine(replies=REPLIES)

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await type_in(pilot, "Why so")
        await pilot.press("enter")
        await pilot.pause(0.1)
        assert column(app, "#with") == f"{ANSWER_ON}|9 tokens · 41.0 tok/s"
        assert column(app, "#without") == f"{ANSWER_OFF}|11 tokens · 41.0 tok/s"
        assert "NLL with memory" in table(app)
        assert "2.12 nats per token likelier with memory" in table(app)
        (request,) = compared(engine)
        assert request.messages == (ChatMessage(role="user", content="Why so"),)
        assert request.settings.seed == 1

    drive(engine, act)


def test_the_seed_can_be_another() -> None:
    engine = FakeEngine(replies=REPLIES)

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await type_in(pilot, "Why")
        await pilot.press("tab", "end", "2", "ctrl+r")
        await pilot.pause()
        assert compared(engine)[0].settings.seed == 12

    drive(engine, act)


@pytest.mark.parametrize("seed", ["", "4294967295"])
def test_a_seed_that_is_none_is_refused(seed: str) -> None:
    engine = FakeEngine(replies=REPLIES)

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await type_in(pilot, "Why")
        app.screen.query_one("#seed", Input).value = seed
        await pilot.press("enter")
        await pilot.pause()
        assert "The seed is a number" in notes(app)
        assert compared(engine) == []

    drive(engine, act)


def test_no_question_is_not_asked() -> None:
    engine = FakeEngine(replies=REPLIES)

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await pilot.press("enter")
        await pilot.pause()
        assert "Ask something first." in notes(app)
        assert compared(engine) == []

    drive(engine, act)


def test_questions_come_back_with_up() -> None:
    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        question = app.screen.query_one("#question", Input)
        for text in ("one", "two"):
            question.value = ""
            await type_in(pilot, text)
            await pilot.press("enter")
            await pilot.pause()
        await pilot.press("up")
        assert question.value == "two"
        await pilot.press("up", "up")
        assert question.value == "one"
        await pilot.press("down")
        assert question.value == "two"
        await pilot.press("down", "down")
        assert question.value == ""

    drive(FakeEngine(replies=REPLIES), act)


def test_the_chats_question_is_offered() -> None:
    engine = FakeEngine(replies=REPLIES)
    asked = Generate(
        messages=(ChatMessage(role="user", content="Why so?"),),
        settings=Settings(temperature=0.25),
    )

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        question = app.screen.query_one("#question", Input)
        temperature = app.screen.query_one("#temperature", Static)
        assert str(temperature.content) == "temperature 0.8"
        await pilot.press("f2")
        async for _ in app.link.ask(asked):
            pass
        await pilot.press("f4")
        await pilot.pause()
        assert question.value == "Why so?"
        assert str(temperature.content) == "temperature 0.25"
        question.value = "another"
        await pilot.press("f2", "f4")
        await pilot.pause()
        assert question.value == "another", "it is offered once"
        await pilot.press("up")
        assert question.value == "Why so?"

    drive(engine, act)


class Waiting(FakeEngine):
    """Stops in the middle of the first answer until it is cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.stopped = asyncio.Event()

    def cancel(self) -> None:
        self.stopped.set()

    async def _events(self, request: Request) -> AsyncIterator[Event]:
        if not isinstance(request, Compare):
            async for event in super()._events(request):
                yield event
            return
        yield ArmStarted(memory_on=True)
        yield TextChunk(text="A lem")
        await self.stopped.wait()
        yield finished("A lem", "cancelled")


def test_escape_stops_and_keeps_the_text() -> None:
    engine = Waiting()

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await type_in(pilot, "Why")
        await pilot.press("enter")
        await pilot.pause(0.1)
        assert column(app, "#with").startswith("A lem|")
        await pilot.press("enter")  # not twice at once
        await pilot.press("escape")
        await pilot.pause(0.1)
        assert column(app, "#with").endswith("cancelled")
        assert len(compared(engine)) == 1
        assert table(app) == ""

    drive(engine, act)


def test_what_fails_is_said_and_it_can_be_tried_again() -> None:
    engine = FakeEngine(replies={Compare: refused})

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await type_in(pilot, "Why")
        await pilot.press("enter")
        await pilot.pause()
        assert "the position is not in the sequence" in notes(app)
        await pilot.press("enter")
        await pilot.pause()
        assert len(compared(engine)) == 2

    drive(engine, act)


def test_a_memory_that_cannot_be_left_out_is_explained() -> None:
    engine = FakeEngine(model=replace(MODEL, can_leave_out_memory=False))

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        nothing = app.screen.query_one("#nothing", Static)
        assert nothing.display
        assert "cannot be left out" in str(nothing.content)
        await pilot.press("ctrl+r")
        await pilot.pause()
        assert compared(engine) == []

    drive(engine, act)


def test_columns_are_stacked_where_it_is_narrow() -> None:
    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        first, second = app.screen.query(AnswerColumn)
        assert first.region.y < second.region.y
        assert first.region.x == second.region.x
        await pilot.resize_terminal(120, 40)
        await pilot.pause()
        assert first.region.y == second.region.y
        assert first.region.x < second.region.x

    drive(FakeEngine(replies=REPLIES), act, size=(80, 24))


def test_answers_drive_no_terminal_and_no_markup() -> None:
    text = "\x1b[2J[b]x[/b]"
    events: list[Event] = [ArmStarted(memory_on=True), TextChunk(text=text)]
    engine = FakeEngine(replies={Compare: events})

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await type_in(pilot, "Why")
        await pilot.press("enter")
        await pilot.pause(0.1)
        assert column(app, "#with") == "\\x1b[2J[b]x[/b]|"

    drive(engine, act)


def test_an_answer_longer_than_its_column_is_followed() -> None:
    chunks = [TextChunk(text=f"line {number}\n") for number in range(200)]
    engine = FakeEngine(replies={Compare: [ArmStarted(memory_on=False), *chunks]})

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await type_in(pilot, "Why")
        await pilot.press("enter")
        await pilot.pause(0.2)
        await pilot.pause()
        found = app.screen.query_one("#without", AnswerColumn)
        assert found.max_scroll_y > 100
        assert found.is_vertical_scroll_end

    drive(engine, act)
