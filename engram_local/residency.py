"""A model's own table in RAM or in its file: decided before the load, checked after.

Nothing here warms a table. Pages read before the backbone has loaded are pushed out by
the load itself, which streams whole files through the page cache: of a table warmed
before, 18 % were resident, and 0.06 % after. And reading all of a large table took half
a minute for 0 to 6 % of an answer's speed; who wants that takes the tier `ram`.
"""

from __future__ import annotations

from collections.abc import Iterable

from engram_local import memlock
from engram_local.errors import FitError
from engram_local.formats.header import Header, TensorInfo
from engram_local.formats.offload import byte_ranges, tensors_on_gpu
from engram_local.llama.devices import Kind, gpus
from engram_local.llama.placement import NativeLoad
from engram_local.memory.page_cache import release
from engram_local.settings import Settings
from engram_local.units import MIB, format_bytes

_ROUNDING_BYTES = MIB
"""llama.cpp locks whole pages of buffers, in which tensors are aligned."""


class Residency:
    """One load of a model with a table of its own."""

    def __init__(self, header: Header, settings: Settings) -> None:
        """Decide how to load it; in the tier `ram` it is locked where it may be.

        `auto` is `mmap`: who knows how much RAM is free has put a tier in its place.
        Raises FitError if it has to be locked and may not be.
        """
        self.notes: list[str] = []
        """Sentences for the user."""
        self._must_lock = settings.mlock
        self._on_gpu = _tensors_on_gpu(header, settings)
        is_ram = settings.memory_tier == "ram"
        n_bytes = _sum(header.tensors.values())
        lock = is_ram and self._may_lock(n_bytes - _sum(self._on_gpu))
        self.load = NativeLoad(
            tier="ram" if is_ram else "mmap", lock=lock, n_bytes=n_bytes
        )

    def _may_lock(self, in_ram_bytes: int) -> bool:
        needed_bytes = in_ram_bytes + _ROUNDING_BYTES
        allowed_bytes = memlock.lockable_bytes()
        if needed_bytes > allowed_bytes:
            self._is_unlocked(
                f"{format_bytes(needed_bytes)} would be, with what else of the model "
                f"is in RAM, and {format_bytes(int(allowed_bytes))} may be"
            )
        return needed_bytes <= allowed_bytes

    def confirm(self, table_bytes: int) -> None:
        """Look whether it was locked: llama.cpp goes on where that fails.

        Raises FitError if it had to be.
        """
        # Not what was added: a small table may lie where another one was locked.
        locked_bytes = memlock.locked_bytes()
        if self.load.lock and locked_bytes is not None and locked_bytes < table_bytes:
            self._is_unlocked(
                f"the system took {format_bytes(locked_bytes)} of its "
                f"{format_bytes(table_bytes)}"
            )

    def _is_unlocked(self, why: str) -> None:
        if self._must_lock:
            raise FitError(
                f"the table cannot be locked in RAM: {why}", hint=memlock.RAISE_HINT
            )
        self.notes.append(f"the table is not locked in RAM: {why}")

    def release_backbone(self) -> None:
        """Free the page cache of what a GPU has copied, for rows of the table.

        Not where nothing is mapped: all of the model has been read by then, and is
        the first to go when RAM is needed.
        """
        if self.load.tier == "mmap":
            for path, ranges in byte_ranges(self._on_gpu).items():
                release(path, ranges)


def _tensors_on_gpu(header: Header, settings: Settings) -> tuple[TensorInfo, ...]:
    # An integrated GPU may compute with the mapped pages themselves.
    if not any(device.kind is Kind.GPU for device in gpus()):
        return ()
    return tensors_on_gpu(header, settings.n_gpu_layers, settings.n_cpu_moe)


def _sum(tensors: Iterable[TensorInfo]) -> int:
    return sum(tensor.stored_bytes for tensor in tensors)
