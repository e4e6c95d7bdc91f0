"""Where GGUF files lie on this computer: here, and where other programs keep theirs.

Opens nothing but Ollama's manifests. Folders may be of any size, broken or hostile: the
number of entries and the depth are bounded, and no link leads round in a circle.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from engram_local import catalog
from engram_local.errors import FileError
from engram_local.formats.split import split_name
from engram_local.units import MIB, format_count

DEFAULT = "default"
FOLDER = "folder"
HUGGING_FACE = "Hugging Face"
LLAMA_CPP = "llama.cpp"
LM_STUDIO = "LM Studio"
MODELS = "./models"
OLLAMA = "Ollama"
SHIPPED = "shipped"

MOST_ENTRIES = 20_000
"""Of one folder with all below it; a Hugging Face cache has some dozens per model."""

MOST_DEPTH = 8
"""Folders in each other; the caches have four."""

_MOST_MANIFEST_BYTES = MIB  # some kilobytes
_BLOB = "sha256-"
_MODEL_LAYER = "application/vnd.ollama.image.model"
_DIGEST = re.compile("sha256:[0-9a-f]{64}")
_OLLAMA_HOST, _OLLAMA_OWNER, _OLLAMA_TAG = "registry.ollama.ai", "library", "latest"
_N_CLOSE = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """A file that may be a model; of a split one, the first part."""

    name: str
    """What `run` takes: `llama3.2:1b`, `SmolLM2-135M-Instruct.Q4_1`; a path for those
    that lie where `run` does not look."""

    path: Path
    source: str
    """One of the names above."""

    aliases: tuple[str, ...] = ()
    """Other names of the same file."""

    problem: str | None = None
    """Why it cannot be opened, after its name: "is a link to nothing"."""


def find_model_files(
    folders: Iterable[Path] = (),
    *,
    environ: Mapping[str, str] = os.environ,
    look: Callable[[Path], None] = lambda folder: None,
) -> list[ModelFile]:
    """Return all files that may be models, each once, under all its names.

    folders: looked through first. look: called with each folder before it is read; may
    raise, to end the search. Folders that cannot be read are listed with a problem,
    those that are not there are not. Some milliseconds for a hundred models.
    """
    walk = _Walk(look)
    return _each_once(_all_files(walk, folders, environ))


def find_model(named: Path) -> Path:
    """Return the file that is named by its path, or as `resolve_name` does.

    A path of several parts need not exist. Raises what `resolve_name` does.
    """
    word = str(named)
    is_name = len(named.parts) == 1 or ":" in word  # hf.co/user/model:Q4_K_M
    if not is_name or os.path.exists(named):
        return named
    return resolve_name(word, find_model_files())


def resolve_name(name: str, files: Iterable[ModelFile]) -> Path:
    """Return the one file of that name, in any case; `llama3.2` is `llama3.2:latest`.

    Raises FileError that lists the files where several have it, or else close names.
    """
    wanted = name.removesuffix(".gguf").lower()
    found = list(files)
    for spelled in (wanted, f"{wanted}:{_OLLAMA_TAG}"):
        named = [file for file in found if spelled in map(str.lower, _names(file))]
        if len(named) == 1:
            return named[0].path
        if named:
            paths = ", ".join(str(file.path) for file in named)
            raise FileError(f"{name} may be {paths}", hint="name one of these files")
    close = _closest(wanted, found)
    meant = f"did you mean {' or '.join(close)}? " if close else ""
    raise FileError(
        f"{name} is neither a file nor a model on this computer",
        hint=f"{meant}`engram-local ls` lists those that are here",
    )


def _names(file: ModelFile) -> tuple[str, ...]:
    return (file.name, *file.aliases)


def _closest(wanted: str, files: list[ModelFile]) -> list[str]:
    names = {name.lower(): name for file in files for name in _names(file)}
    longer = sorted((name for name in names if wanted in name), key=len)
    close = [*longer, *get_close_matches(wanted, names)]
    return [names[name] for name in dict.fromkeys(close)][:_N_CLOSE]


def _all_files(
    walk: _Walk, folders: Iterable[Path], environ: Mapping[str, str]
) -> Iterator[ModelFile]:
    for folder in folders:
        if not folder.is_dir():
            yield _unread(folder, FOLDER, "is no folder")
        yield from walk.models(folder, FOLDER)
    yield from walk.models(Path("models"), MODELS)
    yield from _default()
    for folder in catalog.models_folders():
        yield from walk.models(folder, SHIPPED, depth=0)
    for folder in _hub_folders(environ):
        yield from walk.models(folder, HUGGING_FACE)
    yield from walk.models(_home(".cache/llama.cpp"), LLAMA_CPP)
    for name in (".lmstudio/models", ".cache/lm-studio/models"):
        yield from walk.models(_home(name), LM_STUDIO)
    for folder in _ollama_folders(environ):
        yield from _ollama_models(folder, walk)


def _default() -> Iterator[ModelFile]:
    try:
        path = catalog.default_model()
    except FileError:  # not installed
        return
    yield _model_file(path, DEFAULT)


def _hub_folders(environ: Mapping[str, str]) -> Iterator[Path]:
    """Yield caches of llama.cpp and huggingface_hub, each of which has its own rules.

    llama.cpp takes the first variable that is set, huggingface_hub knows other ones.
    """
    for name in ("LLAMA_CACHE", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if environ.get(name):
            yield Path(environ[name]).expanduser()
    if environ.get("HF_HOME"):
        yield Path(environ["HF_HOME"]).expanduser() / "hub"
    base = environ.get("XDG_CACHE_HOME") or _home(".cache")
    yield Path(base) / "huggingface" / "hub"


def _ollama_folders(environ: Mapping[str, str]) -> Iterator[Path]:
    if environ.get("OLLAMA_MODELS"):
        yield Path(environ["OLLAMA_MODELS"]).expanduser()
    yield _home(".ollama/models")
    yield Path("/usr/share/ollama/.ollama/models")  # of its service


def _home(name: str) -> Path:
    return Path(os.path.expanduser("~")) / name  # Path.home raises where there is none


class _Walk:
    """Goes through folders, each once and not too many."""

    def __init__(self, look: Callable[[Path], None]) -> None:
        self._look = look
        self._seen: set[tuple[int, int]] = set()

    def models(
        self, folder: Path, source: str, *, depth: int = MOST_DEPTH
    ) -> Iterator[ModelFile]:
        """Yield all GGUF files below a folder; of a split model the first part."""
        parts: set[tuple[Path, str, int]] = set()
        for found in self.files(folder, source, depth=depth):
            if isinstance(found, ModelFile):
                yield found
                continue
            if found.suffix.lower() != ".gguf":
                continue
            part = split_name(found)
            if part is not None:
                key = (found.parent, part.stem, part.count)
                if key in parts:
                    continue
                parts.add(key)
            yield _model_file(found, source)

    def files(
        self, folder: Path, source: str, *, depth: int = MOST_DEPTH
    ) -> Iterator[Path | ModelFile]:
        """Yield all files below a folder, and as a ModelFile what cannot be read."""
        yield from self._below(folder, source, depth, iter(range(MOST_ENTRIES)))

    def _below(
        self, folder: Path, source: str, depth: int, budget: Iterator[int]
    ) -> Iterator[Path | ModelFile]:
        self._look(folder)
        try:
            entries = self._entries(folder, budget)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            yield _unread(folder, source, f"cannot be read: {error.strerror or error}")
            return
        if entries is None:
            what = f"has more than {format_count(MOST_ENTRIES)} entries"
            yield _unread(folder, source, f"{what}; not all were looked at")
            return
        for path, is_folder in entries:
            if not is_folder:
                yield path
            elif depth:
                yield from self._below(path, source, depth - 1, budget)

    def _entries(
        self, folder: Path, budget: Iterator[int]
    ) -> list[tuple[Path, bool]] | None:
        """Return what is in a folder, sorted; None if that is too much."""
        seen = folder.stat()
        identity = (seen.st_dev, seen.st_ino)
        if identity in self._seen:
            return []
        self._seen.add(identity)
        entries = []
        with os.scandir(folder) as found:
            for entry in found:
                if next(budget, None) is None:
                    return None
                if not entry.name.startswith("."):
                    entries.append((Path(entry.path), _is_folder(entry)))
        return sorted(entries)


def _unread(folder: Path, source: str, problem: str) -> ModelFile:
    return ModelFile(name=str(folder), path=folder, source=source, problem=problem)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _model_file(path: Path, source: str, name: str | None = None) -> ModelFile:
    if name is None:
        name = str(path) if source == FOLDER else _own_name(path)
    return ModelFile(name=name, path=path, source=source, problem=_problem(path))


def shown_name(path: Path, own_name: str) -> str:
    """Return what a loaded model is called: its file's name, as in `ls`.

    own_name: what the file says. Of many models that is no name that users know
    ("Smollm2 135M 8k Lc100K Mix1 Ep2"), but Ollama's files are named by their hashes.
    """
    return own_name if path.name.startswith(_BLOB) else _own_name(path)


def _own_name(path: Path) -> str:
    part = split_name(path)
    return part.stem if part else path.stem


def _problem(path: Path) -> str | None:
    """Return why a file cannot be opened; to open a pipe would wait forever."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return (
            "is a link to nothing"
            if path.is_symlink()
            else "is listed, but its file is missing"
        )
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    return None if stat.S_ISREG(mode) else "is no ordinary file"


