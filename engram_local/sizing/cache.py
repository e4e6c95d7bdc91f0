"""What a model keeps of the tokens before: keys, values, states. Exact.

Follows llama.cpp 0.3.36: llama-kv-cache*.cpp, llama-memory-recurrent.cpp.
"""

from __future__ import annotations

from engram_local.llama.saved_states import MAX_BYTES, MAX_STATES
from engram_local.model_spec import CacheGroup, ModelSpec
from engram_local.sizing.request import Request, round_context
from engram_local.spec import RowType


def cache_cells(
    group: CacheGroup,
    n_ctx: int,
    n_ubatch: int,
    *,
    n_seqs: int = 1,
    unified: bool = False,
) -> int:
    """Return the cells of a group's cache: entries of one layer.

    unified: whether all sequences share them (llama.cpp's server does, unless told how
    many there are). If not, each of `n_seqs` has that many, for its part of `n_ctx`.
    A window is kept as such by llama.cpp's server, but not by default in its library.
    """
    n_ctx, n_shared = (n_ctx, n_seqs) if unified else (-(-n_ctx // n_seqs), 1)
    n_cells = -(-round_context(n_ctx) // group.ratio)
    if group.window:
        n_cells = min(n_cells, group.window * n_shared + n_ubatch)
    return round_context(n_cells)


def cache_bytes(group: CacheGroup, request: Request, n_ctx: int) -> int:
    """Return the bytes of the keys and values of a group of layers, all sequences."""
    n_cells = cache_cells(
        group,
        n_ctx,
        request.n_ubatch,
        n_seqs=request.n_sequences,
        unified=request.unified,
    )
    n_streams = 1 if request.unified else request.n_sequences
    return group.n_layers * n_cells * n_streams * entry_bytes(group, request)


def entry_bytes(group: CacheGroup, request: Request) -> int:
    """Return the bytes of one token in one layer."""
    key = RowType(request.cache_type_k).row_bytes(group.key_size)
    if not group.value_size:
        return key
    return key + RowType(request.cache_type_v).row_bytes(group.value_size)


def all_cache_bytes(spec: ModelSpec, request: Request, n_ctx: int) -> int:
    """Return the bytes of all keys and values, all sequences."""
    return sum(cache_bytes(group, request, n_ctx) for group in spec.caches)


def state_bytes(spec: ModelSpec, request: Request) -> int:
    """Return the bytes of all recurrent states, all sequences."""
    one = sum(group.n_layers * group.n_bytes for group in spec.states)
    return one * request.n_sequences


def saved_state_bytes(spec: ModelSpec, request: Request, n_ctx: int) -> int:
    """Return at most how much `run` saves of what cannot be computed backwards.

    States and windows; see llama/saved_states.py.
    """
    windows = (group for group in spec.caches if 0 < group.window < n_ctx)
    one = state_bytes(spec, request)
    one += sum(cache_bytes(group, request, n_ctx) for group in windows)
    return one * min(MAX_STATES, MAX_BYTES // one) if one else 0
