"""Folders of models as other programs fill them, in a home of the test's own."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from engram_local import catalog
from engram_local.errors import FileError
from tests.fakes import STRING, UINT16, UINT32, File, backbone_file

_VARIABLES = (
    "LLAMA_CACHE",
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "HF_HOME",
    "XDG_CACHE_HOME",
    "OLLAMA_MODELS",
)


def move_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty home; the current folder is an empty one too, nothing is shipped
    and there is no default model.
    """
    home, here = tmp_path / "home", tmp_path / "here"
    for folder in (home, here):
        folder.mkdir()
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    monkeypatch.setattr(catalog, "models_folders", list)
    monkeypatch.setattr(catalog, "default_model", _no_model)
    return home


def _no_model() -> Path:
    raise FileError("there is no default model")


def tiny_model(name: str = "tiny", **keys: int) -> File:
    """Return a model whose header is complete; `keys` are numbers of the llama keys."""
    file = backbone_file()
    file.keys["general.name"] = (STRING, name)
    numbers = {"attention.head_count": 2, "feed_forward_length": 8} | keys
    for key, number in numbers.items():
        file.keys[f"llama.{key}"] = (UINT32, number)
    return file


def put(path: Path, file: File | None = None) -> Path:
    """Write a model to a path, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return (file or tiny_model()).write(path)


def put_split(folder: Path, stem: str, n_parts: int = 2) -> list[Path]:
    """Write a model in parts, the later ones without tensors."""
    paths = []
    for number in range(n_parts):
        part = tiny_model()
        tensors = part.tensors if number == 0 else {}
        keys = part.keys | {
            "split.count": (UINT16, n_parts),
            "split.no": (UINT16, number),
        }
        name = f"{stem}-{number + 1:05d}-of-{n_parts:05d}.gguf"
        paths.append(put(folder / name, File(keys=keys, tensors=tensors)))
    return paths


def put_hugging_face(hub: Path, repository: str, name: str) -> Path:
    """Write a file as huggingface_hub does: a blob, and a link in a snapshot."""
    cache = hub / f"models--{repository.replace('/', '--')}"
    blob = put(cache / "blobs" / ("b" * 40))
    link = cache / "snapshots" / ("c" * 40) / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(os.path.relpath(blob, link.parent))
    return link


def put_ollama(store: Path, name: str, file: File | None = None) -> Path:
    """Write a model as Ollama does; name: "HOST/OWNER/MODEL/TAG". Returns the blob."""
    raw = put(store / "raw.gguf", file)
    digest = hashlib.sha256(raw.read_bytes()).hexdigest()
    blob = store / "blobs" / f"sha256-{digest}"
    blob.parent.mkdir(parents=True, exist_ok=True)
    raw.rename(blob)
    layers = [
        {"mediaType": "application/vnd.ollama.image.template", "digest": "sha256:00"},
        {
            "mediaType": "application/vnd.ollama.image.model",
            "digest": f"sha256:{digest}",
        },
    ]
    put_manifest(store, name, json.dumps({"schemaVersion": 2, "layers": layers}))
    return blob


def put_manifest(store: Path, name: str, text: str) -> Path:
    """Write a manifest of any content."""
    path = store / "manifests" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path
