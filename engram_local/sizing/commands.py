"""The exact command that runs a model as planned: ours, or a server's."""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass

from engram_local.hardware import Hardware
from engram_local.model_spec import ModelSpec, Part, Weights
from engram_local.sizing.allocations import Placement, gpu_terms, ngl_of, total_bytes
from engram_local.sizing.plan import Plan, usable_ram_bytes
from engram_local.sizing.request import Request

_UBATCH = Request().n_ubatch  # of `run` too

SERVER_VRAM_PART = 0.9
"""What vLLM and SGLang take of a GPU by default (`--gpu-memory-utilization`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One way to run the model."""

    program: str
    line: str
    note: str


def commands_for(
    spec: ModelSpec, plan: Plan, request: Request, hardware: Hardware
) -> tuple[Command, ...]:
    """Return our command where it works, else those of servers that can run it."""
    if spec.runs_here and plan.fits:
        return (_ours(spec, plan, request, hardware),)
    return tuple(_servers(spec, request, hardware))


def _ours(spec: ModelSpec, plan: Plan, request: Request, hardware: Hardware) -> Command:
    words = ["engram-local", "run", model_word(spec, plan), "-c", str(plan.n_ctx)]
    if hardware.gpus:
        words += ["-ngl", str(ngl_of(spec, plan.placement))]
    if plan.placement.n_cpu_experts:
        words += ["--n-cpu-moe", str(plan.placement.n_cpu_experts)]
    if request.n_ubatch != _UBATCH:
        words += ["-b", str(request.n_ubatch), "-ub", str(request.n_ubatch)]
    for flag, name in (("-ctk", request.cache_type_k), ("-ctv", request.cache_type_v)):
        words += [flag, name] if name != "f16" else []
    says_tier = spec.attached or (spec.chooses_tier and request.tier is not None)
    if plan.tier is not None and says_tier:
        words += ["--memory-tier", plan.tier.tier.value]
    note = "" if spec.origin in words else f"with the GGUF of {plan.weights.name}"
    return Command(program="engram-local", line=shlex.join(words), note=note)


def model_word(spec: ModelSpec, plan: Plan) -> str:
    """Return what stands for the model in a command: its file, or a file's name."""
    if spec.origin.endswith(".gguf"):
        return spec.origin
    name = spec.name.rsplit("/", 1)[-1]  # a config's is "maker/model"
    return f"{name}-{plan.weights.name}.gguf"


def _servers(spec: ModelSpec, request: Request, hardware: Hardware) -> list[Command]:
    """Servers load the maker's checkpoint; their table is pinned in RAM or in VRAM."""
    n_machines = machines_needed(spec, request, hardware)
    if n_machines is None or not spec.repository:
        return []
    n_gpus = str(len(hardware.gpus))
    vllm = ["vllm", "serve", spec.repository, "--tensor-parallel-size", n_gpus]
    sglang = ["python", "-m", "sglang.launch_server", "--model-path", spec.repository]
    sglang += ["--tp", n_gpus]
    if n_machines > 1:  # each computes some of the layers
        vllm += ["--pipeline-parallel-size", str(n_machines)]
        sglang += ["--pp-size", str(n_machines), "--nnodes", str(n_machines)]
    if any(max(table.orders) > 1 for table in spec.tables):  # Gemma's are no n-grams
        vllm += ["--engram-config", '{"cpu_offload": true}']
        sglang += ["--engram-config", '{"placement": "cpu", "replication": "none"}']
    note = f"{n_machines} such machines" if n_machines > 1 else "this machine"
    return [
        Command(program="vLLM", line=shlex.join(vllm), note=note),
        Command(program="SGLang", line=shlex.join(sglang), note=note),
    ]


def machines_needed(
    spec: ModelSpec, request: Request, hardware: Hardware
) -> int | None:
    """Return how many such machines hold the maker's checkpoint: all layers in VRAM,
    the n-gram table in RAM, both divided among them. None without a GPU.
    """
    native = checkpoint_of(spec)
    vram_bytes = SERVER_VRAM_PART * sum(gpu.vram_bytes for gpu in hardware.gpus)
    if not vram_bytes:
        return None
    everything = Placement(n_gpu_layers=spec.n_layers + 1)
    terms = gpu_terms(spec, native, request, everything, len(hardware.gpus))
    for_layers = total_bytes(terms) / vram_bytes
    for_table = native.part(Part.TABLE) / max(usable_ram_bytes(hardware), 1)
    return max(1, math.ceil(for_layers), math.ceil(for_table))


def checkpoint_of(spec: ModelSpec) -> Weights:
    """Return the weights that servers load; the largest where they are not known."""
    native = [weights for weights in spec.weights if weights.native]
    return max(native or spec.weights, key=lambda weights: weights.file_bytes)
