"""What llama.cpp allocates for a model, term by term, and where.

Pure arithmetic. Weights and caches follow llama.cpp's own rules (0.3.36:
src/llama-model.cpp, llama-kv-cache*.cpp, llama-memory-recurrent.cpp) and are exact.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from engram_local.figures import Source, Term, weakest
from engram_local.model_spec import ModelSpec, Part, Weights
from engram_local.sizing.cache import (
    all_cache_bytes,
    saved_state_bytes,
    state_bytes,
)
from engram_local.sizing.compute_buffer import compute_buffer_bytes
from engram_local.sizing.request import Request
from engram_local.units import MIB

DRIVER_BYTES = 616 * MIB
"""Of each GPU: 512 to 591 MiB are left over in published loads of one CUDA card and of
four ROCm cards, 200 each of three CUDA cards (docs/accuracy.md)."""

_COPIES = 4  # GGML_SCHED_MAX_COPIES

PROCESS_BYTES = 300 * MIB
"""Python, llama.cpp's and our code, compiled kernels, vocabulary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Which layers lie on a GPU."""

    n_gpu_layers: int = 0
    """The last ones; the output counts as one, and is the first to go."""

    n_cpu_experts: int = 0
    """Of those on a GPU, layers whose experts stay in RAM."""


def ngl_of(spec: ModelSpec, placement: Placement) -> int:
    """Return what -ngl puts these layers on a GPU: it counts draft heads, too."""
    n_layers = placement.n_gpu_layers
    return n_layers + spec.n_drafts if n_layers > 1 else n_layers


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Bytes of one kind by where they lie."""

    gpu_bytes: int
    ram_bytes: int


def weight_split(spec: ModelSpec, weights: Weights, placement: Placement) -> Split:
    """Return where the weights lie; the n-gram table and what is unused left out."""
    on_gpu = layers_on_gpu(spec, placement)
    experts_on_gpu = max(on_gpu - placement.n_cpu_experts, 0)
    layers, experts = weights.part(Part.LAYERS), weights.part(Part.EXPERTS)
    output, embedding = weights.part(Part.OUTPUT), weights.part(Part.EMBEDDING)
    gpu = _share(layers, on_gpu, spec) + _share(experts, experts_on_gpu, spec)
    ram = layers + experts - gpu + embedding
    if placement.n_gpu_layers > 0:
        # A tied embedding is looked up in RAM and multiplied on the GPU: two copies.
        gpu += embedding if spec.tied_output else output
    else:
        ram += output
    return Split(gpu_bytes=gpu, ram_bytes=ram)


def layers_on_gpu(spec: ModelSpec, placement: Placement) -> int:
    """Return how many decoder layers lie on a GPU."""
    return min(max(placement.n_gpu_layers - 1, 0), spec.n_layers)


def _share(n_bytes: int, n_layers: int, spec: ModelSpec) -> int:
    return n_bytes * n_layers // spec.n_layers


def gpu_terms(
    spec: ModelSpec,
    weights: Weights,
    request: Request,
    placement: Placement,
    n_gpus: int,
) -> tuple[Term, ...]:
    """Return what lies in VRAM, all GPUs together; empty if nothing does."""
    if placement.n_gpu_layers == 0 or n_gpus == 0:
        return ()
    n_ctx = request.context_of(spec)
    on_gpu = layers_on_gpu(spec, placement)
    split = weight_split(spec, weights, placement)
    exact = _weights_source(spec, weights, on_gpu)
    cache = _share(all_cache_bytes(spec, request, n_ctx), on_gpu, spec)
    state = _share(state_bytes(spec, request), on_gpu, spec)
    # Logits are computed where the output lies: on the last one.
    silent = replace(request, n_outputs=0)
    compute = compute_bytes(spec, weights, request, placement, n_gpus)
    compute += (n_gpus - 1) * compute_bytes(spec, weights, silent, placement, n_gpus)
    terms = (
        Term("weights", split.gpu_bytes, exact),
        Term("KV cache", cache, _layer_source(spec, on_gpu)),
        Term("recurrent state", state, _layer_source(spec, on_gpu)),
        Term("compute buffers", compute, Source.ESTIMATED),
        Term("driver", n_gpus * DRIVER_BYTES, Source.ESTIMATED),
    )
    return tuple(term for term in terms if term.n_bytes)


def bytes_of_gpus(
    spec: ModelSpec,
    weights: Weights,
    request: Request,
    placement: Placement,
    free_bytes: Sequence[int],
) -> list[int]:
    """Return what lies on each of these GPUs; in sum what `gpu_terms` says.

    llama.cpp deals out the layers in order, to each GPU its part of the free memory of
    all (llama-model.cpp, load_tensors); the output is the last one. All count alike,
    also those whose experts lie in RAM, so that the last GPU may be full while others
    are empty.
    """
    n_gpus = len(free_bytes)
    silent = replace(request, n_outputs=0)
    compute = compute_bytes(spec, weights, silent, placement, n_gpus)
    used = [DRIVER_BYTES + compute] * n_gpus
    used[-1] += compute_bytes(spec, weights, request, placement, n_gpus) - compute
    layers = _layers_in_order(spec, weights, request, placement)
    ends = list(accumulate(max(size, 1) for size in free_bytes))
    for i, n_bytes in enumerate(layers):
        used[bisect_right(ends, i / len(layers) * ends[-1])] += n_bytes
    return used


def _layers_in_order(
    spec: ModelSpec, weights: Weights, request: Request, placement: Placement
) -> list[int]:
    """Return the bytes of each layer that lies on a GPU, then those of the output."""
    n_ctx = request.context_of(spec)
    kept = all_cache_bytes(spec, request, n_ctx) + state_bytes(spec, request)
    layer = (weights.part(Part.LAYERS) + kept) // spec.n_layers
    experts = weights.part(Part.EXPERTS) // spec.n_layers
    output = weights.part(Part.EMBEDDING if spec.tied_output else Part.OUTPUT)
    layers = [
        layer + (experts if i >= placement.n_cpu_experts else 0)
        for i in range(layers_on_gpu(spec, placement))
    ]
    return [*layers, *[0] * spec.n_drafts, output]


def ram_terms(
    spec: ModelSpec, weights: Weights, request: Request, placement: Placement
) -> tuple[Term, ...]:
    """Return what lies in RAM besides the n-gram table."""
    n_ctx = request.context_of(spec)
    on_cpu = spec.n_layers - layers_on_gpu(spec, placement)
    split = weight_split(spec, weights, placement)
    embedding = weights.part(Part.EMBEDDING)
    source = _weights_source(spec, weights, on_cpu)
    cache = _share(all_cache_bytes(spec, request, n_ctx), on_cpu, spec)
    state = _share(state_bytes(spec, request), on_cpu, spec)
    on_gpu = placement.n_gpu_layers > 0
    compute = (
        host_bytes(spec, request)
        if on_gpu
        else compute_bytes(spec, weights, request, placement, 0)
    )
    terms = (
        Term("weights", split.ram_bytes - embedding, source),
        Term("token embedding", embedding, weights.source),
        Term("KV cache", cache, _layer_source(spec, on_cpu)),
        Term("recurrent state", state, _layer_source(spec, on_cpu)),
        Term("saved states", saved_state_bytes(spec, request, n_ctx), Source.ESTIMATED),
        Term("compute buffers", compute, Source.ESTIMATED),
        Term("process", PROCESS_BYTES, Source.ESTIMATED),
    )
    return tuple(term for term in terms if term.n_bytes)


def total_bytes(terms: Sequence[Term]) -> int:
    """Return the sum of all terms."""
    return sum(term.n_bytes for term in terms)


def compute_bytes(
    spec: ModelSpec,
    weights: Weights,
    request: Request,
    placement: Placement,
    n_gpus: int,
) -> int:
    """Return a bound of what the graph needs on a device besides weights and cache.

    Where all layers lie on several GPUs, llama.cpp works on four batches at a time.
    """
    everything = placement == Placement(n_gpu_layers=spec.n_layers + 1)
    return compute_buffer_bytes(
        spec,
        n_ctx=request.context_of(spec),
        n_ubatch=request.n_ubatch,
        flash_attention=request.flash_attention,
        n_seqs=request.n_sequences,
        unified=request.unified,
        n_outputs=request.n_outputs,
        n_copies=_COPIES if everything and n_gpus > 1 else 1,
        unpacked_cache=n_gpus > 0 and request.quantizes_cache,
        copied_bytes=_copied_bytes(spec, weights, placement),
    )


def _copied_bytes(spec: ModelSpec, weights: Weights, placement: Placement) -> int:
    """Return a bound of the weights in RAM that a prompt has on a GPU at a time.

    llama.cpp copies those of one operation (ggml-backend.cpp, op_offload). Two of three
    matrices of experts: 0.73 of a layer in a published load. A layer without experts
    has five matrices or more.
    """
    on_gpu = layers_on_gpu(spec, placement)
    in_ram = on_gpu < spec.n_layers
    if not placement.n_gpu_layers or not (in_ram or placement.n_cpu_experts):
        return 0
    layers = weights.part(Part.LAYERS) // 2 if in_ram else 0
    return max(weights.part(Part.EXPERTS) * 3 // 4, layers) // spec.n_layers


def host_bytes(spec: ModelSpec, request: Request) -> int:
    """Return a bound of what a GPU's graph keeps in RAM: its inputs and the mask."""
    n_ctx = request.context_of(spec)
    return request.n_ubatch * (4 * spec.hidden_size * spec.n_streams + 4 * n_ctx)


