"""The slash commands: one table for the line chat and the chat app.

A command turns what is typed behind it into an action, a frozen value; what an action
does is the front end's matter. This module knows nothing of engines and screens.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from engram_local.chat.export import Format
from engram_local.errors import UsageError
from engram_local.settings import TIERS, Settings
from engram_local.settings import parse as parse_setting

FrontEnd = Literal["line", "app"]
"""`run`'s chat line by line, and the chat app."""

SAMPLING = ("temperature", "top_k", "top_p", "min_p", "seed", "max_tokens")
"""Settings that can be changed in a chat."""

SCREENS = ("memory", "compare", "size", "models", "logs", "help")

IN_THE_APP = "that is in the chat app: engram-local tui"
"""For actions that a line chat cannot do."""

_FLAGS = {"temp": "temperature", "n": "max_tokens", "predict": "max_tokens"}
"""What the command line calls some settings."""

_MOST_DIGITS = 9
"""Of a number; Python refuses to read thousands of them."""


# --- actions ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Quit:
    """End the program."""


@dataclass(frozen=True, slots=True)
class ShowHelp:
    """List the commands."""


@dataclass(frozen=True, slots=True)
class NewChat:
    """Begin another session."""


@dataclass(frozen=True, slots=True)
class Clear:
    """Begin anew in this session; what was said before stays in it."""


@dataclass(frozen=True, slots=True)
class UseMemory:
    """Use the loaded memory or not."""

    on: bool


@dataclass(frozen=True, slots=True)
class ChooseMemory:
    """Load another memory file."""

    path: Path


@dataclass(frozen=True, slots=True)
class SetTier:
    """Read the table from elsewhere: one of settings.TIERS."""

    tier: str


@dataclass(frozen=True, slots=True)
class SetSystem:
    """Use another system prompt; None = the model's own."""

    text: str | None


@dataclass(frozen=True, slots=True)
class SetSampling:
    """Change one of SAMPLING; the value is in range."""

    name: str
    value: Any
    """int, float, or None = as it comes (seed)."""


@dataclass(frozen=True, slots=True)
class ShowSettings:
    """Show sampling settings and system prompt."""


@dataclass(frozen=True, slots=True)
class Regenerate:
    """Answer the newest question again; the other answers stay as variants."""


@dataclass(frozen=True, slots=True)
class SelectVariant:
    """Show another variant of the newest answer, counted from 1."""

    number: int


@dataclass(frozen=True, slots=True)
class Continue:
    """Go on with the newest answer."""


@dataclass(frozen=True, slots=True)
class EditLast:
    """Ask something else in place of the newest question; None = ask what."""

    text: str | None


@dataclass(frozen=True, slots=True)
class Undo:
    """Go back before the newest question."""


@dataclass(frozen=True, slots=True)
class Copy:
    """Copy an answer, the newest one with 1; None = the newest."""

    number: int | None


@dataclass(frozen=True, slots=True)
class CopyCode:
    """Copy a code block of the newest answer, the first one with 1."""

    number: int


@dataclass(frozen=True, slots=True)
class ShowSessions:
    """List sessions; an empty search = all."""

    search: str


@dataclass(frozen=True, slots=True)
class Resume:
    """Go on with another session."""

    session_id: str


@dataclass(frozen=True, slots=True)
class Rename:
    """Give this session another title."""

    title: str


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove a session."""

    session_id: str


@dataclass(frozen=True, slots=True)
class Export:
    """Write this session to a file; None = named after its title."""

    path: Path | None
    format: Format


@dataclass(frozen=True, slots=True)
class ShowContext:
    """Tell how much of the context is used."""


@dataclass(frozen=True, slots=True)
class ShowStats:
    """Tell the numbers of the newest answer."""


@dataclass(frozen=True, slots=True)
class OpenScreen:
    """Go to one of SCREENS."""

    name: str


@dataclass(frozen=True, slots=True)
class SetTheme:
    """Use other colours; None = offer a choice."""

    name: str | None


@dataclass(frozen=True, slots=True)
class Warm:
    """Read all of the table into the page cache."""


@dataclass(frozen=True, slots=True)
class Evict:
    """Let the page cache forget the table."""


@dataclass(frozen=True, slots=True)
class LoadModel:
    """Load another model."""

    path: Path


@dataclass(frozen=True, slots=True)
class Restart:
    """End the engine's process and start another with the same model."""


@dataclass(frozen=True, slots=True)
class OpenApp:
    """Go on in the chat app."""


