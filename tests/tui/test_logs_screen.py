"""The Logs screen by its keys."""

from __future__ import annotations

from textual.content import Content
from textual.pilot import Pilot

from tests.tui.acting import drive, notes, text, type_in, until
from tests.tui.fakes import Answer, FakeEngine
from tui.app import EngramApp
from tui.screens.logs import log_content


def lines(app: EngramApp) -> list[str]:
    return text(app, "#lines").splitlines()


def test_what_was_said_before_is_there_and_what_is_said_now_too() -> None:
    engine = FakeEngine()

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        assert lines(app) == ["llama_model_loader: loaded"]
        engine.say("12:00:00 WARNING llama.cpp: careful")
        await until(pilot, lambda: len(lines(app)) == 2)
        assert lines(app)[1].endswith("careful")

    drive(act, key="f8", engine=engine)


def test_the_log_of_an_engine_that_died_stays() -> None:
    from engram_local.errors import WorkerLostError
    from engram_local.settings import Settings
    from engram_local.worker.protocol import Generate

    engine = FakeEngine(Answer(dies=True))

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        try:
            async for _ in app.link.ask(Generate(messages=(), settings=Settings())):
                pass
        except WorkerLostError:
            pass
        await pilot.press("f8")
        await until(pilot, lambda: "GGML_ASSERT(false) failed" in lines(app))
        await app.link.restart()
        await until(pilot, lambda: lines(app)[-1] == "llama_model_loader: loaded")
        assert "GGML_ASSERT(false) failed" in lines(app)

    drive(act, key="f2", engine=engine)


def test_a_filter_shows_the_lines_that_contain_it() -> None:
    engine = FakeEngine()

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        engine.say("KV cache of 90 MiB")
        await pilot.press("slash")
        await type_in(pilot, "kv")
        await until(pilot, lambda: lines(app) == ["KV cache of 90 MiB"])
        await type_in(pilot, "x")
        await until(pilot, lambda: lines(app) == ["no line contains that"])

    drive(act, key="f8", engine=engine)


def test_the_lines_that_are_shown_are_copied() -> None:
    engine = FakeEngine()

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        engine.say("evil \x1b[2J")
        await until(pilot, lambda: len(lines(app)) == 2)
        await pilot.press("y")
        await until(pilot, lambda: "copied 2 lines" in notes(app))
        assert app.clipboard == "llama_model_loader: loaded\nevil \\x1b[2J"
        assert lines(app)[1] == "evil \\x1b[2J"

    drive(act, key="f8", engine=engine)


def test_clearing_shows_only_what_comes_then() -> None:
    engine = FakeEngine()

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        await pilot.press("x")
        assert lines(app) == ["the engine has said nothing"]
        engine.say("new")
        await until(pilot, lambda: lines(app) == ["new"])

    drive(act, key="f8", engine=engine)


def test_only_500_lines_are_kept_and_the_last_is_in_view() -> None:
    engine = FakeEngine()

    async def act(app: EngramApp, pilot: Pilot[int]) -> None:
        for number in range(600):
            engine.say(f"line {number}")
        await until(pilot, lambda: len(lines(app)) == 500)
        assert (lines(app)[0], lines(app)[-1]) == ("line 100", "line 599")
        log = app.screen.query_one("#log")
        await until(pilot, lambda: log.scroll_offset.y == log.max_scroll_y > 0)

    drive(act, key="f8", engine=engine)


def test_levels_are_coloured() -> None:
    content = log_content(
        [
            "12:00:00 INFO a: [b]fine[/b]",
            "12:00:00 WARNING a: b",
            "12:00:00 ERROR a: b",
            "ggml.c:12: GGML_ASSERT(x) failed",
            "12:00:00 INFO engram_local: " + 60 * "." + " ERROR",
        ],
        "",
    )
    assert isinstance(content, Content)
    styles = {str(content)[span.start : span.end]: span.style for span in content.spans}
    assert [str(style) for style in styles.values()] == [
        "$text-warning",
        "$text-error",
        "bold $text-error",
    ]
    assert "[b]fine[/b]" in str(content)
