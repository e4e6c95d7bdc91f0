"""The heat view by keys and mouse, in an app of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from textual.app import App, ComposeResult
from textual.pilot import Pilot

from tui.widgets.heat_layout import lay_out
from tui.widgets.heat_text import N_TINTS, HeatText, bar_line, part_of, tint_of

TEXTS = ["A", " ring", "-tailed", " lemur", ".", "\n", "It", " eats", " 葉", "\x1b["]
GATES = [number / 9 for number in range(10)]


class HeatApp(App[None]):
    def __init__(self) -> None:
        super().__init__()
        self.heat = HeatText()
        self.chosen: list[int] = []

    def compose(self) -> ComposeResult:
        yield self.heat

    def on_mount(self) -> None:
        self.heat.show(TEXTS, GATES)
        self.heat.focus()

    def on_heat_text_chosen(self, message: HeatText.Chosen) -> None:
        self.chosen.append(message.token)

    def lines(self) -> list[str]:
        return [self.heat.render_line(y).text.rstrip() for y in range(self.size.height)]


def drive(
    act: Callable[[HeatApp, Pilot[None]], Awaitable[None]],
    size: tuple[int, int] = (20, 6),
) -> HeatApp:
    """Run the app, and `act` in it."""

    async def run() -> HeatApp:
        app = HeatApp()
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await act(app, pilot)
            await pilot.pause()
            return app

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("keys", "token"),
    [
        (["right"], 1),
        (["right", "right", "left"], 1),
        (["left"], 0),
        (["end"], 9),
        (["end", "right"], 9),
        (["end", "home"], 0),
        (["down"], 3),
        (["right", "right", "down", "down"], 7),
        (["end", "up", "up"], 2),
        (["pagedown"], 6),
        (["pagedown", "pageup"], 0),
    ],
)
def test_keys_move_the_cursor(keys: list[str], token: int) -> None:
    async def act(app: HeatApp, pilot: Pilot[None]) -> None:
        await pilot.press(*keys)

    app = drive(act)
    assert app.heat.cursor == token
    assert app.chosen[-1] == token


def test_a_click_chooses_the_token_under_it() -> None:
    async def act(app: HeatApp, pilot: Pilot[None]) -> None:
        assert app.lines()[:3] == ["A ring-tailed", "lemur.↵", "It eats 葉\\x1b["]
        await pilot.click(HeatText, offset=(9, 2))  # the right half of the character
        assert app.heat.cursor == 8
        await pilot.click(HeatText, offset=(15, 0))  # past the end of the line
        assert app.heat.cursor == 3
        await pilot.click(HeatText, offset=(3, 5))  # below the text

    assert drive(act).heat.cursor == 3


def test_the_text_wraps_anew_when_the_width_changes() -> None:
    async def act(app: HeatApp, pilot: Pilot[None]) -> None:
        await pilot.press("end")
        await pilot.resize_terminal(8, 3)
        await pilot.pause()
        assert all(len(line) <= 8 for line in app.lines())
        last = app.heat.scroll_offset.y + 2
        assert last == app.heat.virtual_size.height - 1, "the cursor is seen"

    drive(act)


def test_a_longer_text_scrolls_with_the_cursor() -> None:
    async def act(app: HeatApp, pilot: Pilot[None]) -> None:
        app.heat.show([" word"] * 400, [0.5] * 400)
        await pilot.press("end")
        await pilot.pause()
        assert app.heat.cursor == 399
        assert app.lines()[-1].endswith("word")
        assert app.heat.scroll_offset.y == app.heat.virtual_size.height - 6

    drive(act)


def test_bars_stand_below_their_tokens() -> None:
    async def act(app: HeatApp, pilot: Pilot[None]) -> None:
        app.heat.bars = True
        await pilot.pause()
        lines = app.lines()
        assert lines[0] == "A ring-tailed"
        assert lines[1] == "·▁▁▁▁▁▂▂▂▂▂▂▂▃"
        assert lines[3] == "▃▃▃▃▃▄▄"

    drive(act)


def test_without_colours_there_are_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    async def act(app: HeatApp, pilot: Pilot[None]) -> None:
        assert app.heat.has_bars
        assert app.lines()[1].startswith("·▁▁")

    drive(act)


def test_no_text_is_no_error() -> None:
    async def act(app: HeatApp, pilot: Pilot[None]) -> None:
        app.heat.show([], [])
        await pilot.press("down", "end", "pageup", "left")
        await pilot.click(HeatText, offset=(1, 1))
        await pilot.resize_terminal(30, 6)

    app = drive(act)
    assert app.heat.cursor == 0
    assert app.chosen == [0]  # of the text before


def test_another_theme_has_other_tints() -> None:
    async def act(app: HeatApp, pilot: Pilot[None]) -> None:
        def tints() -> list[object]:
            line = list(app.heat.render_line(0))
            return [segment.style.bgcolor for segment in line if segment.style][1:4]

        dark = tints()
        app.theme = "textual-light"
        await pilot.pause()
        light = tints()
        assert len({str(color) for color in (*dark, *light)}) == 6

    drive(act)


def test_a_tint_is_the_place_between_the_scales_ends() -> None:
    assert part_of(0.5, (0.0, 1.0)) == 0.5
    assert part_of(0.5, (0.5, 0.9)) == 0.0
    assert part_of(2.0, (0.5, 0.9)) == 1.0
    assert part_of(0.7, (0.7, 0.7)) == 1.0
    assert part_of(None, (0.0, 1.0)) is None
    assert part_of(float("nan"), (0.0, 1.0)) is None
    assert [tint_of(gate, (0.0, 1.0)) for gate in (0.0, 1.0)] == [0, N_TINTS - 1]


def test_unknown_gates_have_bars_of_their_own() -> None:
    layout = lay_out(["ab", "c"], 10)
    assert bar_line(layout.lines[0], [None, 1.0], (0.0, 1.0)) == "░░█"
