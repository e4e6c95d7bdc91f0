"""The models and memories on this computer, by their headers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from engram_local import catalog
from engram_local.errors import EngramError, FileError
from engram_local.events import Progress
from engram_local.formats import engram_gguf, models
from engram_local.formats.architectures import UNCACHED
from engram_local.formats.backbone import read_backbone
from engram_local.formats.header import Header
from engram_local.formats.native import read_native
from engram_local.formats.split import read_model_header
from engram_local.model_files import FOLDER, ModelFile, find_model_files
from engram_local.model_spec import ModelSpec, Part
from engram_local.units import MIB, format_bytes

MAX_HEADER_BYTES = 64 * MIB
"""Of a file that is listed: a list must not wait for a hostile one. The vocabulary of a
million tokens takes 40 MB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalModel:
    """A model, or a memory, and what its header says of it."""

    name: str
    """What `run` takes; a path for those that lie where it does not look."""

    path: Path
    """Of a split model, the first part."""

    source: str
    """Whose folder it lies in: "./models", "Hugging Face", "Ollama" ..."""

    aliases: tuple[str, ...] = ()
    """Other names of the same file."""

    file_bytes: int = 0
    """Of all parts; 0 where it is not known."""

    is_memory: bool = False
    """Whether it is a memory to be attached to a model."""

    architecture: str = ""
    n_params: int = 0
    quant: str = ""
    """Of the weights, or of a memory's rows."""

    context_length: int = 0
    """Tokens, as trained."""

    table_bytes: int | None = None
    """Of a table of its own; None without one."""

    memories: tuple[Path, ...] = ()
    """Memories that `run` would find for it."""

    problem: str | None = None
    """Why it cannot be run, after its name: "is not a GGUF file: it is empty"."""

    @property
    def memory_words(self) -> str:
        """What it has of n-gram memory, in a few words; empty without one."""
        if self.is_memory:
            return f"is one, {format_bytes(self.table_bytes or 0)}"
        if self.table_bytes is not None:
            return f"its own, {format_bytes(self.table_bytes)}"
        return ", ".join(path.stem for path in self.memories)


def find_models(
    folders: Iterable[Path] = (), *, progress: Progress = lambda what, part: None
) -> Iterator[LocalModel]:
    """Yield the models and memories on this computer, each once, as they are found.

    folders: looked through first, before those of model_files.py. What cannot be read
    or run is there with its problem; what is no model (vision projectors, LoRA
    adapters, vocabularies) is not. Some milliseconds for each file, 0.1 s for those
    with 150,000 tokens. Closing the generator ends the search, an error that `progress`
    raises too. One thread at a time.
    """
    files = find_model_files(folders, look=lambda _: progress("looking for models", 0))
    for n_done, file in enumerate(files):
        progress("reading headers", n_done / len(files))
        model = read_local_model(file)
        if model is not None:
            yield model


def read_local_model(file: ModelFile) -> LocalModel | None:
    """Return what the header of a file says; None if it is neither model nor memory."""
    if file.problem is not None:
        return _broken(file, file.problem)
    try:
        header = read_model_header(file.path, MAX_HEADER_BYTES)
        if engram_gguf.matches(header):
            return _memory(file, header)
        return _model(file, header) if _is_model(header) else None
    except EngramError as error:
        return _broken(file, _without_path(error.message, file.path))


def require_model(path: Path) -> None:
    """Raise FileError if a file is no model, as far as its header tells.

    To be asked before a model that works is given up for it.
    """
    if not path.exists():
        raise FileError(f"{path} does not exist", hint="check the path")
    model = read_local_model(ModelFile(name=path.name, path=path, source=FOLDER))
    if model is None:
        raise FileError(f"{path} is no model")
    if model.is_memory:
        raise FileError(f"{path} is a memory", hint="it is added to a model")
    if model.problem is not None:
        raise FileError(f"{path} {model.problem}")


def _is_model(header: Header) -> bool:
    """Return whether it has weights to run: else it is a projector, a vocabulary ..."""
    kind = header.metadata.get("general.type", "model")
    architecture = header.metadata.get("general.architecture")
    return kind == "model" and architecture != "clip" and bool(header.tensors)


def _model(file: ModelFile, header: Header) -> LocalModel:
    spec = models.describe(header)
    weights = spec.weights[0]
    return LocalModel(
        name=file.name,
        aliases=file.aliases,
        path=file.path,
        source=file.source,
        file_bytes=header.file_bytes,
        architecture=spec.architecture,
        n_params=spec.n_params,
        quant=weights.name,
        context_length=spec.context_length,
        table_bytes=weights.part(Part.TABLE) or None,
        memories=_memories(header),
        problem=_problem(file, header, spec),
    )


def _memory(file: ModelFile, header: Header) -> LocalModel:
    spec = engram_gguf.read_memory(header).spec
    kinds = dict.fromkeys(layer.table.row_type.value for layer in spec.layers)
    return LocalModel(
        name=file.name,
        aliases=file.aliases,
        path=file.path,
        source=file.source,
        file_bytes=header.file_bytes,
        is_memory=True,
        architecture=header.architecture,
        n_params=sum(layer.table.n_rows * layer.table.width for layer in spec.layers),
        quant=", ".join(kinds).upper(),
        table_bytes=spec.table_bytes,
    )


def _memories(header: Header) -> tuple[Path, ...]:
    """Return the memories of a model without a table of its own."""
    try:
        if read_native(header) is not None:
            return ()
        fingerprint = read_backbone(header).fingerprint
    except EngramError:  # `_problem` tells
        return ()
    return tuple(catalog.find_memories(header.path, fingerprint))


def _problem(file: ModelFile, header: Header, spec: ModelSpec) -> str | None:
    """Return why `run` would refuse the model, as far as its header tells."""
    if not spec.runs_here:
        return f"has the architecture {spec.architecture}, unknown to this llama.cpp"
    if spec.architecture in UNCACHED:
        return f"writes no text token by token: {spec.architecture}"
    try:
        read_backbone(header)
        read_native(header)
    except EngramError as error:
        return _without_path(error.message, file.path)
    return None


def _broken(file: ModelFile, problem: str) -> LocalModel:
    try:
        file_bytes = file.path.stat().st_size if file.path.is_file() else 0
    except OSError:
        file_bytes = 0
    return LocalModel(
        name=file.name,
        aliases=file.aliases,
        path=file.path,
        source=file.source,
        file_bytes=file_bytes,
        problem=problem,
    )


def _without_path(message: str, path: Path) -> str:
    return message.removeprefix(str(path)).lstrip(": ")
