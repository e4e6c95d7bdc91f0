"""The eval callback, compiled: answers for all graph nodes but the few wanted ones.

llama.cpp asks about every node, 936 times per token of SmolLM2. Answering in Python
took 6 to 13 % of a decode step; here it is a comparison of names, without the GIL.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import carray, types
from numba.extending import intrinsic

from engram_local.kernels import native
from engram_local.llama import ggml

MAX_NAME_BYTES = 64  # GGML_MAX_NAME, the closing zero included
_CALLBACK, _N_NAMES, _N_WORDS = range(3)
_HEADER_BYTES = 8 * _N_WORDS

# An exported symbol can be cached with the compiled code; a ctypes pointer cannot.
_ggml_get_name = types.ExternalFunction("ggml_get_name", types.voidptr(types.voidptr))


class NodeFilter:
    """Passes some nodes on to a native callback and lets all others go by.

    `function` and `state` are the addresses that llama.cpp gets as callback and as its
    user data; they are valid as long as this object lives.
    """

    def __init__(self, callback: Any, *, max_names: int) -> None:
        """callback: a ctypes function of the eval callback's type."""
        self._callback = callback
        self._state = np.zeros(_HEADER_BYTES + max_names * MAX_NAME_BYTES, np.uint8)
        header = self._state[:_HEADER_BYTES].view(np.uint64)
        header[_CALLBACK] = _address(callback)
        self._header = header
        self.function = int(_compiled().address)
        self.state = self._state.ctypes.data

    def set_names(self, names: Sequence[bytes]) -> None:
        """Pass the nodes with these names on; not while a graph is computed."""
        table = self._state[_HEADER_BYTES:].reshape(-1, MAX_NAME_BYTES)
        table[:] = 0
        for line, name in enumerate(names):
            table[line, : len(name)] = np.frombuffer(name, np.uint8)
        self._header[_N_NAMES] = len(names)


def _address(callback: Any) -> int:
    return ctypes.cast(callback, ctypes.c_void_p).value or 0


@cache
def _compiled() -> Any:
    binding.load_library_permanently(ggml.library_path())
    signature = types.uint8(types.voidptr, types.uint8, types.voidptr)
    return native(signature)(_on_node)


@intrinsic
def _call(typing_context, address, tensor, ask, state):  # type: ignore[no-untyped-def]
    """Call the eval callback at an address."""
    signature = types.uint8(types.uint64, types.voidptr, types.uint8, types.voidptr)

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        byte, pointer = ir.IntType(8), ir.IntType(8).as_pointer()
        kind = ir.FunctionType(byte, [pointer, byte, pointer]).as_pointer()
        function = builder.inttoptr(arguments[0], kind)
        return builder.call(function, arguments[1:])

    return signature, generate


def _on_node(tensor, ask, state):  # type: ignore[no-untyped-def]  # pragma: no cover
    header = carray(state, (_N_WORDS,), np.uint64)
    n_names = np.int64(header[_N_NAMES])
    names = carray(state, (_HEADER_BYTES + n_names * MAX_NAME_BYTES,), np.uint8)
    name = carray(_ggml_get_name(tensor), (MAX_NAME_BYTES,), np.uint8)
    for line in range(n_names):
        start = _HEADER_BYTES + line * MAX_NAME_BYTES
        i = 0
        while name[i] == names[start + i] and name[i] != 0:
            i += 1
        if name[i] == names[start + i]:
            return _call(header[_CALLBACK], tensor, ask, state)
    return np.uint8(0) if ask else np.uint8(1)
