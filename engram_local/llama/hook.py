"""Reading nodes and changing a layer's hidden state while llama.cpp computes.

llama.cpp's eval callback is asked about every node of the graph; for the nodes that are
wanted, the computation stops after the node, and what is written to it is what the
nodes after it read. Knows nothing of memories.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from engram_local.errors import BackboneError
from engram_local.llama.node_filter import WRONG_SIZE, NodeFilter

OnHidden = Callable[[int, NDArray[np.float32]], None]
"""Called with a hook's line and (n_tokens, width) float32, to change in place."""

NATIVE_FUNCTION = ctypes.CFUNCTYPE(
    ctypes.c_int32,
    ctypes.c_int64,
    ctypes.POINTER(ctypes.c_float),
    ctypes.c_int64,
    ctypes.c_void_p,
)
"""`int32 function(int64 line, float* hidden, int64 n_tokens, void* state)`; 0 = fine.

hidden: (n_tokens, width), to be changed in place."""


class HookFunction(Protocol):
    """What is called at a hook. Must live as long as it is installed."""

    @property
    def address(self) -> int:
        """Of a function of the type NATIVE_FUNCTION."""

    @property
    def state(self) -> int:
        """What the function gets as its last argument."""

    def raise_error(self) -> None:
        """Raise why the function did not return 0, once."""


class PythonFunction:
    """A hook in Python: slow (it takes the GIL), and may raise."""

    state = 0

    def __init__(self, on_hidden: OnHidden, width: int) -> None:
        """width: floats of one token."""
        self._on_hidden = on_hidden
        self._width = width
        self._error: BaseException | None = None
        self._callback = NATIVE_FUNCTION(self._call)

    @property
    def address(self) -> int:
        """See `HookFunction.address`."""
        return ctypes.cast(self._callback, ctypes.c_void_p).value or 0

    def raise_error(self) -> None:
        """Raise what the Python function raised during the last decode, once."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _call(self, line: int, hidden: Any, n_tokens: int, _state: object) -> int:
        try:
            shape = (n_tokens, self._width)
            self._on_hidden(line, np.ctypeslib.as_array(hidden, shape))
        except BaseException as error:  # noqa: BLE001 - see raise_error
            self._error = error  # no exception can pass through llama.cpp
            return 1
        return 0  # whatever an earlier decode left, which Ctrl-C may have ended


def node_names(layer_id: int) -> tuple[bytes, ...]:
    """Return the names that the input of a decoder layer may have, best first.

    Layer 0 reads the token embedding, which some architectures scale first.
    """
    if layer_id == 0:
        return (b"inp_scaled", b"embd")
    return (f"l_out-{layer_id - 1}".encode(),)


class HiddenHook:
    """Hands the hidden state of some nodes, or what a node holds, to a function.

    `function` and `state` are what a context needs.
    """

    def __init__(self, *, width: int, n_layers: int, max_tokens: int) -> None:
        """width: floats of one token; max_tokens: computed at once."""
        self._names: tuple[bytes, ...] = ()
        self._installed: HookFunction | None = None
        self._only_reads = False
        self._is_on = False
        # A dry run looks for two names per layer.
        self._filter = NodeFilter(
            width=width, max_tokens=max_tokens, max_names=2 * n_layers + 2
        )
        self.function = llama_cpp.ggml_backend_sched_eval_callback(
            self._filter.function
        )
        self.state = self._filter.state

    def install(
        self,
        names: Sequence[bytes],
        function: HookFunction,
        *,
        only_reads: bool = False,
    ) -> None:
        """Call `function` at the nodes `names`; `line` is the place in `names`.

        only_reads: what it changes does not reach the node.
        """
        self._names, self._installed = tuple(names), function
        self._only_reads = only_reads
        address, state = function.address, function.state
        self._filter.set_function(address, state, only_reads=only_reads)
        self.enable(True)

    def remove(self) -> None:
        """Let every node pass, and forget the function."""
        self._names, self._installed = (), None
        self.enable(False)

    @contextmanager
    def replaced(
        self, names: Sequence[bytes], function: HookFunction
    ) -> Iterator[None]:
        """Install another function for a while; what was there comes back."""
        before, is_on = (self._names, self._installed, self._only_reads), self._is_on
        self.install(names, function)
        try:
            yield
        finally:
            names_before, function_before, only_reads = before
            if function_before is None:
                self.remove()
            else:
                self.install(names_before, function_before, only_reads=only_reads)
                self.enable(is_on)

    def enable(self, on: bool) -> None:
        """Stop at the installed nodes, or let every node pass."""
        self._is_on = on
        self._filter.set_names(self._names if on else ())

    def forget_error(self) -> None:
        """Forget what Ctrl-C came before: the sequence begins anew."""
        self._filter.clear_status()

    def raise_error(self) -> None:
        """Raise what went wrong at a node during the last decode, once."""
        status, found_bytes = self._filter.take_status()
        if status == WRONG_SIZE:
            raise self._wrong_size(found_bytes)
        if status and self._installed is not None:
            self._installed.raise_error()

    def _wrong_size(self, found_bytes: int) -> BackboneError:
        if self._only_reads:
            return BackboneError(
                f"the node {self._names[0].decode()} has {found_bytes} bytes, which "
                "are no rows of this table as float32",
                hint="leave out --verify-rows",
            )
        return BackboneError(
            f"the hidden state of this architecture is not float32 of the model's "
            f"width: a node has {found_bytes} bytes",
            hint="run it without a memory: --no-memory",
        )
