"""A word on the command line -> a model: a GGUF, a config.json, or a card's name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from engram_local import catalog
from engram_local.errors import FileError, FormatError, UsageError
from engram_local.formats import card, engram_gguf, hf_config, models
from engram_local.formats.backbone import read_backbone
from engram_local.formats.header import Header, read_header
from engram_local.formats.split import read_model_header
from engram_local.model_spec import ModelSpec
from engram_local.sizing.attached import attach_memory

if TYPE_CHECKING:  # attachment imports llama.cpp, which is not needed here
    from engram_local.attachment import MemoryChoice


def open_spec(word: str, *, memory: MemoryChoice = "auto") -> ModelSpec:
    """Return the model that `word` names; nothing of its tensors is read.

    word: a GGUF (any part of a split one), a config.json or a folder with one, or the
    name of a card. memory: of this package, to attach to a GGUF. Raises FileError that
    lists what is known, FormatError for a broken file, MismatchError for a memory of
    another backbone, UsageError for a memory without a GGUF.
    """
    path = Path(word)
    is_config = hf_config.matches(path)
    # Not Path.is_file, which fails for names that are too long.
    if not is_config and (os.path.isfile(path) or path.suffix == ".gguf"):
        return _open_gguf(path, memory)
    if isinstance(memory, Path):
        raise UsageError(
            f"--memory is attached to a GGUF, {word!r} is none", hint="leave it out"
        )
    if is_config:
        return hf_config.read_model(path)
    return card.read_card(_find_card(word))


def _find_card(word: str) -> Path:
    found = catalog.find_card(word)
    if found is not None:
        return found
    if os.path.isdir(word):
        raise FileError(
            f"{word} is a folder without a config.json", hint="name a GGUF file in it"
        )
    close = catalog.closest_cards(word)
    meant = f"did you mean {' or '.join(close)}? " if close else ""
    raise FileError(
        f"{word!r} is no file and no known model",
        hint=f"{meant}known are {', '.join(catalog.card_names())}; a GGUF and a "
        "config.json work too",
    )


def _open_gguf(path: Path, choice: MemoryChoice) -> ModelSpec:
    header = read_model_header(path)
    spec = models.describe(header)
    memory = _find_memory(header) if choice == "auto" else choice
    if memory is None:
        return spec
    module = engram_gguf.read_memory(read_header(memory))
    engram_gguf.require_backbone(module, read_backbone(header).fingerprint)
    return attach_memory(spec, module.spec, memory.stat().st_size)


def _find_memory(header: Header) -> Path | None:
    try:
        fingerprint = read_backbone(header).fingerprint
    except FormatError:  # of a model without a vocabulary there can be no memory
        return None
    return catalog.find_memory(header.path, fingerprint)
