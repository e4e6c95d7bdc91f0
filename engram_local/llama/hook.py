"""Reading and changing a layer's hidden state while llama.cpp computes.

llama.cpp's eval callback is asked about every node of the graph; for the nodes that are
wanted, the computation stops after the node, and what is written to it is what the
nodes after it read. Knows nothing of memories.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from engram_local.llama import ggml
from engram_local.llama.node_filter import NodeFilter

OnHidden = Callable[[int, NDArray[np.float32]], None]
"""Called with a hook's number and (n_tokens, n_embd) float32, to change in place."""


def node_names(layer_id: int) -> tuple[bytes, ...]:
    """Return the names that the input of a decoder layer may have, best first.

    Layer 0 reads the token embedding, which some architectures scale first.
    """
    if layer_id == 0:
        return (b"inp_scaled", b"embd")
    return (f"l_out-{layer_id - 1}".encode(),)


class HiddenHook:
    """Hands the hidden state of some nodes to a Python function.

    `function` and `state` are what a context needs. No exception can pass through
    llama.cpp, so what the Python function raises is kept until `raise_error`.
    """

    def __init__(self, *, n_embd: int, n_layers: int) -> None:
        self._n_embd = n_embd
        self._numbers: dict[bytes, int] = {}
        self._on_hidden: OnHidden | None = None
        self._error: BaseException | None = None
        callback = llama_cpp.ggml_backend_sched_eval_callback(self._on_node)
        self._filter = NodeFilter(callback, max_names=n_layers + 1)
        self.function = llama_cpp.ggml_backend_sched_eval_callback(
            self._filter.function
        )
        self.state = self._filter.state

    def install(self, names: Mapping[bytes, int], on_hidden: OnHidden) -> None:
        """Call `on_hidden` at the nodes `names`, with the number given for each."""
        self._numbers, self._on_hidden = dict(names), on_hidden
        self.enable(True)

    def enable(self, on: bool) -> None:
        """Stop at the installed nodes, or let every node pass."""
        self._filter.set_names(list(self._numbers) if on else [])

    def raise_error(self) -> None:
        """Raise what the function raised during the last decode, once."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _on_node(self, tensor: int, ask: bool, _state: object) -> bool:
        if ask or self._error is not None:
            return self._error is None
        try:
            number = self._numbers[ggml.tensor_name(tensor)]
            hidden = ggml.read_rows(tensor, self._n_embd)
            assert self._on_hidden is not None
            self._on_hidden(number, hidden)
            ggml.write_rows(tensor, hidden)
        except BaseException as error:  # noqa: BLE001 - see raise_error
            self._error = error
        return self._error is None
