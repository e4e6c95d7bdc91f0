"""A word on the command line -> a model: a GGUF, a config.json, or a card's name."""

from __future__ import annotations

from pathlib import Path

from engram_local import catalog
from engram_local.errors import FileError
from engram_local.formats import card, engram_gguf, hf_config, models
from engram_local.formats.backbone import read_backbone
from engram_local.formats.header import read_header
from engram_local.model_spec import ModelSpec
from engram_local.sizing.attached import attach_memory


def open_spec(word: str, *, memory: Path | None = None) -> ModelSpec:
    """Return the model that `word` names; nothing of its tensors is read.

    word: a GGUF (any part of a split one), a config.json or a folder with one, or the
    name of a card. memory: of this package, to attach to it. Raises FileError that
    lists what is known, FormatError for a broken file.
    """
    path = Path(word)
    if hf_config.matches(path):
        return hf_config.read_model(path)
    if path.is_file() or path.suffix == ".gguf":
        return _open_gguf(path, memory)
    found = catalog.find_card(word)
    if found is None:
        raise FileError(
            f"{word} is no file and no known model",
            hint=f"known are {', '.join(catalog.card_names())}; a GGUF and a "
            "config.json work too",
        )
    return card.read_card(found)


def open_default() -> ModelSpec:
    """Return the default model with the memory that `run` would take."""
    path = catalog.default_model()
    fingerprint = read_backbone(read_header(path)).fingerprint
    return _open_gguf(path, catalog.find_memory(path, fingerprint))


def _open_gguf(path: Path, memory: Path | None) -> ModelSpec:
    spec = models.read_model(path)
    if memory is None:
        return spec
    module = engram_gguf.read_memory(read_header(memory))
    return attach_memory(spec, module.spec, memory.stat().st_size)
