"""Measurements by other people, as types: models, what was loaded how, what it took.

for load in load_published(Path("docs/accuracy/published.toml")): ...
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engram_local.figures import Source
from engram_local.model_spec import (
    CacheGroup,
    ModelSpec,
    Part,
    StateGroup,
    TableShape,
    Weights,
)

PUBLISHED = Path(__file__).with_name("published.toml")

_PARTS = {
    "embedding_bytes": Part.EMBEDDING,
    "experts_bytes": Part.EXPERTS,
    "table_bytes": Part.TABLE,
    "unused_bytes": Part.UNUSED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedLoad:
    """One load on GPUs: its flags, and what it took of their memory, all together.

    A term is None where it was not published, or cannot be told apart.
    """

    id: str
    model: ModelSpec
    device: str
    n_ctx: int
    n_ubatch: int
    precision_bytes: int
    """Half of the last published digit."""

    url: str
    date: str
    total_bytes: int | None = None
    """By the GPUs' own counters: more than the terms, by what the driver takes."""

    weights_bytes: int | None = None
    kv_bytes: int | None = None
    state_bytes: int | None = None
    compute_bytes: int | None = None
    n_devices: int = 1
    split: str = "none"
    """"layer": some layers on each; "tensor": a part of each layer on each."""

    n_seqs: int = 1
    unified: bool = False
    n_outputs: int | None = None
    cache_type: str = "f16"
    """Of keys, values and the indexer's keys."""

    flash_attention: bool = True
    n_expert_layers_in_ram: int = 0
    superseded: bool = False
    """Whether a later llama.cpp is known to take less; no bound has to hold then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedSpeed:
    """How fast a model ran, one sequence."""

    id: str
    model: ModelSpec
    device: str
    url: str
    date: str
    engine: str
    decode_per_s: float | None = None
    prompt_per_s: float | None = None
    n_decode: int | None = None
    """Tokens over which decode was measured."""

    n_prompt: int | None = None
    """Of the prompt that was timed, from an empty context."""

    depth: int = 0
    """Tokens in the context before decode was measured."""

    n_ubatch: int = 512
    n_cores: int = 8
    """Of the processor; 8 where it is not published."""

    n_devices: int = 1
    n_expert_layers_in_ram: int = 0
    ram_bytes_per_s: float | None = None


def load_published(path: Path = PUBLISHED) -> list[PublishedLoad]:
    """Return all loads. Raises FormatError, TypeError or KeyError if one is wrong."""
    return [PublishedLoad(**entry) for entry in _entries(path, "loads")]


def load_speeds(path: Path = PUBLISHED) -> list[PublishedSpeed]:
    """Return all speeds. Raises FormatError, TypeError or KeyError if one is wrong."""
    return [PublishedSpeed(**entry) for entry in _entries(path, "speeds")]


def _entries(path: Path, kind: str) -> list[dict[str, Any]]:
    """Return entries with their models and sources in place of the names of these."""
    document = tomllib.loads(path.read_text("utf-8"))
    models = _models(document, path)
    entries: list[dict[str, Any]] = document[kind]
    for entry in entries:
        entry["model"] = models[entry["model"]]
        entry |= document["sources"][entry.pop("source")]
    return entries


def _models(document: dict[str, Any], path: Path) -> dict[str, ModelSpec]:
    return {
        name: _model(entry, f"{path.name}: {name}")
        for name, entry in document["models"].items()
    }


def _model(entry: dict[str, Any], origin: str) -> ModelSpec:
    groups = {
        "caches": tuple(CacheGroup(**group) for group in entry["caches"]),
        "states": tuple(StateGroup(**group) for group in entry.get("states", [])),
        "tables": tuple(_table(table) for table in entry.get("tables", [])),
        "weights": (_weights(entry["weights"]),),
    }
    embedding = 0 if entry.get("tied_output") else _embedding_params(entry)
    n_active_params = entry.get("n_active_params", entry["n_params"] - embedding)
    known = {"source": Source.PUBLISHED, "origin": origin}
    return ModelSpec(**entry | groups | known | {"n_active_params": n_active_params})


def _embedding_params(entry: dict[str, Any]) -> int:
    return int(entry["vocab_size"] * entry["hidden_size"])


def _table(entry: dict[str, Any]) -> TableShape:
    return TableShape(**entry | {"orders": tuple(entry["orders"])})


def _weights(entry: dict[str, Any]) -> Weights:
    """What is in no named part is read for every token: attention, output, norms."""
    parts = {part: entry[key] for key, part in _PARTS.items() if key in entry}
    parts[Part.LAYERS] = entry["file_bytes"] - sum(parts.values())
    return Weights(
        name=entry["name"],
        file_bytes=entry["file_bytes"],
        parts=parts,
        source=Source.PUBLISHED,
    )
