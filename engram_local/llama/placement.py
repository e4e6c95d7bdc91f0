"""Where llama.cpp puts a model's own table: our tier -> its lazy_mode and load_mode.

What they do (0.3.36: src/llama-model-loader.cpp, llama-mmap.cpp, llama-model.cpp):

    lazy on      the table is mapped with MADV_RANDOM whatever the load mode; its rows
                 are queued right before each graph, and nothing locks it
    lazy auto    the same for tables above 4 GiB
    lazy off     the table is loaded like any other weight
    load auto    files are mapped, and read at once where nothing in them is lazy
    load none    weights that stay in RAM are read into memory of the process's own
    load mlock   the same, and all buffers in RAM are locked before they are read

The table is an input and stays in RAM whatever -ngl says. With load none or mlock it
would go into a buffer of the GPU's driver, whose pages nobody can count or lock;
`no_host` keeps it in plain memory, as it is where files are mapped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import llama_cpp


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeLoad:
    """How a model is loaded that has a table which llama.cpp can read lazily."""

    tier: Literal["mmap", "ram"]
    lock: bool
    """In the tier `ram`: what stays in RAM is locked."""

    n_bytes: int
    """Of all its tensors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadModes:
    """Fields of llama_model_params; the defaults are llama.cpp's."""

    lazy_mode: int = llama_cpp.LLAMA_LAZY_MODE_AUTO
    load_mode: int = llama_cpp.LLAMA_LOAD_MODE_AUTO
    no_host: bool = False


def load_modes(native: NativeLoad | None) -> LoadModes:
    """Return how llama.cpp loads a model; None: one without such a table."""
    if native is None:
        return LoadModes()
    if native.tier == "mmap":
        return LoadModes(lazy_mode=llama_cpp.LLAMA_LAZY_MODE_ON)
    assert native.tier == "ram", native.tier
    # Not mapped: the page cache may drop what is, and then rows come from the drive.
    anonymous, locked = llama_cpp.LLAMA_LOAD_MODE_NONE, llama_cpp.LLAMA_LOAD_MODE_MLOCK
    return LoadModes(
        lazy_mode=llama_cpp.LLAMA_LAZY_MODE_OFF,
        load_mode=locked if native.lock else anonymous,
        no_host=True,
    )
