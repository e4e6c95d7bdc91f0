"""What the Models screen says, as plain text."""

from __future__ import annotations

from rich.text import Text

from engram_local.errors import EngramError
from engram_local.formats.facts import as_text, collect
from engram_local.formats.split import read_model_header
from engram_local.local_models import MAX_HEADER_BYTES, LocalModel
from engram_local.sizing.render.numbers import parameters
from engram_local.units import escape_control, format_bytes, format_count
from tui.state import EngineState

COLUMNS = (
    ("Name", False),
    ("Parameters", True),
    ("Weights", False),
    ("Files", True),
    ("Context", True),
    ("Memory", False),
    ("From", False),
)
"""Titles, and whether numbers stand below them."""

_NAME_CHARS = 34
"""Of a name in the table; all of it stands below, where its header is shown."""


def row_of(model: LocalModel, *, is_loaded: bool) -> list[Text]:
    """Return the cells of a model; one that cannot be run is dimmed."""
    is_sound = model.problem is None
    cells = (
        name_of(model, is_loaded=is_loaded),
        parameters(model.n_params) if is_sound else "",
        model.quant if is_sound else "unusable",
        format_bytes(model.file_bytes) if model.file_bytes else "",
        format_count(model.context_length) if model.context_length else "",
        model.memory_words,
        model.source,
    )
    style = "" if is_sound else "dim"
    return [
        cell_of(text, is_number, style)
        for text, (_, is_number) in zip(cells, COLUMNS, strict=True)
    ]


def cell_of(text: str, is_number: bool = False, style: str = "") -> Text:
    """Return a cell; nothing in it drives a terminal, and it is no markup."""
    words = escape_control(" ".join(text.split()))
    return Text(words, style, justify="right" if is_number else "left")


def name_of(model: LocalModel, *, is_loaded: bool) -> str:
    """Return what stands in the first column."""
    mark = "● " if is_loaded else ""
    return mark + _shortened(" = ".join((model.name, *model.aliases)))


def _shortened(name: str) -> str:
    """Return a name with its middle left out: a quantization stands at the end."""
    if len(name) <= _NAME_CHARS:
        return name
    half = _NAME_CHARS // 2
    return f"{name[: half - 1]}…{name[-half:]}"


def facts_of(model: LocalModel) -> str:
    """Return what `engram-local show` prints of a model, or why it cannot be run."""
    if model.problem is not None:
        return escape_control(f"{model.path}\n{model.name} {model.problem}.")
    try:
        return as_text(collect(read_model_header(model.path, MAX_HEADER_BYTES)))
    except EngramError as error:
        return escape_control(error.message)


def found_text(n_found: int) -> str:
    """Return how many there are, and what to do."""
    if n_found == 0:
        return (
            "There is no model here yet: `engram-local ls` tells how to get one. "
            "r looks again."
        )
    return f"{n_found} found · Enter loads one · ● is loaded"


def loading_text(state: EngineState, was_loaded: str | None) -> str | None:
    """Return what is to be said of a load: how far it is, or how it failed.

    was_loaded: the model before it, which a load that failed has ended.
    """
    if state.phase == "loading":
        if state.loading is None:
            return "loading"
        return f"{state.loading.what} {state.loading.part:.0%}".replace("%", " %")
    if state.error is None or state.phase not in ("none", "lost"):
        return None
    words = [state.error.message, state.error.hint or ""]
    gone = "" if was_loaded is None else f": {was_loaded} was unloaded before"
    words.append(f"No model is loaded{gone}. Enter loads one.")
    return "\n".join(filter(None, words))
