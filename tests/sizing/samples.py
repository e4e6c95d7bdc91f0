"""Models, computers and reports for tests: made by hand, of plausible sizes."""

from __future__ import annotations

from dataclasses import replace

from engram_local.figures import Figure, Source
from engram_local.hardware import (
    Compute,
    Cpu,
    DepthRate,
    Drive,
    Gpu,
    Hardware,
    Ram,
)
from engram_local.model_spec import (
    CacheGroup,
    ModelSpec,
    Part,
    StateGroup,
    TableShape,
    Weights,
)
from engram_local.sizing.report import Report, report_model
from engram_local.sizing.request import Request
from engram_local.units import GIB, MIB

_TABLE_ROWS = 320_001_536
_ROW_BYTES = 90


def _moe_weights(name: str, layers_gib: int, experts_gib: int) -> Weights:
    parts = {
        Part.LAYERS: layers_gib * GIB,
        Part.EXPERTS: experts_gib * GIB,
        Part.EMBEDDING: GIB // 2,
        Part.OUTPUT: GIB // 2,
        Part.TABLE: _TABLE_ROWS * _ROW_BYTES,
    }
    return Weights(
        name=name,
        file_bytes=sum(parts.values()),
        parts=parts,
        source=Source.PUBLISHED,
        table_row_bytes=_ROW_BYTES,
    )


MOE = ModelSpec(
    name="Sparse-176B",
    architecture="qwen4exp",
    source=Source.PUBLISHED,
    origin="Sparse-176B",
    n_params=176_000_000_000,
    n_active_params=6_000_000_000,
    context_length=262_144,
    vocab_size=248_320,
    hidden_size=2560,
    n_layers=48,
    n_heads=16,
    ffn_size=6400,
    caches=(
        CacheGroup(kind="attention", n_layers=12, key_size=512, value_size=512),
        CacheGroup(kind="indexer", n_layers=12, key_size=128, value_size=0),
    ),
    states=(StateGroup(n_layers=36, n_bytes=2_195_456),),
    tables=(
        TableShape(
            layer_id=1,
            n_rows=_TABLE_ROWS,
            width=160,
            rows_per_token=16,
            orders=(2, 3),
            n_heads=8,
        ),
    ),
    weights=(_moe_weights("Q2_0", 3, 32), _moe_weights("Q4_K", 4, 63)),
    n_experts=512,
    n_experts_used=10,
    repository="maker/Sparse-176B",
    notes=("The maker measured its rows on other hardware.",),
    urls={"sizes": "https://example.org/sizes"},
)
"""Experts, linear attention and an n-gram table that llama.cpp reads."""


DENSE = ModelSpec(
    name="Dense-8B",
    architecture="llama",
    source=Source.EXACT,
    origin="/models/dense-8b-q4_k_m.gguf",
    n_params=8_030_000_000,
    n_active_params=7_500_000_000,
    context_length=131_072,
    vocab_size=128_256,
    hidden_size=4096,
    n_layers=32,
    n_heads=32,
    ffn_size=14_336,
    caches=(CacheGroup(kind="attention", n_layers=32, key_size=1024, value_size=1024),),
    weights=(
        Weights(
            name="Q4_K_M",
            file_bytes=4_920_000_000,
            parts={
                Part.EMBEDDING: 295_000_000,
                Part.OUTPUT: 430_000_000,
                Part.LAYERS: 4_190_000_000,
            },
            source=Source.EXACT,
        ),
    ),
)
"""A plain model in a file."""


SMALL = ModelSpec(
    name="SmolLM2-135M",
    architecture="llama",
    source=Source.EXACT,
    origin="/models/smollm2-135m.gguf",
    n_params=138_700_000,
    n_active_params=134_500_000,
    context_length=8192,
    vocab_size=49_152,
    hidden_size=576,
    n_layers=30,
    n_heads=9,
    ffn_size=1536,
    caches=(CacheGroup(kind="attention", n_layers=30, key_size=192, value_size=192),),
    tables=(
        TableShape(
            layer_id=2,
            n_rows=128_358,
            width=32,
            rows_per_token=8,
            orders=(2, 3),
            n_heads=4,
        ),
        TableShape(
            layer_id=14,
            n_rows=128_828,
            width=32,
            rows_per_token=8,
            orders=(2, 3),
            n_heads=4,
        ),
    ),
    weights=(
        Weights(
            name="Q4_1",
            file_bytes=107_000_000,
            parts={
                Part.EMBEDDING: 30 * MIB,
                Part.LAYERS: 63 * MIB,
                Part.TABLE: 257_186 * 34,
            },
            source=Source.EXACT,
            table_row_bytes=34,
        ),
    ),
    tied_output=True,
    attached=True,
)
"""A small backbone with a memory attached to it."""


HUGE = replace(
    MOE,
    name="Huge-600B",
    architecture="deepseek41",
    runs_here=False,
    n_params=600_000_000_000,
    weights=(replace(_moe_weights("FP8", 20, 500), native=True),),
    notes=(),
    urls={},
)
"""Too large for all computers here."""


NVME = Drive(
    name="Fast NVMe",
    file_system="ext4",
    rotational=False,
    free_bytes=500 * GIB,
    reads=(
        DepthRate(depth=1, reads_per_s=Figure(12e3, Source.MEASURED), latency_s=83e-6),
        DepthRate(depth=4, reads_per_s=Figure(46e3, Source.MEASURED)),
        DepthRate(depth=16, reads_per_s=Figure(170e3, Source.MEASURED)),
        DepthRate(depth=64, reads_per_s=Figure(410e3, Source.MEASURED)),
    ),
    bytes_per_s=Figure(6.1e9, Source.MEASURED),
)
UNKNOWN_DRIVE = Drive(name="", file_system=None, rotational=None, free_bytes=None)
GPU = Gpu(
    name="RTX 4090",
    vram_bytes=24 * GIB,
    free_bytes=23 * GIB,
    bytes_per_s=Figure(1008e9, Source.DATASHEET),
    host_bytes_per_s=Figure(25e9, Source.DATASHEET),
    compute=Compute(flops_per_s=Figure(165e12, Source.DATASHEET)),
)
DESKTOP = Hardware(
    cpu=Cpu(name="Desktop CPU", n_cores=8),
    ram=Ram(
        total_bytes=64 * GIB,
        available_bytes=60 * GIB,
        bytes_per_s=Figure(83e9, Source.DATASHEET),
    ),
    gpus=(GPU,),
    drive=NVME,
    system="Linux",
)
LAPTOP = Hardware(
    cpu=Cpu(name="Laptop CPU", n_cores=4),
    ram=Ram(total_bytes=16 * GIB, available_bytes=12 * GIB),
    gpus=(),
    drive=UNKNOWN_DRIVE,
    system="Windows",
    notes=("The speed of the RAM could not be found out.",),
)


def report_of(
    *specs: ModelSpec, hardware: Hardware = DESKTOP, request: Request | None = None
) -> Report:
    """Return a report on these models, with one other computer in the grid."""
    asked = request or Request()
    bigger = replace(hardware, gpus=(replace(GPU, name="RTX 3090"),))
    models = tuple(
        report_model(spec, asked, hardware, what_if=(("RTX 3090", bigger),))
        for spec in specs
    )
    return Report(
        hardware=hardware,
        request=asked,
        models=models,
        date="2026-03-01",
        command="engram-local size Sparse-176B",
        version="0.2.0",
    )
