"""What a computer has and how fast it is, in frozen numbers. Looks at nothing.

A speed that is not known is None, never a guess.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import geometric_mean

from engram_local.figures import Figure, Source


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeRate:
    """How fast weights of one type are; they differ by a factor of five.

    llama.cpp repacks Q4_0 for the processor: 450 GFLOP/s in a prompt where Q4_1, which
    it does not, has 96, on the same two cores.
    """

    name: str
    """"Q4_0", "Q8_0", "Q4_1"."""

    weight_bytes_per_s: Figure
    flops_per_s: Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """How fast a processor runs llama.cpp's graph.

    A decode step takes `layer_s` per layer, its weights' bytes over
    `weight_bytes_per_s`, and its attention; a prompt token its operations over
    `flops_per_s`, and its attention.
    """

    weight_bytes_per_s: Figure | None = None
    """Weights read in a decode step."""

    flops_per_s: Figure | None = None
    """Of matrix products over a whole batch: 2 per weight and token."""

    layer_s: Figure | None = None
    """What a decode step costs per layer, whatever the layer's size."""

    attention_flops_per_s: Figure | None = None
    """Of a decode step. On a processor it is computing that takes the time, not
    reading keys and values: 28 GFLOP/s with 1.5 to 3.5 GB/s of them on 2 cores."""

    prompt_attention_flops_per_s: Figure | None = None
    types: tuple[TypeRate, ...] = ()
    """Where weights of several types were measured: all of them."""

    def for_type(self, name: str) -> Compute:
        """Return the rates for weights called `name`: "Q4_1", "Q8_0", "Q4_K_M".

        Those of the type that the name begins with. If none of `types` is that, the
        geometric means of all, as estimates: they differ by factors of 2 and 5.
        """
        if not self.types:
            return self
        begins = name.upper().startswith
        for rate in self.types:
            if begins(rate.name.upper()):
                return self._with(rate.weight_bytes_per_s, rate.flops_per_s)
        return self._with(
            _guess([rate.weight_bytes_per_s for rate in self.types]),
            _guess([rate.flops_per_s for rate in self.types]),
        )

    def _with(self, weight_bytes_per_s: Figure, flops_per_s: Figure) -> Compute:
        return replace(
            self, weight_bytes_per_s=weight_bytes_per_s, flops_per_s=flops_per_s
        )


def _guess(figures: list[Figure]) -> Figure:
    mean = geometric_mean(figure.value for figure in figures)
    return Figure(mean, Source.ESTIMATED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """A processor and the threads that compute."""

    name: str
    n_cores: int
    """Physical ones that this process may use."""

    compute: Compute = Compute()
    source: Source = Source.MEASURED
    """Of its cores: found on this machine, or given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ram:
    """System memory."""

    total_bytes: int
    """What this process may use: a cgroup's limit counts."""

    available_bytes: int
    bytes_per_s: Figure | None = None
    """Sequential reads with all threads."""

    rows_per_s: Figure | None = None
    """Random rows of 256 bytes with one thread."""

    source: Source = Source.MEASURED
    """Of its sizes: found on this machine, or given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU."""

    name: str
    vram_bytes: int
    free_bytes: int
    bytes_per_s: Figure | None = None
    """Of its own memory."""

    host_bytes_per_s: Figure | None = None
    """Copies from RAM."""

    compute: Compute = Compute()
    unified: bool = False
    """Whether its memory is the system's RAM."""

    @property
    def maps_files(self) -> bool:
        """Whether llama.cpp maps files beside it; else weights are read into RAM.

        It does not beside integrated ones (caps.mmap_support), but for Apple's.
        """
        return not self.unified or "apple" in self.name.lower()

    source: Source = Source.MEASURED
    """Of its sizes: found on this machine, or given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthRate:
    """Random 4 KiB reads past the page cache with so many in flight."""

    depth: int
    reads_per_s: Figure
    latency_s: float | None = None
    """Median of one read; None where it was not measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drive:
    """The drive that holds the model."""

    name: str
    """Model, or the device's name."""

    file_system: str | None
    rotational: bool | None
    free_bytes: int | None
    reads: tuple[DepthRate, ...] = ()
    """Ascending by depth."""

    bytes_per_s: Figure | None = None
    """Sequential reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """A computer."""

    cpu: Cpu
    ram: Ram
    gpus: tuple[Gpu, ...]
    drive: Drive
    system: str
    notes: tuple[str, ...] = ()
    """Sentences for the report: what could not be found out, and why."""
