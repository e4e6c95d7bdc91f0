"""The GPUs that llama.cpp sees, through functions that ggml's libraries export.

Nothing is computed and no model is loaded. A CUDA build starts its driver to be able to
answer, and keeps a context on each GPU until the process ends: that memory is not free
any more, as it will not be for a model.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from engram_local.errors import BackboneError


class Kind(IntEnum):
    """ggml's device types that hold weights beside the CPU's own."""

    GPU = 1
    INTEGRATED = 2
    """Its memory is the system's RAM."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One GPU as llama.cpp sees it."""

    name: str
    """Short, with a number: "CUDA0"."""

    description: str
    """What the driver calls it: "NVIDIA GeForce RTX 4090"."""

    total_bytes: int
    """0 where the driver does not tell."""

    free_bytes: int
    kind: Kind


class _Libraries:
    """ggml's registry and its devices, typed.

    Two libraries, because Windows looks for a function in the one that was asked only.
    """

    def __init__(self, registry: str, base: str) -> None:
        self._registry, self._base = ctypes.CDLL(registry), ctypes.CDLL(base)
        handle, size = ctypes.c_void_p, ctypes.c_size_t
        pointer = ctypes.POINTER(size)
        self.count = self._typed(self._registry, "count", size)
        self.get = self._typed(self._registry, "get", handle, size)
        self.name = self._typed(self._base, "name", ctypes.c_char_p, handle)
        self.text = self._typed(self._base, "description", ctypes.c_char_p, handle)
        self.type = self._typed(self._base, "type", ctypes.c_int, handle)
        self.memory = self._typed(self._base, "memory", None, handle, pointer, pointer)

    @staticmethod
    def _typed(library: ctypes.CDLL, name: str, result: Any, *arguments: Any) -> Any:
        function = getattr(library, f"ggml_backend_dev_{name}")
        function.restype, function.argtypes = result, arguments
        return function


def gpus() -> tuple[Device, ...]:
    """Return the GPUs that llama.cpp puts a model on; none where it has no GPU.

    Integrated ones only where there is no other, as llama.cpp does by default.
    Raises BackboneError if llama-cpp-python is missing or cannot be loaded. Takes 0.1 s
    to import llama-cpp-python, and 1 ms after that without a GPU.
    """
    libraries = _libraries()
    handles = [libraries.get(index) for index in range(libraries.count())]
    kinds = {int(kind) for kind in Kind}
    found = tuple(
        _device(libraries, handle)
        for handle in handles
        if libraries.type(handle) in kinds
    )
    return tuple(device for device in found if device.kind is Kind.GPU) or found


def find_device(name: str) -> int:
    """Return ggml's handle of the device called `name`, the CPU's too.

    Raises BackboneError if there is none.
    """
    libraries = _libraries()
    handles = [libraries.get(index) for index in range(libraries.count())]
    by_name = {_text(libraries.name(handle)): int(handle) for handle in handles}
    if name not in by_name:
        raise BackboneError(f"ggml has no device {name}, but {', '.join(by_name)}")
    return by_name[name]


def _libraries() -> _Libraries:
    # Backends that are libraries of their own are not loaded, as nothing else here
    # does: ggml would search the current folder for them.
    try:
        from engram_local.llama import ggml, logs  # llama_cpp may be missing

        logs.capture()  # CUDA and Metal greet on stderr
        return _Libraries(ggml.library_path("ggml"), ggml.library_path())
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        raise BackboneError(
            f"llama-cpp-python cannot be loaded: {error}",
            hint="install it again: pip install --force-reinstall llama-cpp-python",
        ) from error


def _device(libraries: _Libraries, handle: int) -> Device:
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    libraries.memory(handle, ctypes.byref(free), ctypes.byref(total))
    return Device(
        name=_text(libraries.name(handle)),
        description=_text(libraries.text(handle)),
        total_bytes=total.value,
        free_bytes=min(free.value, total.value),
        kind=Kind(libraries.type(handle)),
    )


def _text(raw: bytes | None) -> str:
    return (raw or b"").decode("utf-8", "replace").strip()