Action = (
    Quit
    | ShowHelp
    | NewChat
    | Clear
    | UseMemory
    | ChooseMemory
    | SetTier
    | SetSystem
    | SetSampling
    | ShowSettings
    | Regenerate
    | SelectVariant
    | Continue
    | EditLast
    | Undo
    | Copy
    | CopyCode
    | ShowSessions
    | Resume
    | Rename
    | Delete
    | Export
    | ShowContext
    | ShowStats
    | OpenScreen
    | SetTheme
    | Warm
    | Evict
    | LoadModel
    | Restart
    | OpenApp
)


# --- the table --------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command with its names."""

    names: tuple[str, ...]
    """Without the slash; the first one is shown, the others work too."""

    argument: str = ""
    """As help shows it; in brackets what may be left out."""

    help: str
    only_in: FrontEnd | None = None
    """Where it works; None = everywhere."""

    action: Callable[[str], Action]
    """From what is typed behind the name; raises UsageError."""

    @property
    def name(self) -> str:
        """The name that is shown."""
        return self.names[0]

    @property
    def usage(self) -> str:
        """`/name ARGUMENT`."""
        return f"/{self.name} {self.argument}".rstrip()


def parse(line: str) -> Action:
    """Return the action of a line that begins with a slash.

    Raises UsageError for an unknown command, with the closest names, or an argument
    that it does not take.
    """
    name, _, argument = line.strip().removeprefix("/").partition(" ")
    command = _BY_NAME.get(name.lower())
    if command is None:
        raise UsageError(f"there is no command /{name}", hint=_closest(name))
    argument = argument.strip()
    if argument and not command.argument:
        raise UsageError(f"{command.usage} takes no argument, {argument!r} was given")
    if not argument and command.argument and not command.argument.startswith("["):
        raise UsageError(f"/{command.name} needs an argument: {command.usage}")
    return command.action(argument)


def is_command(line: str) -> bool:
    """Return whether a line is a command; a question may begin with a path."""
    word, *_ = line.split(maxsplit=1) or [""]
    return word.startswith("/") and "/" not in word[1:]


def typed_path(text: str) -> Path:
    """Return a path as one types it; raises UsageError for what is none."""
    if "\0" in text:
        raise UsageError(f"{text!r} is no name of a file")
    return Path(os.path.expanduser(text))  # Path's own raises for ~nobody


def commands_in(front_end: FrontEnd) -> tuple[Command, ...]:
    """Return the commands that work there, in the order of the help."""
    return tuple(one for one in COMMANDS if one.only_in in (None, front_end))


def help_lines(front_end: FrontEnd) -> list[str]:
    """Return a line for each command that works there."""
    shown = commands_in(front_end)
    width = max(len(command.usage) for command in shown)
    return [f"{command.usage:{width}}  {command.help}" for command in shown]


def _closest(name: str) -> str:
    close = get_close_matches(name.lower(), _BY_NAME, n=3, cutoff=0.5)
    names = " or ".join(f"/{one}" for one in close)
    return f"did you mean {names}?" if close else "/help lists all commands"


def _memory(argument: str) -> Action:
    if not argument:
        return OpenScreen("memory")
    if argument in ("on", "off"):
        return UseMemory(argument == "on")
    return ChooseMemory(typed_path(argument))


def _tier(argument: str) -> Action:
    replace(Settings(), memory_tier=argument)  # refuses what is no tier
    return SetTier(argument)


def _system(argument: str) -> Action:
    if not argument:
        return ShowSettings()
    return SetSystem(None if argument == "default" else argument)


def _set(argument: str) -> Action:
    name, _, text = argument.replace("=", " ", 1).partition(" ")
    name = _FLAGS.get(name.lstrip("-"), name.lstrip("-").replace("-", "_"))
    if not name:
        return ShowSettings()
    if name not in SAMPLING:
        raise UsageError(
            f"{name} cannot be changed in a chat", hint=f"{', '.join(SAMPLING)} can"
        )
    changed: dict[str, Any] = {name: _value(name, text.strip())}
    replace(Settings(), **changed)  # refuses what is out of range
    return SetSampling(name, changed[name])


def _value(name: str, text: str) -> Any:
    if name == "seed" and text in ("random", "none"):
        return None
    return parse_setting(name, text, name)


def _number(argument: str, default: int) -> int:
    if not argument:
        return default
    is_number = argument.isdecimal() and len(argument) <= _MOST_DIGITS
    if not is_number or int(argument) == 0:
        raise UsageError(f"{argument!r} is no number; the first one is 1")
    return int(argument)


def _screen(name: str) -> Callable[[str], Action]:
    return lambda _: OpenScreen(name)