def _weights_source(spec: ModelSpec, weights: Weights, n_layers: int) -> Source:
    return weakest(weights.source, _layer_source(spec, n_layers))


def _layer_source(spec: ModelSpec, n_layers: int) -> Source:
    """Layers are taken as equal where only some of them lie in a place."""
    if n_layers in (0, spec.n_layers):
        return spec.source
    return Source.ESTIMATED


Fits = Callable[[Placement], bool]


def best_placement(spec: ModelSpec, weights: Weights, fits: Fits) -> Placement:
    """Return the placement with most on the GPUs that `fits`.

    All; else all but the experts of as few layers as possible, if there are experts;
    else as many layers as fit. `fits` has to be monotonic: less needs less.
    """
    everything = spec.n_layers + 1
    if fits(Placement(n_gpu_layers=everything)):
        return Placement(n_gpu_layers=everything)
    if weights.part(Part.EXPERTS):
        options = [
            Placement(n_gpu_layers=everything, n_cpu_experts=n)
            for n in range(1, spec.n_layers + 1)
        ]
        if fits(options[-1]):
            return _first(options, fits)
    options = [Placement(n_gpu_layers=n) for n in range(spec.n_layers, -1, -1)]
    return _first(options, fits)


def _first(options: Sequence[Placement], fits: Fits) -> Placement:
    """Return the first that fits, by bisection; the last one always counts as such."""
    low, high = 0, len(options) - 1
    while low < high:
        middle = (low + high) // 2
        if fits(options[middle]):
            high = middle
        else:
            low = middle + 1
    return options[low]
