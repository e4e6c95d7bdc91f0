"""Reading and changing a layer's hidden state while llama.cpp computes.

llama.cpp's eval callback is asked about every node of the graph; for the nodes that are
wanted, the computation stops after the node, and what is written to it is what the
nodes after it read. Knows nothing of memories.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from engram_local.llama import ggml

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

    `enabled = False` lets every node pass. No exception can pass through llama.cpp, so
    what the function raises is kept until the owner calls `raise_error`.
    """

    def __init__(self, n_embd: int) -> None:
        self._n_embd = n_embd
        self._numbers: Mapping[bytes, int] = {}
        self._on_hidden: OnHidden | None = None
        self._recorded: set[bytes] | None = None
        self.enabled = True
        self._error: BaseException | None = None
        # The context keeps a bare pointer, so the wrapper must live as long.
        self.callback = llama_cpp.ggml_backend_sched_eval_callback(self._on_node)

    def install(self, names: Mapping[bytes, int], on_hidden: OnHidden) -> None:
        """Call `on_hidden` at the nodes `names`, with the number given for each."""
        self._numbers, self._on_hidden = dict(names), on_hidden

    def raise_error(self) -> None:
        """Raise what the function raised during the last decode, once."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    @contextmanager
    def recording(self) -> Iterator[set[bytes]]:
        """Collect the names of all nodes that are computed meanwhile."""
        self._recorded = set()
        try:
            yield self._recorded
        finally:
            self._recorded = None

    def _on_node(self, tensor: int, ask: bool, _user_data: object) -> bool:
        try:
            name = ggml.tensor_name(tensor)
            if self._recorded is not None:
                self._recorded.add(name)
            number = self._numbers.get(name) if self.enabled else None
            if ask:
                return number is not None and self._error is None
            if number is not None and self._on_hidden is not None:
                hidden = ggml.read_rows(tensor, self._n_embd)
                self._on_hidden(number, hidden)
                ggml.write_rows(tensor, hidden)
            return True
        except BaseException as error:  # noqa: BLE001 - see raise_error
            self._error = error
            return False
