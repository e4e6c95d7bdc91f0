"""A probe of a computer that does not exist."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

from engram_local.figures import Figure, Source
from engram_local.hardware import Compute, DepthRate, TypeRate
from engram_local.probe.drive_speed import DriveSpeed
from engram_local.probe.memory_speed import (
    ROW_BYTES,
    GatherRate,
    MemorySpeed,
    StreamRate,
)
from engram_local.probe.result import Identity, Probe

IDENTITY = Identity(
    cpu="Processor 9", ram_gib=64, gpus=("Card 1",), device="/dev/x", file_system="ext4"
)


def measured(value: float) -> Figure:
    """Return a number that was measured."""
    return Figure(value, Source.MEASURED)


MEMORY = MemorySpeed(
    streams=(
        StreamRate(n_threads=1, bytes_per_s=40e9),
        StreamRate(n_threads=2, bytes_per_s=70e9),
    ),
    gathers=tuple(
        GatherRate(n_threads=n, row_bytes=size, rows_per_s=n * 1e10 / size)
        for n, size in product((1, 2), ROW_BYTES)
    ),
    buffer_bytes=1 << 30,
)
DRIVE = DriveSpeed(
    reads=(
        DepthRate(depth=1, reads_per_s=measured(12_000.0), latency_s=80e-6),
        DepthRate(depth=64, reads_per_s=measured(400_000.0), latency_s=None),
    ),
    bytes_per_s=measured(2e9),
    file_bytes=1 << 30,
)
COMPUTE = Compute(
    weight_bytes_per_s=measured(36e9),
    flops_per_s=measured(450e9),
    layer_s=measured(0.0),
    attention_flops_per_s=measured(28e9),
    prompt_attention_flops_per_s=measured(90e9),
    types=(
        TypeRate(
            name="Q4_0",
            weight_bytes_per_s=measured(36e9),
            flops_per_s=measured(450e9),
        ),
        TypeRate(
            name="Q4_1",
            weight_bytes_per_s=measured(20e9),
            flops_per_s=measured(90e9),
        ),
    ),
)
PROBE = Probe(
    identity=IDENTITY,
    date="2026-11-22",
    packages={"numpy": "2.0"},
    n_threads=2,
    quick=False,
    memory=MEMORY,
    drive=DRIVE,
    cpu=COMPUTE,
    gpu=replace(COMPUTE, layer_s=None, types=()),
    notes=("the other thing was not measured: it is not there",),
)