def _export(argument: str) -> Action:
    if argument in ("", "markdown", "json"):
        return Export(None, "json" if argument == "json" else "markdown")
    path = typed_path(argument)
    return Export(path, "json" if path.suffix == ".json" else "markdown")


COMMANDS = (
    Command(names=("help", "?"), help="list the commands", action=lambda _: ShowHelp()),
    Command(
        names=("new",),
        help="begin another session; this one is kept",
        action=lambda _: NewChat(),
    ),
    Command(
        names=("clear",),
        help="begin anew in this session",
        action=lambda _: Clear(),
    ),
    Command(
        names=("regen", "regenerate", "retry"),
        help="answer the newest question again; the first answer stays as a variant",
        action=lambda _: Regenerate(),
    ),
    Command(
        names=("variant",),
        argument="N",
        help="show the Nth variant of the newest answer",
        action=lambda argument: SelectVariant(_number(argument, 1)),
    ),
    Command(
        names=("continue",),
        help="go on with the newest answer",
        action=lambda _: Continue(),
    ),
    Command(
        names=("edit",),
        argument="[TEXT]",
        help="ask something else in place of the newest question",
        action=lambda argument: EditLast(argument or None),
    ),
    Command(
        names=("undo",),
        help="take back the newest question and its answer",
        action=lambda _: Undo(),
    ),
    Command(
        names=("code",),
        argument="[N]",
        help="the Nth code block of the newest answer, exactly as it stands there",
        action=lambda argument: CopyCode(_number(argument, 1)),
    ),
    Command(
        names=("copy",),
        argument="[N]",
        help="copy the newest answer, or the Nth before the end",
        action=lambda argument: Copy(_number(argument, 1) if argument else None),
        only_in="app",
    ),
    Command(
        names=("memory",),
        argument="[on|off|FILE]",
        help="use the memory or not, or load another one",
        action=_memory,
    ),
    Command(
        names=("tier",),
        argument="|".join(TIERS),
        help="where the memory's table is read from",
        action=_tier,
        only_in="app",
    ),
    Command(
        names=("warm",),
        help="read all of the table into the page cache",
        action=lambda _: Warm(),
        only_in="app",
    ),
    Command(
        names=("evict",),
        help="let the page cache forget the table",
        action=lambda _: Evict(),
        only_in="app",
    ),
    Command(
        names=("system",),
        argument="[TEXT]",
        help='use another system prompt; "default" is the model\'s own',
        action=_system,
    ),
    Command(
        names=("set", "settings"),
        argument="[NAME VALUE]",
        help=f"show the settings, or change one: {', '.join(SAMPLING)}",
        action=_set,
    ),
    Command(
        names=("context", "ctx"),
        help="how much of the context is used",
        action=lambda _: ShowContext(),
    ),
    Command(
        names=("stats",),
        help="the numbers of the newest answer",
        action=lambda _: ShowStats(),
    ),
    Command(
        names=("sessions",),
        argument="[TEXT]",
        help="list the sessions, or those with TEXT in them",
        action=ShowSessions,
    ),
    Command(
        names=("resume",),
        argument="ID",
        help="go on with another session",
        action=Resume,
    ),
    Command(
        names=("rename",),
        argument="TITLE",
        help="give this session another title",
        action=Rename,
    ),
    Command(
        names=("delete",),
        argument="ID",
        help="remove a session with all that was said in it",
        action=Delete,
    ),
    Command(
        names=("export", "save"),
        argument="[FILE|json]",
        help="write this session to a file: Markdown, or JSON with all variants",
        action=_export,
    ),
    Command(
        names=("load",),
        argument="MODEL",
        help="load another model: a file, or one that F6 lists",
        action=lambda argument: LoadModel(typed_path(argument)),
        only_in="app",
    ),
    *(
        Command(
            names=(name,),
            help=f"open the screen {name.capitalize()}",
            action=_screen(name),
            only_in="app",
        )
        for name in SCREENS
        if name not in ("memory", "help")
    ),
    Command(
        names=("restart",),
        help="restart the engine with the same model",
        action=lambda _: Restart(),
        only_in="app",
    ),
    Command(
        names=("theme",),
        argument="[NAME]",
        help="use other colours",
        action=lambda argument: SetTheme(argument or None),
        only_in="app",
    ),
    Command(
        names=("tui",),
        help="go on in the chat app",
        only_in="line",
        action=lambda _: OpenApp(),
    ),
    Command(names=("bye", "exit", "quit", "q"), help="quit", action=lambda _: Quit()),
)

_BY_NAME = {name: command for command in COMMANDS for name in command.names}
