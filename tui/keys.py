"""The keys of the app: one list, which bindings, help and the config file share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from textual.binding import Binding
from textual.keys import Keys, format_key, key_to_character

from engram_local.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """Something that a key does."""

    id: str
    """Its name in the config file, under [tui.keys]."""

    keys: str
    """The keys by default, separated by commas."""

    label: str
    """For the footer, where there is room."""

    does: str
    """For the help screen."""

    show: bool = False
    """True: in the footer."""

    priority: bool = False
    """True: also where a text field has another use for the key."""


KEYS = (
    Key(
        id="app.help",
        keys="f1",
        label="Help",
        does="keys and commands",
        show=True,
        priority=True,
    ),
    Key(
        id="app.sessions",
        keys="f7",
        label="Sessions",
        does="find, go on with, rename or delete sessions",
        show=True,
        priority=True,
    ),
    Key(
        id="app.interrupt",
        keys="ctrl+c",
        label="Stop",
        does="copy what is selected, else stop the answer; twice to quit",
        priority=True,
    ),
    Key(id="app.quit", keys="ctrl+q", label="Quit", does="quit", priority=True),
    Key(
        id="app.palette",
        keys="ctrl+p",
        label="Palette",
        does="all commands, and themes",
        priority=True,
    ),
    Key(
        id="app.restart",
        keys="f9",
        label="Restart",
        does="restart the engine with the same model",
        priority=True,
    ),
    Key(id="prompt.send", keys="enter", label="Send", does="ask"),
    Key(
        id="prompt.newline",
        keys="shift+enter,alt+enter,ctrl+j",
        label="Newline",
        does="begin another line; not all terminals know all three",
    ),
    Key(
        id="prompt.complete",
        keys="tab",
        label="Complete",
        does="take the command that is suggested",
    ),
    Key(
        id="chat.stop",
        keys="escape",
        label="Stop",
        does="stop the answer and keep its text; leave an edit; take back what waits",
        show=True,
    ),
    Key(
        id="chat.regenerate",
        keys="ctrl+r",
        label="Again",
        does="answer the newest question again; the other answer stays",
        show=True,
        priority=True,
    ),
    Key(
        id="chat.edit",
        keys="ctrl+e",
        label="Edit",
        does="ask something else in place of the selected or newest question; "
        "to the end of a line that is typed",
        show=True,
        priority=True,
    ),
    Key(
        id="chat.copy",
        keys="ctrl+y",
        label="Copy",
        does="copy the selected message, else the newest answer",
        show=True,
        priority=True,
    ),
    Key(
        id="chat.code",
        keys="ctrl+k",
        label="Code",
        does="copy the newest answer's first code block, then the next, then anew",
        priority=True,
    ),
    Key(
        id="chat.new",
        keys="ctrl+n",
        label="New",
        does="begin another session",
        priority=True,
    ),
    Key(
        id="chat.undo",
        keys="ctrl+u",
        label="Undo",
        does="take back the newest question and its answer; "
        "delete a line that is typed, up to the cursor",
        priority=True,
    ),
    Key(
        id="chat.continue",
        keys="ctrl+o",
        label="Go on",
        does="go on with the newest answer",
        priority=True,
    ),
    Key(
        id="chat.settings",
        keys="ctrl+t",
        label="Settings",
        does="sampling and system prompt",
        priority=True,
    ),
    Key(
        id="chat.sidebar",
        keys="ctrl+b",
        label="Sidebar",
        does="show or hide the sidebar",
        show=True,
        priority=True,
    ),
    Key(
        id="chat.select_up",
        keys="alt+up",
        label="Select",
        does="select the message above",
        priority=True,
    ),
    Key(
        id="chat.select_down",
        keys="alt+down",
        label="Select",
        does="select the message below",
        priority=True,
    ),
    Key(
        id="chat.variant_before",
        keys="alt+left",
        label="Variant",
        does="show the variant before, of the selected message or the newest answer",
        priority=True,
    ),
    Key(
        id="chat.variant_after",
        keys="alt+right",
        label="Variant",
        does="show the next variant",
        priority=True,
    ),
    Key(
        id="chat.page_up",
        keys="pageup",
        label="Up",
        does="scroll up",
        priority=True,
    ),
    Key(
        id="chat.page_down",
        keys="pagedown",
        label="Down",
        does="scroll down",
        priority=True,
    ),
    Key(
        id="chat.end",
        keys="ctrl+end",
        label="End",
        does="go to the newest text and follow it",
        priority=True,
    ),
    Key(
        id="memory.switch",
        keys="m",
        label="On/off",
        does="Memory: use the memory, or leave it out",
        show=True,
    ),
    Key(
        id="memory.choose",
        keys="c",
        label="Choose",
        does="Memory: load another one; the model stays",
        show=True,
    ),
    Key(
        id="memory.tier",
        keys="t",
        label="Tier",
        does="Memory: read its rows from RAM, a mapped file, or the drive",
        show=True,
    ),
    Key(
        id="memory.warm",
        keys="w",
        label="Warm",
        does="Memory: read all of the table into the page cache",
        show=True,
    ),
    Key(
        id="memory.evict",
        keys="e",
        label="Evict",
        does="Memory: let the page cache forget the table",
        show=True,
    ),
    Key(
        id="memory.layer",
        keys="l",
        label="Layer",
        does="Memory: tint by the gates of the next layer",
        show=True,
    ),
    Key(
        id="memory.scale",
        keys="s",
        label="Scale",
        does="Memory: tint from 0 to 1, or where most of the answer's gates are",
        show=True,
    ),
    Key(
        id="memory.bars",
        keys="b",
        label="Bars",
        does="Memory: gates as bars below the text",
        show=True,
    ),
    Key(
        id="memory.stop",
        keys="escape",
        label="Stop",
        does="Memory: stop what is going on",
    ),
    Key(
        id="compare.start",
        keys="ctrl+r",
        label="Compare",
        does="Compare: answer with the memory and without",
        show=True,
        priority=True,
    ),
    Key(
        id="compare.stop",
        keys="escape",
        label="Stop",
        does="Compare: stop the answer",
        show=True,
    ),
    Key(
        id="models.rescan",
        keys="r",
        label="Look again",
        does="Models: look for models again",
        show=True,
    ),
    Key(
        id="models.path",
        keys="p",
        label="File",
        does="Models: type the path of any GGUF",
        show=True,
    ),
    Key(
        id="size.export",
        keys="ctrl+o",
        label="Export",
        does="Size: write the report into a file",
        show=True,
        priority=True,
    ),
    Key(
        id="size.copy",
        keys="ctrl+y",
        label="Copy command",
        does="Size: copy the command that runs the model so",
        show=True,
    ),
    Key(
        id="size.look",
        keys="ctrl+l",
        label="Look again",
        does="Size: look at this computer again",
        show=True,
    ),
    Key(
        id="logs.filter",
        keys="slash",
        label="Filter",
        does="Logs: show the lines that contain a word",
        show=True,
    ),
    Key(
        id="logs.copy",
        keys="y",
        label="Copy",
        does="Logs: copy the lines that are shown",
        show=True,
    ),
    Key(
        id="logs.clear",
        keys="x",
        label="Clear",
        does="Logs: show only what comes from now on",
        show=True,
    ),
)
"""All but those that show a screen, which modes.py adds."""

_BY_ID = {key.id: key for key in KEYS}
_MODIFIERS = frozenset(("ctrl", "shift", "alt", "super", "meta", "hyper"))
_SHOWN = {"escape": "Esc", "pageup": "PgUp", "pagedown": "PgDn"}
_NAMES = frozenset(key.value.rpartition("+")[2] for key in Keys)


def bind(key_id: str, action: str) -> Binding:
    """Return the binding of a key in the list to an action."""
    return binding_of(_BY_ID[key_id], action)


def binding_of(key: Key, action: str) -> Binding:
    """Return the binding of a key to an action."""
    return Binding(
        key.keys,
        action,
        key.label,
        id=key.id,
        show=key.show,
        priority=key.priority,
        tooltip=key.does,
    )


def shown_key(key: str) -> str:
    """Return a key as people write it: F2, Ctrl-R, PgUp; m is not M."""
    *modifiers, name = key.strip().split("+")
    character = format_key(name)  # of some keys a picture
    if not modifiers and len(character) == 1 and character.isascii():
        return character
    return "-".join([*map(str.capitalize, modifiers), _SHOWN.get(name, name.title())])


def check_keymap(keymap: Mapping[str, str], known: Iterable[Key]) -> None:
    """Raise UsageError for an id that is not known, or a key that no keyboard has."""
    ids = [key.id for key in known]
    for key_id, keys in keymap.items():
        if key_id not in ids:
            raise UsageError(
                f"the config file binds {key_id}, which is no action",
                hint=f"known are {', '.join(ids)}",
            )
        for key in keys.split(","):
            if not _is_key(key.strip()):
                raise UsageError(
                    f"the config file binds {key_id} to {key.strip()!r}, "
                    "which is no key",
                    hint="keys look like f5, ctrl+r, alt+enter or pageup",
                )


def _is_key(key: str) -> bool:
    *modifiers, name = key.split("+")
    known = len(name) == 1 or name in _NAMES or key_to_character(name) is not None
    return known and _MODIFIERS.issuperset(modifiers)
