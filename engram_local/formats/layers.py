"""Which layers of a model have attention, a window, or a state of fixed size.

As llama.cpp decides it: create_memory in llama-model.cpp and models/*.cpp. What it
knows of single architectures is in `architectures`.
"""

from __future__ import annotations

from engram_local.errors import FormatError
from engram_local.formats.architectures import (
    DRAFT_LAYERS_CACHED,
    FULL_ATTENTION_INTERVAL,
    RECURRENT,
    RECURRENT_WITHOUT_HEADS,
    RECURRENT_WITHOUT_HEADS_OR_FFN,
    SLIDING,
    SLIDING_LISTED,
    Sliding,
)
from engram_local.formats.model_keys import ModelKeys

_PATTERN = "attention.sliding_window_pattern"
_WINDOW = "attention.sliding_window"
_GEMMA3N_OWN_KEYS = 20  # models/gemma3n.cpp: later layers use the last ones' keys


def key_heads(keys: ModelKeys) -> tuple[int, ...]:
    """Return the key-value heads of each block."""
    if keys.has("attention.head_count_kv"):
        return keys.per_block("attention.head_count_kv")
    return keys.per_block("attention.head_count")


def attending(keys: ModelKeys) -> tuple[int, ...]:
    """Return the blocks that have keys and values of their own."""
    n = keys.n_blocks if keys.rules in DRAFT_LAYERS_CACHED else keys.n_layers
    blocks = range(min(n, _blocks_before_shared_keys(keys)))
    if keys.rules == "falcon-h1":  # attention and state in every layer
        return tuple(blocks)
    ffn = _feed_forward(keys)
    states = recurrent(keys)
    return tuple(block for block in blocks if not states[block] and not ffn[block])


def _blocks_before_shared_keys(keys: ModelKeys) -> int:
    if keys.rules == "gemma3n":
        return _GEMMA3N_OWN_KEYS
    if keys.rules != "gemma4":
        return keys.n_blocks
    n_shared = keys.integer("attention.shared_kv_layers", 0)
    if n_shared > keys.n_blocks:
        raise FormatError(
            f"{keys.header.path}: {n_shared} of {keys.n_blocks} layers share keys"
        )
    return keys.n_blocks - n_shared


def recurrent(keys: ModelKeys) -> tuple[bool, ...]:
    """Return for each block whether it keeps a state of fixed size."""
    if keys.rules in RECURRENT or keys.rules == "falcon-h1":
        return (True,) * keys.n_blocks
    if keys.rules in FULL_ATTENTION_INTERVAL:
        return _all_but_some(keys)
    if keys.rules not in RECURRENT_WITHOUT_HEADS | RECURRENT_WITHOUT_HEADS_OR_FFN:
        return (False,) * keys.n_blocks
    return tuple(
        n_heads == 0 and n_values == 0 and block < keys.n_layers
        for block, (n_heads, n_values) in enumerate(
            zip(key_heads(keys), _feed_forward(keys), strict=True)
        )
    )


def _feed_forward(keys: ModelKeys) -> tuple[int, ...]:
    """Return the width of feed-forwards that are layers of their own, else zeros."""
    if keys.rules in RECURRENT_WITHOUT_HEADS_OR_FFN:
        return keys.per_block("feed_forward_length")
    return (0,) * keys.n_blocks


def _all_but_some(keys: ModelKeys) -> tuple[bool, ...]:
    if keys.has("attention.recurrent_layers"):
        listed = keys.per_block("attention.recurrent_layers")
        return tuple(bool(states) for states in listed)
    default = FULL_ATTENTION_INTERVAL[keys.rules]
    interval = keys.integer("full_attention_interval", default)
    if interval == 0:
        raise FormatError(f"{keys.header.path}: full_attention_interval is 0")
    return tuple(
        block < keys.n_layers and (block + 1) % interval != 0
        for block in range(keys.n_blocks)
    )


def sliding(keys: ModelKeys) -> tuple[int, tuple[bool, ...]]:
    """Return the tokens of the window, and for each block whether it has one."""
    window = keys.integer(_WINDOW, 0)
    if keys.rules in SLIDING_LISTED and window:
        return window, _listed(keys)
    if keys.rules == "lfm2" and window:
        return window, tuple(not states for states in recurrent(keys))
    rule = _rule(keys)
    window = keys.integer(_WINDOW, rule.window) if rule else 0
    if rule is None or window == 0:
        return 0, (False,) * keys.n_blocks
    return rule.fixed_window or window, _by_rule(keys, rule)


def _rule(keys: ModelKeys) -> Sliding | None:
    if keys.rules == "exaone4" and keys.n_layers == 64:  # models/exaone4.cpp: 32B
        return Sliding(period=4, window=4096)
    return SLIDING.get(keys.rules)


def _by_rule(keys: ModelKeys, rule: Sliding) -> tuple[bool, ...]:
    if keys.is_array(_PATTERN):
        return _listed(keys)
    period = keys.integer(_PATTERN, rule.period)
    full = 0 if rule.full_first else period - 1
    return tuple(
        block < keys.n_layers and (period == 0 or block % period != full)
        for block in range(keys.n_blocks)
    )


def _listed(keys: ModelKeys) -> tuple[bool, ...]:
    listed = tuple(bool(slides) for slides in keys.integers(_PATTERN))
    return (listed + (False,) * keys.n_blocks)[: keys.n_blocks]
