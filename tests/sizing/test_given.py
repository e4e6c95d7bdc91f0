"""A computer that is described by flags."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engram_local.errors import UsageError
from engram_local.figures import Figure, Source
from engram_local.hardware import Compute, Cpu, DepthRate, Drive, Gpu, Hardware, Ram
from engram_local.sizing.given import Given, apply
from engram_local.units import GIB

MEASURED = Figure(20e9, Source.MEASURED)
HERE = Hardware(
    cpu=Cpu(name="Z80", n_cores=2),
    ram=Ram(
        total_bytes=16 * GIB,
        available_bytes=9 * GIB,
        bytes_per_s=MEASURED,
        rows_per_s=MEASURED,
    ),
    gpus=(Gpu(name="Voodoo", vram_bytes=4 * GIB, free_bytes=3 * GIB),),
    drive=Drive(
        name="floppy",
        file_system="fat",
        rotational=True,
        free_bytes=7,
        reads=(DepthRate(depth=1, reads_per_s=MEASURED),),
        bytes_per_s=MEASURED,
    ),
    system="CP/M",
    notes=("GPU: old", "RAM: slow", "drive: spins"),
)
NO_GPU = replace(HERE, gpus=())


def test_nothing_given_changes_nothing() -> None:
    assert apply(HERE, Given()) == HERE


def test_a_named_gpu_replaces_all_that_are_here() -> None:
    hardware = apply(HERE, Given(gpus=("4090",)))
    (gpu,) = hardware.gpus
    assert gpu.name == "GeForce RTX 4090"
    assert gpu.vram_bytes == gpu.free_bytes == 24 * GIB
    assert gpu.bytes_per_s == Figure(1008e9, Source.DATASHEET)
    assert gpu.compute.flops_per_s == Figure(165.2e12, Source.DATASHEET)
    assert gpu.host_bytes_per_s == Figure(16 * 1.969e9, Source.DATASHEET)
    # What lies on this computer's drive says nothing of another one's.
    drive = replace(HERE.drive, free_bytes=None)
    assert (hardware.ram, hardware.drive, hardware.cpu) == (HERE.ram, drive, HERE.cpu)


def test_cores_describe_a_processor_of_unknown_speed() -> None:
    hardware = apply(HERE, Given(n_cores=16))
    assert hardware.cpu.n_cores == 16
    assert hardware.cpu.compute == Compute()
    with pytest.raises(UsageError, match="1 to 1024"):
        Given(n_cores=0)


@pytest.mark.parametrize(
    ("texts", "n"),
    [
        (("2x RTX 3090",), 2),
        (("2xRTX 3090",), 2),
        (("2 X 3090",), 2),
        (("1x3090",), 1),
        (("3090", "RTX 3090"), 2),
        (("3x 3090", " 3090 "), 4),
        (("16x 3090",), 16),
    ],
)
def test_several_gpus(texts: tuple[str, ...], n: int) -> None:
    gpus = apply(HERE, Given(gpus=texts)).gpus
    assert [gpu.name for gpu in gpus] == ["GeForce RTX 3090"] * n


def test_a_count_is_not_read_out_of_a_name() -> None:
    (gpu,) = apply(HERE, Given(gpus=("7900XTX",))).gpus
    assert gpu.name == "Radeon RX 7900 XTX"


@pytest.mark.parametrize("text", ["0x 3090", "17x 3090", "99x 3090", "8x 3090|9x 3090"])
def test_so_many_gpus_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="16"):
        apply(HERE, Given(gpus=tuple(text.split("|"))))


@pytest.mark.parametrize("text", ["none", " None "])
def test_without_a_gpu(text: str) -> None:
    hardware = apply(HERE, Given(gpus=(text,)))
    assert hardware.gpus == apply(NO_GPU, Given(gpus=(text,))).gpus == ()
    for computer in (HERE, NO_GPU):
        notes = apply(computer, Given(gpus=(text,))).notes
        assert notes[-1].startswith("described: GPU;")


def test_none_and_another_contradict() -> None:
    with pytest.raises(UsageError, match="none"):
        apply(HERE, Given(gpus=("none", "4090")))
    with pytest.raises(UsageError, match="none"):
        apply(HERE, Given(gpus=("none",), vram_bytes=24 * GIB))


def test_an_unknown_gpu_is_refused() -> None:
    with pytest.raises(UsageError, match="'2 potatoes' is not"):
        apply(HERE, Given(gpus=("2 potatoes",)))


def test_vram_is_of_each_gpu() -> None:
    gpus = apply(HERE, Given(gpus=("2x 4090",), vram_bytes=48 * GIB)).gpus
    assert [gpu.vram_bytes for gpu in gpus] == [48 * GIB] * 2


def test_vram_alone_resizes_the_gpu_that_is_here() -> None:
    (gpu,) = apply(HERE, Given(vram_bytes=24 * GIB)).gpus
    assert (gpu.name, gpu.vram_bytes, gpu.free_bytes) == ("Voodoo", 24 * GIB, 24 * GIB)


def test_vram_alone_makes_a_gpu_of_unknown_speed() -> None:
    (gpu,) = apply(NO_GPU, Given(vram_bytes=24 * GIB)).gpus
    assert gpu.name == "a GPU with 24.0 GiB"
    assert gpu.bytes_per_s is gpu.compute.flops_per_s is None


def test_ram_keeps_its_speed_and_its_kind_brings_one() -> None:
    ram = apply(HERE, Given(ram_bytes=64 * GIB)).ram
    assert (ram.total_bytes, ram.available_bytes) == (64 * GIB, 64 * GIB)
    assert ram.bytes_per_s == ram.rows_per_s == MEASURED
    ram = apply(HERE, Given(ram_kind="DDR5-5600")).ram
    assert ram.total_bytes == 16 * GIB
    assert ram.bytes_per_s == Figure(89.6e9, Source.DATASHEET)
    assert ram.rows_per_s is None


def test_a_given_speed_wins() -> None:
    given = Given(ram_kind="DDR5-5600", ram_bytes_per_s=70e9)
    assert apply(HERE, given).ram.bytes_per_s == Figure(70e9, Source.GIVEN)
    given = Given(disk_kind="HDD", disk_reads_per_s=60_000, disk_bytes_per_s=3e9)
    drive = apply(HERE, given).drive
    rates = [rate.reads_per_s for rate in drive.reads]
    assert rates == [Figure(60_000, Source.GIVEN)]
    assert drive.bytes_per_s == Figure(3e9, Source.GIVEN)
    assert drive.name == "HDD"


def test_a_kind_of_drive_replaces_the_drive() -> None:
    drive = apply(HERE, Given(disk_kind="PCIe 4 NVMe")).drive
    assert (drive.name, drive.rotational) == ("PCIe 4 NVMe", False)
    assert drive.file_system is drive.free_bytes is None
    assert drive.bytes_per_s == Figure(7.45e9, Source.DATASHEET)


def test_a_given_rate_is_of_the_drive_that_is_here() -> None:
    drive = apply(HERE, Given(disk_reads_per_s=60_000)).drive
    assert drive.name == "floppy" and drive.bytes_per_s == MEASURED
    assert [rate.reads_per_s for rate in drive.reads] == [Figure(60_000, Source.GIVEN)]


def test_a_unified_gpu_brings_its_memory() -> None:
    hardware = apply(HERE, Given(gpus=("DGX Spark",)))
    assert hardware.gpus[0].unified
    assert hardware.gpus[0].vram_bytes == hardware.ram.total_bytes == 128 * GIB
    assert hardware.ram.bytes_per_s == Figure(273e9, Source.DATASHEET)
    assert hardware.ram.rows_per_s is None


def test_a_unified_gpu_of_several_sizes_asks_which() -> None:
    with pytest.raises(UsageError, match="several sizes") as caught:
        apply(HERE, Given(gpus=("M4 Max",)))
    assert "--ram" in (caught.value.hint or "")
    hardware = apply(HERE, Given(gpus=("M4 Max",), ram_bytes=64 * GIB))
    assert hardware.gpus[0].vram_bytes == hardware.ram.total_bytes == 64 * GIB
    given = Given(gpus=("M4 Max",), ram_bytes=64 * GIB, vram_bytes=48 * GIB)
    assert apply(HERE, given).gpus[0].vram_bytes == 48 * GIB
    with pytest.raises(UsageError, match=r"96\.0 GiB, more than .* 64\.0 GiB"):
        apply(HERE, replace(given, vram_bytes=96 * GIB))


def test_notes_say_what_was_described() -> None:
    notes = apply(HERE, Given(gpus=("4090",), ram_bytes=64 * GIB)).notes
    assert notes == (
        "drive: spins",
        "described: GPU, RAM; of this computer: processor, drive",
    )


@pytest.mark.parametrize(
    "flags",
    [
        {"vram_bytes": 0},
        {"vram_bytes": -GIB},
        {"vram_bytes": 2**60},
        {"ram_bytes": 1},
        {"ram_bytes": 2**60},
        {"ram_bytes_per_s": 0.0},
        {"ram_bytes_per_s": -5e9},
        {"ram_bytes_per_s": float("nan")},
        {"ram_bytes_per_s": float("inf")},
        {"disk_reads_per_s": 0.0},
        {"disk_reads_per_s": 1e12},
        {"disk_bytes_per_s": -1.0},
        {"disk_bytes_per_s": float("nan")},
    ],
)
def test_what_cannot_be_is_refused_with_what_can(flags: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=r"^--\S+ is .* are possible"):
        Given(**flags)  # type: ignore[arg-type]


@pytest.mark.parametrize(("n_gib", "free_gib"), [(24, 16), (32, 64 / 3), (64, 48)])
def test_macos_keeps_a_part_of_the_memory_from_the_gpu(
    n_gib: int, free_gib: float
) -> None:
    (gpu,) = apply(HERE, Given(gpus=("M4 Max",), ram_bytes=n_gib * GIB)).gpus
    assert gpu.vram_bytes == n_gib * GIB
    assert gpu.free_bytes == int(free_gib * GIB)
    wired = Given(gpus=("M4 Max",), ram_bytes=n_gib * GIB, vram_bytes=20 * GIB)
    assert apply(HERE, wired).gpus[0].free_bytes == 20 * GIB