def _ollama_models(store: Path, walk: _Walk) -> Iterator[ModelFile]:
    """Yield what manifests name: `manifests/HOST/OWNER/MODEL/TAG`, in JSON."""
    manifests = store / "manifests"
    for found in walk.files(manifests, OLLAMA):
        if isinstance(found, ModelFile):
            yield found
            continue
        name = _ollama_name(found.relative_to(manifests).parts)
        if name is None:
            continue
        try:
            blob = _blob_name(found)
        except (OSError, ValueError, RecursionError):
            what = "has a manifest that cannot be read"
            yield ModelFile(name=name, path=found, source=OLLAMA, problem=what)
            continue
        if blob is not None:  # else it is not a GGUF
            yield _model_file(store / "blobs" / blob, OLLAMA, name)


def _ollama_name(parts: tuple[str, ...]) -> str | None:
    """Return the name that Ollama shows: without its own host and owner."""
    if len(parts) < 3:
        return None
    *folders, model, tag = parts
    if folders[0] == _OLLAMA_HOST:
        folders = folders[1:]
        if folders == [_OLLAMA_OWNER]:
            folders = []
    return "/".join([*folders, f"{model}:{tag}"])


def _blob_name(manifest: Path) -> str | None:
    """Return the file with the weights; None if none is listed.

    Raises OSError, ValueError or RecursionError for a manifest that is none.
    """
    if _problem(manifest):
        raise ValueError("no ordinary file")
    with open(manifest, "rb") as file:
        content = file.read(_MOST_MANIFEST_BYTES + 1)
    if len(content) > _MOST_MANIFEST_BYTES:
        raise ValueError("too long")
    layer = next(filter(_is_model, _layers(json.loads(content))), None)
    if layer is None:
        return None
    digest = layer.get("digest")
    # Nothing but a digest: the name of a file may lead out of the folder.
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise ValueError("no digest")
    return digest.replace(":", "-")


def _layers(manifest: Any) -> list[Any]:
    layers = manifest.get("layers") if isinstance(manifest, dict) else None
    if not isinstance(layers, list):
        raise ValueError("no layers")
    return layers


def _is_model(layer: Any) -> bool:
    return isinstance(layer, dict) and layer.get("mediaType") == _MODEL_LAYER


def _each_once(files: Iterable[ModelFile]) -> list[ModelFile]:
    """Return the files without those that are another one under a second name."""
    found: dict[object, ModelFile] = {}
    for file in files:
        key = _identity(file.path)
        first = found.get(key)
        if first is None:
            found[key] = file
        elif file.name not in _names(first):
            found[key] = replace(first, aliases=(*first.aliases, file.name))
    return list(found.values())


def _identity(path: Path) -> object:
    try:
        seen = path.stat()
    except OSError:
        return path
    return seen.st_dev, seen.st_ino
