"""Probes on disk: one JSON file per computer and drive, in the user's cache folder.

What is read back is not trusted: whatever is not as it was written, in type or range,
makes the file be ignored.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import types
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, fields, is_dataclass, replace
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import psutil

from engram_local.bench import machine
from engram_local.errors import FileError
from engram_local.probe.drive_speed import drive_of
from engram_local.probe.memory_speed import ROW_BYTES
from engram_local.probe.result import Identity, Probe
from engram_local.scratch_files import replaced_at_end
from engram_local.units import GIB, MIB

SCHEMA = 1
_MAX_BYTES = MIB // 4
"""A probe takes 4 KiB."""

_AGAIN = "measure again with `engram-local probe`"


def here(path: Path, gpus: tuple[str, ...] = ()) -> Identity:
    """Return what a probe of this computer is found by.

    path: a file or folder on the drive in question. gpus: their names.
    """
    device, file_system = drive_of(path)
    return Identity(
        cpu=machine.look().cpu,
        ram_gib=round(psutil.virtual_memory().total / GIB),
        gpus=gpus,
        device=device,
        file_system=file_system,
    )


def probe_path(identity: Identity, environ: Mapping[str, str] = os.environ) -> Path:
    """Return where the probe of a computer lies, whether there is one or not."""
    base = environ.get("XDG_CACHE_HOME")
    folder = Path(base) if base else Path.home() / ".cache"
    text = json.dumps(asdict(identity), sort_keys=True)
    name = hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]
    return folder / "engram-local" / "probe" / f"{name}.json"


def as_json(probe: Probe) -> dict[str, Any]:
    """Return all of it, as it is stored."""
    return {"schema": SCHEMA, **asdict(probe)}


def save_probe(probe: Probe, environ: Mapping[str, str] = os.environ) -> Path:
    """Write a probe in place of an older one; raise FileError if that fails.

    Whoever reads at the same time sees the old one or the new one.
    """
    path = probe_path(probe.identity, environ)
    text = json.dumps(as_json(probe), indent=2, allow_nan=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced_at_end(path) as written:
            written.write_text(text + "\n", "utf-8")
    except OSError as error:
        raise FileError(f"{path} cannot be written: {error.strerror}") from error
    return path


def find_probe(
    identity: Identity, environ: Mapping[str, str] = os.environ
) -> tuple[Probe | None, str | None]:
    """Return the probe of a computer, and a sentence if one was found but is unfit."""
    path = probe_path(identity, environ)
    try:
        probe = _read_file(path)
    except FileNotFoundError:
        return None, None
    except OSError as error:
        return None, f"{path} was ignored: {error.strerror}"
    except ValueError as error:
        return None, f"{path} was ignored: {error}; {_AGAIN}"
    if probe.identity != identity:
        return None, f"{path} was ignored: it is of another computer; {_AGAIN}"
    return probe, None


def find_without_drive(
    identity: Identity, environ: Mapping[str, str] = os.environ
) -> Probe | None:
    """Return the newest probe of this computer with any drive, less the drive's rates.

    None where there is none; files that are unfit are passed over.
    """
    newest = _newest(
        probe
        for probe in _stored(identity, environ)
        if _computer(probe.identity) == _computer(identity)
    )
    return newest and replace(newest, drive=None)


def find_with_drive(
    identity: Identity, environ: Mapping[str, str] = os.environ
) -> Probe | None:
    """Return the newest probe that measured the drive, whatever GPUs there were.

    For who only asks about the drive and need not look at GPUs. None where there is
    none; files that are unfit are passed over.
    """
    return _newest(
        probe
        for probe in _stored(identity, environ)
        if probe.drive and replace(probe.identity, gpus=identity.gpus) == identity
    )


def _stored(identity: Identity, environ: Mapping[str, str]) -> Iterator[Probe]:
    for path in probe_path(identity, environ).parent.glob("*.json"):
        with suppress(OSError, ValueError):
            yield _read_file(path)


def _newest(probes: Iterable[Probe]) -> Probe | None:
    return max(probes, key=lambda probe: probe.date, default=None)


def _computer(identity: Identity) -> Identity:
    return replace(identity, device="", file_system="")


def _read_file(path: Path) -> Probe:
    with open(path, "rb") as file:
        return read_probe(file.read(_MAX_BYTES + 1))


def read_probe(text: bytes) -> Probe:
    """Return a stored probe; raise ValueError with a reason if it is not as written."""
    if len(text) > _MAX_BYTES:
        raise ValueError("it is too large")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("it is no JSON") from None
    if not isinstance(values, dict):
        raise ValueError("it is no JSON object")
    schema = values.pop("schema", None)
    if schema != SCHEMA or isinstance(schema, bool):
        raise ValueError(f"its schema is {schema!r}, this version reads {SCHEMA}")
    probe: Probe = _read(Probe, values, "probe")
    _check(probe)
    return probe


def _check(probe: Probe) -> None:
    """Raise ValueError where what others rely on is missing."""
    memory, drive = probe.memory, probe.drive
    if memory is not None:
        rows = {gather.row_bytes for gather in memory.gathers if gather.n_threads == 1}
        if not memory.streams or rows != set(ROW_BYTES):
            raise ValueError("rates of RAM are missing")
    if drive is not None:
        depths = [rate.depth for rate in drive.reads]
        if not depths or depths != sorted(set(depths)):
            raise ValueError("its depths are not in order")


def _read(kind: Any, value: Any, name: str) -> Any:
    """Return a JSON value as a type: dataclasses, tuples, dicts and what they hold."""
    if get_origin(kind) is types.UnionType:  # X | None
        return None if value is None else _read(get_args(kind)[0], value, name)
    if get_origin(kind) is tuple and isinstance(value, list):
        return tuple(_read(get_args(kind)[0], item, name) for item in value)
    if get_origin(kind) is dict and isinstance(value, dict):
        return {str(key): _read(str, item, name) for key, item in value.items()}
    if is_dataclass(kind) and isinstance(value, dict):
        return _read_fields(kind, value, name)
    return _read_scalar(kind, value, name)


def _read_fields(kind: Any, values: dict[str, Any], name: str) -> Any:
    hints = _hints(kind)
    if set(values) != set(hints):
        raise ValueError(f"{name} has other fields than it should")
    # A figure is named by what holds it: "weight_bytes_per_s".
    return kind(
        **{
            key: _read(hint, values[key], name if key == "value" else key)
            for key, hint in hints.items()
        }
    )


def _read_scalar(kind: Any, value: Any, name: str) -> Any:
    if kind is float and type(value) is int and value < 2**63:
        value = float(value)
    if isinstance(kind, type) and issubclass(kind, StrEnum) and isinstance(value, str):
        return kind(value)  # a ValueError of its own
    if type(value) is not kind:
        raise ValueError(f"{name} is {type(value).__name__}")
    if kind in (int, float) and not 0 <= value < math.inf:
        raise ValueError(f"{name} is {value}")
    if not value and kind is not bool and _is_divisor(name):
        raise ValueError(f"{name} is {value}")
    return value


def _is_divisor(name: str) -> bool:
    return name.endswith("_per_s")


@cache
def _hints(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}
