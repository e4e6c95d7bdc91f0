"""The eval callback, compiled: passes the values of a few graph nodes on.

llama.cpp asks about every node, 936 times per token of SmolLM2. Answering in Python
took 6 to 13 % of a decode step; here it is a comparison of names, without the GIL.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import carray, types
from numba.extending import intrinsic, register_jitable

from engram_local.kernels import native, pointer
from engram_local.llama import ggml

MAX_NAME_BYTES = 64  # GGML_MAX_NAME, the closing zero included
FAILED, WRONG_SIZE = 1, 2
"""Values of `status`; 0 is fine."""

_FUNCTION, _STATE, _HIDDEN, _ROW_BYTES, _MAX_TOKENS, _ONLY_READS = range(6)
_N_NAMES, _STATUS, _FOUND_BYTES, _N_WORDS = range(6, 10)
_HEADER_BYTES = 8 * _N_WORDS


class NodeFilter:
    """Hands the rows of some nodes to a native function; lets all others go by.

    `function` and `state` are the addresses that llama.cpp gets as callback and as its
    user data; they are valid as long as this object lives.
    """

    def __init__(self, *, width: int, max_tokens: int, max_names: int) -> None:
        """width: floats of one token; max_tokens: of a node at most."""
        self._state = np.zeros(_HEADER_BYTES + max_names * MAX_NAME_BYTES, np.uint8)
        self._hidden = np.zeros((max_tokens, width), np.float32)
        self._header = self._state[:_HEADER_BYTES].view(np.int64)
        self._header[_HIDDEN] = self._hidden.ctypes.data
        self._header[_ROW_BYTES] = 4 * width
        self._header[_MAX_TOKENS] = max_tokens
        self.function = int(_compiled().address)
        self.state = self._state.ctypes.data

    def set_function(self, address: int, state: int, *, only_reads: bool) -> None:
        """Call `function(line, hidden, n_tokens, state)` at the wanted nodes.

        Its type is that of `NATIVE_FUNCTION` in hook.py. Not while a graph is computed.
        only_reads: nothing is copied back, and a token may have several rows in a node.
        """
        self._header[_FUNCTION], self._header[_STATE] = address, state
        self._header[_ONLY_READS] = only_reads

    def set_names(self, names: Sequence[bytes]) -> None:
        """Want the nodes with these names, in `line` 0, 1, ...; same rule."""
        table = self._state[_HEADER_BYTES:].reshape(-1, MAX_NAME_BYTES)
        table[:] = 0
        for line, name in enumerate(names):
            table[line, : len(name)] = np.frombuffer(name, np.uint8)
        self._header[_N_NAMES] = len(names)

    def clear_status(self) -> None:
        """Forget what went wrong."""
        self._header[_STATUS] = 0

    def take_status(self) -> tuple[int, int]:
        """Return what went wrong since the last call, and a wrong node's bytes."""
        if not self._header[_STATUS]:
            return 0, 0
        status = int(self._header[_STATUS]), int(self._header[_FOUND_BYTES])
        self.clear_status()
        return status


# Exported symbols can be cached with the compiled code; a ctypes pointer cannot. Only
# functions are used: no ggml struct is mirrored here.
_pointer = types.voidptr
_ggml_get_name = types.ExternalFunction("ggml_get_name", _pointer(_pointer))
_ggml_nrows = types.ExternalFunction("ggml_nrows", types.int64(_pointer))
_ggml_nbytes = types.ExternalFunction("ggml_nbytes", types.int64(_pointer))
_copy = types.void(_pointer, _pointer, types.int64, types.int64)
_tensor_get = types.ExternalFunction("ggml_backend_tensor_get", _copy)
_tensor_set = types.ExternalFunction("ggml_backend_tensor_set", _copy)


@cache
def _compiled() -> Any:
    binding.load_library_permanently(ggml.library_path())
    return native(types.uint8(_pointer, types.uint8, _pointer))(_on_node)


@intrinsic
def _call(typing_context, address, line, hidden, n_tokens, state):  # type: ignore[no-untyped-def]
    """Call the native function at an address; 0 is fine."""
    signature = types.int32(types.int64, types.int64, _pointer, types.int64, _pointer)

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        word, address = ir.IntType(64), ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.IntType(32), [word, address, word, address])
        function = builder.inttoptr(arguments[0], kind.as_pointer())
        return builder.call(function, arguments[1:])

    return signature, generate


@register_jitable
def _change(tensor, line, header):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Copy a node from its backend, let it be changed, copy it back."""
    n_tokens, n_bytes = _ggml_nrows(tensor), _ggml_nbytes(tensor)
    if header[_ONLY_READS]:
        n_tokens = n_bytes // header[_ROW_BYTES]
    if n_bytes != n_tokens * header[_ROW_BYTES] or n_tokens > header[_MAX_TOKENS]:
        header[_STATUS], header[_FOUND_BYTES] = WRONG_SIZE, n_bytes
        return np.uint8(0)
    hidden = pointer(header[_HIDDEN])
    _tensor_get(tensor, hidden, 0, n_bytes)
    state = pointer(header[_STATE])
    if _call(header[_FUNCTION], line, hidden, n_tokens, state) != 0:
        header[_STATUS] = FAILED
        return np.uint8(0)
    if not header[_ONLY_READS]:
        _tensor_set(tensor, hidden, 0, n_bytes)
    return np.uint8(1)


def _on_node(tensor, ask, state):  # type: ignore[no-untyped-def]  # pragma: no cover
    header = carray(state, (_N_WORDS,), np.int64)
    if header[_STATUS] != 0:  # llama.cpp may go on with another part of the graph
        return np.uint8(0)
    n_names = header[_N_NAMES]
    names = carray(state, (_HEADER_BYTES + n_names * MAX_NAME_BYTES,), np.uint8)
    name = carray(_ggml_get_name(tensor), (MAX_NAME_BYTES,), np.uint8)
    for line in range(n_names):
        start = _HEADER_BYTES + line * MAX_NAME_BYTES
        i = 0
        while name[i] == names[start + i] and name[i] != 0:
            i += 1
        if name[i] == names[start + i]:
            return np.uint8(1) if ask else _change(tensor, line, header)
    return np.uint8(0) if ask else np.uint8(1)
