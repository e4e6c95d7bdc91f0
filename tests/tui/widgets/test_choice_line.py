"""Choices in a row."""

from __future__ import annotations

import asyncio

from textual.app import App, ComposeResult

from tui.widgets.choice_line import ChoiceLine, choice_at


def test_every_cell_of_a_label_leads_to_it() -> None:
    labels = ["mean", "2", "日本"]
    cells = [choice_at(labels, column) for column in range(-1, 16)]
    assert cells == [None] + [0] * 6 + [1] * 3 + [2] * 6 + [None]


class LineApp(App[None]):
    def __init__(self) -> None:
        super().__init__()
        self.line = ChoiceLine("layer")
        self.taken: list[int] = []

    def compose(self) -> ComposeResult:
        yield self.line

    def on_choice_line_taken(self, message: ChoiceLine.Taken) -> None:
        self.taken.append(message.number)


def test_mouse_and_calls_take_one() -> None:
    async def run() -> None:
        app = LineApp()
        async with app.run_test(size=(40, 3)) as pilot:
            app.line.take(1)  # there is none
            app.line.show(["mean", "2", "15"])
            await pilot.click(ChoiceLine, offset=(13, 0))
            app.line.take(app.line.taken + 1)
            app.line.take(app.line.taken + 1)
            await pilot.click(ChoiceLine, offset=(1, 0))  # the title
            await pilot.pause()
            assert app.taken == [1, 2, 0]
            app.line.take(2)
            app.line.show(["mean", "2", "15"])
            assert app.line.taken == 2
            app.line.show(["mean"])
            assert app.line.taken == 0

    asyncio.run(run())
