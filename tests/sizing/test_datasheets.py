"""Data sheets: every number has a source and lies where hardware does; names."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from typing import Any

import pytest

from engram_local.errors import UsageError
from engram_local.figures import Source
from engram_local.sizing.datasheets import (
    find_drive,
    find_gpu,
    find_ram,
    match_gpu,
)
from engram_local.units import GIB, MIB


def data(kind: str) -> dict[str, Any]:
    """Read as an installed package would; TOML itself refuses a name twice."""
    text = (files("engram_local.sizing") / "data" / f"{kind}.toml").read_text("utf-8")
    return tomllib.loads(text)


@pytest.mark.parametrize("kind", ["gpus", "ram", "drives"])
def test_every_entry_has_a_source_and_every_source_an_entry(kind: str) -> None:
    content = data(kind)
    used = {entry["source"] for entry in content[kind].values()}
    assert used == set(content["sources"])
    assert all(url.startswith("https://") for url in content["sources"].values())


@pytest.mark.parametrize(
    ("kind", "known"),
    [
        ("gpus", "vram_gib gb_per_s fp16_tflops pcie unified also source"),
        ("ram", "mt_per_s bus_bits source"),
        ("drives", "reads gb_per_s rotational also source"),
    ],
)
def test_no_key_is_misspelt(kind: str, known: str) -> None:
    for name, entry in data(kind)[kind].items():
        assert set(entry) <= set(known.split()), name


@pytest.mark.parametrize("kind", ["gpus", "drives"])
def test_no_two_entries_have_one_name(kind: str) -> None:
    called = [
        one.lower()
        for name, entry in data(kind)[kind].items()
        for one in (name, *entry.get("also", ()))
    ]
    assert len(called) == len(set(called))


@pytest.mark.parametrize("name", data("gpus")["gpus"])
def test_a_gpu_is_one_that_could_exist(name: str) -> None:
    sheet = find_gpu(name)
    assert sheet.name == name
    assert 10e9 < sheet.bytes_per_s < 10e12
    assert sheet.flops_per_s is None or 10e12 < sheet.flops_per_s < 3e15
    assert sheet.vram_bytes is None or 8 * GIB <= sheet.vram_bytes <= 256 * GIB
    assert sheet.unified or (sheet.vram_bytes and sheet.flops_per_s)
    assert sheet.unified == (sheet.host_bytes_per_s is None)
    assert sheet.host_bytes_per_s is None or 15e9 < sheet.host_bytes_per_s < 64e9


@pytest.mark.parametrize("name", data("ram")["ram"])
def test_memory_is_as_fast_as_its_name_says(name: str) -> None:
    sheet = find_ram(name)
    assert sheet.name == name
    assert 10e9 < sheet.bytes_per_s < 1e12
    assert data("ram")["ram"][name]["mt_per_s"] == int(name.split("-")[1].split()[0])


@pytest.mark.parametrize("name", data("drives")["drives"])
def test_a_drive_reads_more_with_more_in_flight(name: str) -> None:
    sheet = find_drive(name)
    assert sheet.name == name
    depths = [rate.depth for rate in sheet.reads]
    rates = [rate.reads_per_s.value for rate in sheet.reads]
    assert depths == sorted(set(depths)) and rates == sorted(set(rates)) and rates
    assert all(50 < rate < 5e6 for rate in rates)
    assert {rate.reads_per_s.source for rate in sheet.reads} == {Source.DATASHEET}
    assert 0.1e9 < sheet.bytes_per_s < 20e9


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("4090", "GeForce RTX 4090"),
        ("rtx 4090", "GeForce RTX 4090"),
        ("RTX4090", "GeForce RTX 4090"),
        ("NVIDIA GeForce RTX 4090", "GeForce RTX 4090"),
        ("3060", "GeForce RTX 3060 12GB"),
        ("3060 ti", "GeForce RTX 3060 Ti"),
        ("4060ti 16gb", "GeForce RTX 4060 Ti 16GB"),
        ("4060 Ti 16 GiB", "GeForce RTX 4060 Ti 16GB"),
        ("4070 super", "GeForce RTX 4070 SUPER"),
        ("7900xt", "Radeon RX 7900 XT"),
        ("7900xtx", "Radeon RX 7900 XTX"),
        ("m4", "Apple M4"),
        ("m4max", "Apple M4 Max"),
        ("Strix Halo", "Radeon 8060S"),
        ("dgx spark", "GB10"),
        ("h100 sxm", "H100 SXM"),
        ("Arc A770", "Arc A770 16GB"),
        ("l40s", "L40S"),
    ],
)
def test_people_name_gpus_like_this(asked: str, name: str) -> None:
    assert find_gpu(asked).name == name


def test_what_several_are_called_is_refused_with_all_of_them() -> None:
    with pytest.raises(UsageError, match="may be H100 PCIe or H100 SXM") as caught:
        find_gpu("H100")
    assert "--vram" in (caught.value.hint or "")


def test_memory_chooses_among_cards_of_one_name() -> None:
    assert find_gpu("4060 ti", 16 * GIB).name == "GeForce RTX 4060 Ti 16GB"
    with pytest.raises(UsageError, match="may be"):
        find_gpu("4060 ti", 99 * GIB)


def test_memory_of_another_size_does_not_hide_a_card() -> None:
    """A 4090 with 48 GB is sold too; the caller takes the size that was given."""
    assert find_gpu("4090", 48 * GIB).name == "GeForce RTX 4090"


@pytest.mark.parametrize(
    ("asked", "near"),
    [
        ("RTX 4095", "GeForce RTX 4090"),
        ("RTX 4090 Laptop GPU", "GeForce RTX 4090"),
        ("RTX 5090 D", "GeForce RTX 5090"),
        ("appel m4 max", "Apple M4 Max"),
        ("", "GeForce RTX"),
        ("\x1b[2J\udcff💥", "GeForce RTX"),
        ("x" * 10_000, "GeForce RTX"),
        ("9" * 5_000 + "GB", "GeForce RTX"),
    ],
)
def test_an_unknown_gpu_is_refused_with_those_near(asked: str, near: str) -> None:
    with pytest.raises(UsageError, match="not among") as caught:
        find_gpu(asked)
    assert near in (caught.value.hint or "")
    assert "--vram" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("description", "vram_mib", "name"),
    [
        ("NVIDIA GeForce RTX 4090", 24_077, "GeForce RTX 4090"),
        ("NVIDIA GeForce RTX 4060 Ti", 16_380, "GeForce RTX 4060 Ti 16GB"),
        ("NVIDIA GeForce RTX 4060 Ti", 8_188, "GeForce RTX 4060 Ti 8GB"),
        ("NVIDIA A100-SXM4-80GB", 81_920, "A100 80GB SXM"),
        ("NVIDIA A100-PCIE-40GB", 40_960, "A100 40GB PCIe"),
        ("NVIDIA H100 80GB HBM3", 81_559, "H100 SXM"),
        ("NVIDIA H100 PCIe", 81_559, "H100 PCIe"),
        ("NVIDIA H200", 143_771, "H200"),
        ("NVIDIA RTX 6000 Ada Generation", 49_140, "RTX 6000 Ada"),
        ("AMD Radeon RX 7900 XTX (RADV NAVI31)", 24_560, "Radeon RX 7900 XTX"),
        ("Intel(R) Arc(TM) A770 Graphics (DG2)", 15_930, "Arc A770 16GB"),
        ("Apple M4 Max", 36_000, "Apple M4 Max"),
    ],
)
def test_drivers_describe_gpus_like_this(
    description: str, vram_mib: int, name: str
) -> None:
    sheet = match_gpu(description, vram_mib * MIB)
    assert sheet is not None and sheet.name == name


@pytest.mark.parametrize(
    ("description", "vram_gib"),
    [
        ("NVIDIA GeForce RTX 4090 Laptop GPU", 16),
        ("NVIDIA GeForce RTX 3060", 8),  # narrower memory than the 12 GB card
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", 10),
        ("AMD Radeon Graphics", 2),
        ("NVIDIA A100", 80),  # two of them
        ("", 8),
    ],
)
def test_no_sheet_rather_than_a_wrong_one(description: str, vram_gib: int) -> None:
    assert match_gpu(description, vram_gib * GIB) is None


@pytest.mark.parametrize(
    ("asked", "gb_per_s"),
    [
        ("DDR5-5600", 89.6),
        ("ddr4 3200", 51.2),
        ("DDR5-6000 dual channel", 96.0),
        ("DDR5-4800 12 channels", 460.8),
    ],
)
def test_memory_speed_is_rate_times_width(asked: str, gb_per_s: float) -> None:
    assert find_ram(asked).bytes_per_s == pytest.approx(gb_per_s * 1e9)


@pytest.mark.parametrize("asked", ["DDR5", "DDR9-1", "", "DDR5-56OO"])
def test_unknown_memory_is_refused(asked: str) -> None:
    with pytest.raises(UsageError) as caught:
        find_ram(asked)
    assert "--ram-gbps" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("pcie4", "PCIe 4 NVMe"),
        ("hdd", "HDD"),
        ("hard disk", "HDD"),
        ("SATA", "SATA SSD"),
    ],
)
def test_people_name_drives_like_this(asked: str, name: str) -> None:
    assert find_drive(asked).name == name


@pytest.mark.parametrize("asked", ["nvme", "tape", ""])
def test_an_unknown_drive_is_refused(asked: str) -> None:
    with pytest.raises(UsageError) as caught:
        find_drive(asked)
    assert "--disk-iops" in (caught.value.hint or "")
