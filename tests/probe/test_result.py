"""What was measured takes the place of what was known before."""

from __future__ import annotations

from dataclasses import replace

from engram_local.figures import Figure, Source
from engram_local.hardware import Cpu, Drive, Gpu, Hardware, Ram
from engram_local.probe.result import apply_probe
from tests.probe.fakes import COMPUTE, DRIVE, PROBE, measured

SHEET = Figure(5e9, Source.DATASHEET)
CARD = Gpu(name="Card 1", vram_bytes=24 << 30, free_bytes=23 << 30, bytes_per_s=SHEET)
PLAIN = Hardware(
    cpu=Cpu(name="Processor 9", n_cores=2),
    ram=Ram(total_bytes=64 << 30, available_bytes=60 << 30, bytes_per_s=SHEET),
    gpus=(CARD,),
    drive=Drive(name="x", file_system="ext4", rotational=False, free_bytes=1 << 40),
    system="Linux",
)


def test_every_measurement_has_its_place() -> None:
    hardware = apply_probe(PLAIN, PROBE)
    assert hardware.cpu == replace(PLAIN.cpu, compute=COMPUTE)
    assert hardware.ram == replace(
        PLAIN.ram, bytes_per_s=measured(70e9), rows_per_s=measured(1e10 / 256)
    )
    assert hardware.gpus == (replace(CARD, compute=PROBE.gpu),)
    assert hardware.drive.reads == DRIVE.reads
    assert hardware.drive.bytes_per_s == DRIVE.bytes_per_s
    assert hardware.drive.name == "x"
    assert hardware.system == "Linux"


def test_what_was_not_measured_stays() -> None:
    nothing = replace(PROBE, memory=None, drive=None, cpu=None, gpu=None)
    assert apply_probe(PLAIN, nothing) == PLAIN


def test_a_measurement_of_two_gpus_says_nothing_of_one() -> None:
    two = replace(PLAIN, gpus=(CARD, CARD))
    assert apply_probe(two, PROBE).gpus == (CARD, CARD)


def test_copies_belong_to_one_gpu_each() -> None:
    two = replace(PLAIN, gpus=(CARD, CARD))
    probe = replace(PROBE, gpu=None, host_bytes_per_s=(measured(25e9), measured(6e9)))
    rates = [gpu.host_bytes_per_s for gpu in apply_probe(two, probe).gpus]
    assert rates == [measured(25e9), measured(6e9)]
    assert apply_probe(PLAIN, probe).gpus == (CARD,)  # of another number of GPUs
