"""What makers specify of GPUs, system memory and drives; the numbers lie in data/."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from engram_local.errors import UsageError
from engram_local.figures import Figure, Source
from engram_local.hardware import DepthRate
from engram_local.sizing.names import best_matches, closest
from engram_local.units import GIB

# Bytes per second and lane after line coding: 8, 16 and 32 GT/s, 128 of 130 bits.
_LANE_BYTES_PER_S = {3: 0.985e9, 4: 1.969e9, 5: 3.938e9}
_N_EXAMPLES = 5
_SAME_SIZE = 0.12  # drivers keep up to a tenth of the memory that is on the box


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuSheet:
    """A GPU. Rates are peaks that no program reaches."""

    name: str
    vram_bytes: int | None
    """None: sold with several sizes; then it is unified."""

    bytes_per_s: float
    flops_per_s: float | None
    """fp16 matrix products with fp32 sums, dense."""

    host_bytes_per_s: float | None
    """Of the card's PCIe lanes; a slot may have fewer. None: no PCIe."""

    unified: bool
    """Whether its memory is the system's RAM."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RamSheet:
    """A kind of system memory with its channels."""

    name: str
    bytes_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DriveSheet:
    """A kind of drive."""

    name: str
    reads: tuple[DepthRate, ...]
    bytes_per_s: float
    rotational: bool


def find_gpu(name: str, vram_bytes: int | None = None) -> GpuSheet:
    """Return the sheet of a GPU that may be called "4090" or "NVIDIA RTX 4090".

    vram_bytes: chooses among cards of one name. Raises UsageError for a name that is
    not known, or that several have.
    """
    names = best_matches(name, _calls("gpus"))
    if len(names) > 1 and vram_bytes is not None:
        names = [one for one in names if _is_size(_gpus()[one], vram_bytes)] or names
    return _gpus()[_only(name, names, "gpus", "or describe it with --vram 24G alone")]


def match_gpu(description: str, vram_bytes: int) -> GpuSheet | None:
    """Return the sheet of a GPU as its driver describes it; None where none fits.

    A laptop's version of a card has another sheet than the card, and none here.
    """
    sheets = [_gpus()[name] for name in best_matches(description, _calls("gpus"))]
    sheets = [sheet for sheet in sheets if _is_size(sheet, vram_bytes)]
    return sheets[0] if len(sheets) == 1 else None


def gpu_names() -> list[str]:
    """Return the names of all GPUs with a sheet."""
    return list(_calls("gpus"))


def find_ram(name: str) -> RamSheet:
    """Return a kind of memory: "DDR5-5600" has two channels. Raises UsageError."""
    names = best_matches(name, _calls("ram"))
    return _ram()[_only(name, names, "ram", "or give its speed with --ram-gbps")]


def find_drive(name: str) -> DriveSheet:
    """Return a kind of drive: "PCIe 4 NVMe". Raises UsageError."""
    names = best_matches(name, _calls("drives"))
    hint = "or give its speed with --disk-iops and --disk-gbps"
    return _drives()[_only(name, names, "drives", hint)]


def _only(asked: str, names: list[str], kind: str, way_out: str) -> str:
    """Return the one name that was found; raise UsageError for none or several."""
    if len(names) == 1:
        return names[0]
    if names:
        raise UsageError(
            f"{asked!r} may be {_listed(names)}", hint=f"name one of them, {way_out}"
        )
    near = closest(asked, _calls(kind)) or list(_calls(kind))[:_N_EXAMPLES]
    raise UsageError(
        f"{asked!r} is not among the data sheets",
        hint=f"names look like {_listed(near)}; choose one, {way_out}",
    )


def _listed(names: Sequence[str]) -> str:
    return " or ".join((", ".join(names[:-1]), names[-1])) if names[1:] else names[0]


def _is_size(sheet: GpuSheet, vram_bytes: int) -> bool:
    size = sheet.vram_bytes
    return size is None or abs(vram_bytes - size) < _SAME_SIZE * size


@cache
def _data(kind: str) -> dict[str, Any]:
    text = (files("engram_local.sizing") / "data" / f"{kind}.toml").read_text("utf-8")
    return dict(tomllib.loads(text)[kind])


@cache
def _calls(kind: str) -> Mapping[str, Sequence[str]]:
    return {name: (name, *entry.get("also", ())) for name, entry in _data(kind).items()}


@cache
def _gpus() -> dict[str, GpuSheet]:
    return {name: _gpu(name, entry) for name, entry in _data("gpus").items()}


def _gpu(name: str, entry: dict[str, Any]) -> GpuSheet:
    vram_gib, tflops = entry.get("vram_gib"), entry.get("fp16_tflops")
    generation, n_lanes = entry.get("pcie", (None, 0))
    return GpuSheet(
        name=name,
        vram_bytes=vram_gib and vram_gib * GIB,
        bytes_per_s=entry["gb_per_s"] * 1e9,
        flops_per_s=tflops and tflops * 1e12,
        host_bytes_per_s=generation and n_lanes * _LANE_BYTES_PER_S[generation],
        unified=entry.get("unified", False),
    )


@cache
def _ram() -> dict[str, RamSheet]:
    return {
        name: RamSheet(
            name=name,
            bytes_per_s=entry["mt_per_s"] * 1e6 * entry["bus_bits"] / 8,
        )
        for name, entry in _data("ram").items()
    }


@cache
def _drives() -> dict[str, DriveSheet]:
    return {name: _drive(name, entry) for name, entry in _data("drives").items()}


def _drive(name: str, entry: dict[str, Any]) -> DriveSheet:
    rates = sorted((int(depth), rate) for depth, rate in entry["reads"].items())
    return DriveSheet(
        name=name,
        reads=tuple(
            DepthRate(depth=depth, reads_per_s=Figure(rate, Source.DATASHEET))
            for depth, rate in rates
        ),
        bytes_per_s=entry["gb_per_s"] * 1e9,
        rotational=entry["rotational"],
    )
