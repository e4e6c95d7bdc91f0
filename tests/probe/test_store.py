"""Probes on disk: a round trip, and files that somebody else may have written."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engram_local.errors import FileError
from engram_local.probe import store
from engram_local.probe.store import (
    as_json,
    find_probe,
    find_with_drive,
    find_without_drive,
    here,
    probe_path,
    read_probe,
    save_probe,
)
from tests.probe.fakes import IDENTITY, PROBE


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """A cache folder of our own."""
    return {"XDG_CACHE_HOME": str(tmp_path / "cache")}


def test_what_is_saved_is_found(environ: dict[str, str]) -> None:
    path = save_probe(PROBE, environ)
    assert path == probe_path(IDENTITY, environ)
    assert path.is_relative_to(Path(environ["XDG_CACHE_HOME"]) / "engram-local/probe")
    assert find_probe(IDENTITY, environ) == (PROBE, None)
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_a_newer_one_takes_the_place_of_an_older(environ: dict[str, str]) -> None:
    save_probe(PROBE, environ)
    newer = replace(PROBE, date="2027-01-01", gpu=None, quick=True)
    save_probe(newer, environ)
    assert find_probe(IDENTITY, environ) == (newer, None)


@pytest.mark.parametrize(
    "other",
    [
        replace(IDENTITY, cpu="Processor 8"),
        replace(IDENTITY, ram_gib=32),
        replace(IDENTITY, gpus=()),
        replace(IDENTITY, device="/dev/y"),
        replace(IDENTITY, file_system="xfs"),
    ],
)
def test_another_computer_or_drive_has_none(
    environ: dict[str, str], other: Any
) -> None:
    path = save_probe(PROBE, environ)
    assert find_probe(other, environ) == (None, None)
    path.replace(probe_path(other, environ))  # a copied file
    probe, note = find_probe(other, environ)
    assert probe is None
    assert note is not None and "another computer" in note


def test_another_drive_of_the_computer_tells_all_but_the_drive(
    environ: dict[str, str],
) -> None:
    other = replace(IDENTITY, device="/dev/y", file_system="xfs")
    assert find_without_drive(other, environ) is None
    save_probe(PROBE, environ)
    third = replace(IDENTITY, device="/dev/z")
    newer = replace(PROBE, identity=third, date="2027-01-01", quick=True)
    save_probe(newer, environ)
    assert find_without_drive(other, environ) == replace(newer, drive=None)
    save_probe(replace(newer, date="2025-01-01"), environ)
    assert find_without_drive(other, environ) == replace(PROBE, drive=None)


@pytest.mark.parametrize(
    "other",
    [
        replace(IDENTITY, cpu="Processor 8"),
        replace(IDENTITY, ram_gib=32),
        replace(IDENTITY, gpus=()),
    ],
)
def test_another_computer_tells_nothing(environ: dict[str, str], other: Any) -> None:
    save_probe(PROBE, environ)
    assert find_without_drive(other, environ) is None


def test_a_drive_is_found_whatever_gpus_there_were(environ: dict[str, str]) -> None:
    without_gpus = replace(IDENTITY, gpus=())
    assert find_with_drive(without_gpus, environ) is None
    save_probe(PROBE, environ)
    assert find_with_drive(without_gpus, environ) == PROBE
    newer = replace(PROBE, identity=without_gpus, date="2027-01-01")
    save_probe(newer, environ)
    assert find_with_drive(IDENTITY, environ) == newer
    save_probe(replace(newer, drive=None), environ)
    assert find_with_drive(IDENTITY, environ) == PROBE
    other = replace(IDENTITY, device="/dev/y")
    assert find_with_drive(other, environ) is None


def test_unfit_files_are_passed_over(environ: dict[str, str]) -> None:
    path = save_probe(PROBE, environ)
    path.with_name("0.json").write_text("{")
    path.with_name("1.json").mkdir()
    assert find_without_drive(IDENTITY, environ) == replace(PROBE, drive=None)
    path.write_text("{}")
    assert find_without_drive(IDENTITY, environ) is None


def change(path: tuple[str | int, ...], value: object) -> Callable[[Any], None]:
    """Return what puts a value somewhere into a JSON object."""

    def apply(values: Any) -> None:
        for key in path[:-1]:
            values = values[key]
        values[path[-1]] = value

    return apply


def remove(*path: str) -> Callable[[Any], None]:
    """Return what takes something out of a JSON object."""

    def apply(values: Any) -> None:
        for key in path[:-1]:
            values = values[key]
        del values[path[-1]]

    return apply


STREAM = ("memory", "streams", 0)
FLOPS = ("cpu", "flops_per_s")


@pytest.mark.parametrize(
    "damage",
    [
        change(("schema",), 2),
        change(("schema",), True),
        change(("schema",), "1"),
        remove("schema"),
        remove("cpu"),
        remove("cpu", "types"),
        change(("more",), 1),
        change(("cpu",), []),
        change(("cpu",), 3),
        change(("date",), 20261122),
        change(("quick",), 1),
        change(("n_threads",), 2.5),
        change(("n_threads",), True),
        change(("notes",), "text"),
        change(("notes",), [1]),
        change(("packages",), {"numpy": 2}),
        change(("identity",), None),
        change((*STREAM, "bytes_per_s"), "fast"),
        change((*STREAM, "bytes_per_s"), float("nan")),
        change((*STREAM, "bytes_per_s"), float("inf")),
        change((*STREAM, "bytes_per_s"), -1.0),
        change((*STREAM, "bytes_per_s"), 0.0),
        change((*STREAM, "bytes_per_s"), None),
        change((*STREAM, "bytes_per_s"), 10**400),
        change((*STREAM, "n_threads"), -1),
        change((*FLOPS, "value"), 0),
        change((*FLOPS, "value"), True),
        change((*FLOPS, "source"), "rumour"),
        change(("cpu", "types", 0, "flops_per_s", "value"), 0.0),
        change(("host_bytes_per_s",), [{"value": 0.0, "source": "measured"}]),
        change(("memory", "streams"), []),
        change(("memory", "gathers"), []),
        change(("drive", "reads"), []),
        change(("drive", "reads", 0, "depth"), 99),
    ],
)
def test_a_file_that_is_not_as_written_is_ignored(
    environ: dict[str, str], damage: Callable[[Any], None]
) -> None:
    values = json.loads(json.dumps(as_json(PROBE)))
    damage(values)
    path = save_probe(PROBE, environ)
    path.write_text(json.dumps(values), "utf-8")
    probe, note = find_probe(IDENTITY, environ)
    assert probe is None
    assert note is not None and str(path) in note and "engram-local probe" in note


@pytest.mark.parametrize(
    "text",
    [b"", b"\xff\xfe", b"{", b"[]", b"null", b"[" * 100_000, b" " * (1 << 20)],
    ids=["empty", "no text", "cut", "list", "null", "deep", "large"],
)
def test_a_file_that_is_no_json_object_is_ignored(
    environ: dict[str, str], text: bytes
) -> None:
    save_probe(PROBE, environ).write_bytes(text)
    probe, note = find_probe(IDENTITY, environ)
    assert probe is None and note is not None


def test_whole_numbers_do_for_floats() -> None:
    values = as_json(PROBE)
    values["memory"]["streams"][0]["bytes_per_s"] = 40_000_000_000
    assert read_probe(json.dumps(values).encode()) == PROBE


def test_a_file_that_cannot_be_read_is_a_note(environ: dict[str, str]) -> None:
    probe_path(IDENTITY, environ).mkdir(parents=True)
    probe, note = find_probe(IDENTITY, environ)
    assert probe is None and note is not None and "directory" in note


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(FileError, match="cannot be written"):
        save_probe(PROBE, {"XDG_CACHE_HOME": str(tmp_path / "cache")})


def test_this_computer_is_known_by_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "drive_of", lambda path: ("/dev/z", "btrfs"))
    identity = here(tmp_path, ("Card 1", "Card 2"))
    assert (identity.device, identity.file_system) == ("/dev/z", "btrfs")
    assert identity.gpus == ("Card 1", "Card 2")
    assert identity.cpu and identity.ram_gib > 0
