"""The NVIDIA cards that the driver knows, whether llama.cpp can use them or not.

NVML is a library of the driver. Where it is missing or answers with an error, there are
no cards: this never fails.
"""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress
from dataclasses import dataclass

_LIBRARY = "nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1"
_TEXT_BYTES = 96  # NVML_DEVICE_NAME_V2_BUFFER_SIZE; versions take less


@dataclass(frozen=True, slots=True, kw_only=True)
class Cards:
    """NVIDIA cards and their driver."""

    driver: str
    names: tuple[str, ...]


def cards() -> Cards | None:
    """Return the cards; None without an NVIDIA driver. Starts no CUDA context."""
    with suppress(OSError, AttributeError):  # no driver, or one without these functions
        nvml = ctypes.CDLL(_LIBRARY)
        if nvml.nvmlInit_v2() == 0:
            try:
                return _cards(nvml)
            finally:
                nvml.nvmlShutdown()
    return None


def _cards(nvml: ctypes.CDLL) -> Cards | None:
    count = ctypes.c_uint()
    if nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
        return None
    names = tuple(_name(nvml, index) for index in range(count.value))
    return Cards(driver=_text(nvml.nvmlSystemGetDriverVersion), names=names)


def _name(nvml: ctypes.CDLL, index: int) -> str:
    handle = ctypes.c_void_p()
    if nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)) != 0:
        return "NVIDIA card"
    return _text(nvml.nvmlDeviceGetName, handle) or "NVIDIA card"


def _text(function: ctypes._NamedFuncPointer, *handle: ctypes.c_void_p) -> str:
    """Call (handle, buffer, its size) -> 0, and return the text."""
    buffer = ctypes.create_string_buffer(_TEXT_BYTES)
    if function(*handle, buffer, ctypes.c_uint(_TEXT_BYTES)) != 0:
        return ""
    return buffer.value.decode("utf-8", "replace")
