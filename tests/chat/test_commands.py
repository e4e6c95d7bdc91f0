"""What is typed behind a slash, and what it means."""

from __future__ import annotations

from pathlib import Path

import pytest

from engram_local.chat import commands
from engram_local.chat.commands import COMMANDS, Action, help_lines, is_command, parse
from engram_local.errors import UsageError


@pytest.mark.parametrize(
    ("line", "action"),
    [
        ("/help", commands.ShowHelp()),
        ("/?", commands.ShowHelp()),
        (" /BYE ", commands.Quit()),
        ("/q", commands.Quit()),
        ("/new", commands.NewChat()),
        ("/clear", commands.Clear()),
        ("/regen", commands.Regenerate()),
        ("/variant 2", commands.SelectVariant(2)),
        ("/continue", commands.Continue()),
        ("/edit", commands.EditLast(None)),
        ("/edit  Why not?", commands.EditLast("Why not?")),
        ("/undo", commands.Undo()),
        ("/copy", commands.Copy(None)),
        ("/copy 3", commands.Copy(3)),
        ("/code", commands.CopyCode(1)),
        ("/code 2", commands.CopyCode(2)),
        ("/memory", commands.OpenScreen("memory")),
        ("/memory on", commands.UseMemory(True)),
        ("/memory off", commands.UseMemory(False)),
        ("/memory a b.gguf", commands.ChooseMemory(Path("a b.gguf"))),
        ("/tier direct", commands.SetTier("direct")),
        ("/warm", commands.Warm()),
        ("/evict", commands.Evict()),
        ("/system", commands.ShowSettings()),
        ("/system Be brief.", commands.SetSystem("Be brief.")),
        ("/system default", commands.SetSystem(None)),
        ("/set", commands.ShowSettings()),
        ("/set temp 0.3", commands.SetSampling("temperature", 0.3)),
        ("/set --top-k=7", commands.SetSampling("top_k", 7)),
        ("/set seed random", commands.SetSampling("seed", None)),
        ("/set n -1", commands.SetSampling("max_tokens", -1)),
        ("/context", commands.ShowContext()),
        ("/stats", commands.ShowStats()),
        ("/sessions", commands.ShowSessions("")),
        ("/sessions two words", commands.ShowSessions("two words")),
        ("/resume 12ab", commands.Resume("12ab")),
        ("/rename A name", commands.Rename("A name")),
        ("/delete 12ab", commands.Delete("12ab")),
        ("/export", commands.Export(None, "markdown")),
        ("/export json", commands.Export(None, "json")),
        ("/export x.json", commands.Export(Path("x.json"), "json")),
        (
            "/export ~no-such-user/x",
            commands.Export(Path("~no-such-user/x"), "markdown"),
        ),
        ("/save x.md", commands.Export(Path("x.md"), "markdown")),
        ("/load m.gguf", commands.LoadModel(Path("m.gguf"))),
        ("/compare", commands.OpenScreen("compare")),
        ("/logs", commands.OpenScreen("logs")),
        ("/theme", commands.SetTheme(None)),
        ("/theme nord", commands.SetTheme("nord")),
        ("/tui", commands.OpenApp()),
    ],
)
def test_a_line_is_an_action(line: str, action: Action) -> None:
    assert is_command(line)
    assert parse(line) == action


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/set temperature hot", "temperature is 'hot', which is no float"),
        ("/set temp -1", "temperature is -1.0, 0 to 100 are possible"),
        ("/set top_p 2", "top_p is 2.0, 0 to 1 are possible"),
        ("/set top_k", "top_k is '', which is no int"),
        ("/set n_ctx 5", "n_ctx cannot be changed in a chat"),
        ("/tier vram", "memory_tier is 'vram', possible are auto, ram"),
        ("/tier", "/tier needs an argument"),
        ("/resume", "/resume needs an argument: /resume ID"),
        ("/clear all", "/clear takes no argument, 'all' was given"),
        ("/code x", "'x' is no number"),
        ("/copy 0", "'0' is no number"),
        ("/copy " + "9" * 5000, "'99999"),
        ("/export a\0b", "'a\\x00b' is no name of a file"),
        ("/what", "there is no command /what"),
        ("/", "there is no command /"),
    ],
)
def test_what_is_wrong_is_said(line: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(line)
    assert caught.value.message.startswith(message)


@pytest.mark.parametrize("line", ["/usr/bin/env: what is that?", "a /help", "", " "])
def test_a_question_is_no_command(line: str) -> None:
    assert not is_command(line)


def test_an_unknown_command_has_its_neighbours() -> None:
    with pytest.raises(UsageError) as caught:
        parse("/regn")
    assert caught.value.hint is not None and "/regen" in caught.value.hint
    with pytest.raises(UsageError) as caught:
        parse("/xyzzy")
    assert caught.value.hint == "/help lists all commands"


def test_a_name_belongs_to_one_command() -> None:
    names = [name for command in COMMANDS for name in command.names]
    assert len(set(names)) == len(names) == len(commands._BY_NAME)


def test_every_action_has_a_command() -> None:
    typed = [parse(line).__class__ for line in _LINES]
    assert set(typed) == set(Action.__args__)


_LINES = [
    f"/{command.name} {example}".rstrip()
    for command in COMMANDS
    for example in {
        "memory": ["", "on", "x.gguf"],
        "tier": ["ram"],
        "system": ["", "Be brief."],
        "set": ["top_k 1"],
        "variant": ["1"],
    }.get(command.name, ["x" if command.argument[:1].isupper() else ""])
]


def test_help_names_what_works_there() -> None:
    app, line = "\n".join(help_lines("app")), "\n".join(help_lines("line"))
    assert "/theme [NAME]" in app and "/theme" not in line
    assert "/tui" in line and "/tui" not in app
    assert "/regen " in app and "/regen " in line


def test_screens_are_known() -> None:
    opened = [parse(f"/{name}") for name in commands.SCREENS if name != "help"]
    assert opened == [
        commands.OpenScreen(name) for name in commands.SCREENS if name != "help"
    ]
