"""What a model keeps per token and per sequence, as llama.cpp allocates it.

Follows llama-hparams.cpp, create_memory in llama-model.cpp, llama-kv-cache*.cpp and
llama-memory-recurrent.cpp.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from engram_local.formats.architectures import MAX_LAYERS, RECURRENT, UNCACHED
from engram_local.formats.layers import attending, key_heads, recurrent, sliding
from engram_local.formats.model_keys import ModelKeys
from engram_local.model_spec import INDEXER, CacheGroup, StateGroup

_F32_BYTES = 4
_CSA_RATIO = 4  # llama-kv-cache-dsv4.cpp: tokens of one compressed entry
_HCA_RATIO = 128


def read_caches(keys: ModelKeys) -> tuple[CacheGroup, ...]:
    """Return the caches of a model, one group for each shape."""
    if keys.rules in UNCACHED or keys.rules in RECURRENT:
        return ()
    heads = _Heads.read(keys)
    if keys.rules == "deepseek4":
        return _compressed(keys, heads)
    return (*_attention(keys, heads), *_router(keys, heads), *_indexer(keys, heads))


def read_states(keys: ModelKeys) -> tuple[StateGroup, ...]:
    """Return the states of a model's recurrent layers."""
    if keys.rules == "deepseek4":
        return _compressor_states(keys)
    n_layers = sum(recurrent(keys)[: keys.n_layers])
    n_bytes = _F32_BYTES * (_shift_state(keys) + _recurrent_state(keys))
    if not n_layers or not n_bytes:
        return ()
    return (StateGroup(n_layers=n_layers, n_bytes=n_bytes),)


def n_passes(keys: ModelKeys) -> int:
    """Return how often a token goes through the blocks (models/nanbeige.cpp)."""
    if keys.rules != "nanbeige":
        return 1
    return max(1, min(keys.integer("num_loops", 1), MAX_LAYERS // keys.n_blocks))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Heads:
    """Key-value heads of each block and their widths."""

    kv: tuple[int, ...]
    key: int
    value: int
    sliding_key: int
    sliding_value: int
    latent: bool
    """MLA: the key serves as the value too."""

    @classmethod
    def read(cls, keys: ModelKeys) -> _Heads:
        key, value = _head_sizes(keys)
        latent = keys.integer("attention.key_length_mla", 0)
        return cls(
            kv=key_heads(keys),
            key=key,
            value=value,
            sliding_key=keys.integer("attention.key_length_swa", key),
            sliding_value=keys.integer("attention.value_length_swa", value),
            latent=latent > 0 and keys.integer("attention.value_length_mla", 0) > 0,
        )

    def sizes(self, block: int, slides: bool) -> tuple[int, int]:
        """Return the sizes of a token's key and value in one block."""
        key = self.sliding_key if slides else self.key
        value = self.sliding_value if slides else self.value
        return key * self.kv[block], 0 if self.latent else value * self.kv[block]


def _head_sizes(keys: ModelKeys) -> tuple[int, int]:
    n_heads = keys.per_block("attention.head_count")[0]
    if n_heads == 0 and keys.rules != "plamo2":  # as llama.cpp does
        return 0, 0
    width = keys.integer("embedding_length") // max(n_heads, 1)
    key = keys.integer("attention.key_length", width)
    return key, keys.integer("attention.value_length", width)


def _attention(keys: ModelKeys, heads: _Heads) -> tuple[CacheGroup, ...]:
    window, slides = sliding(keys)
    shapes = Counter(
        (slides[block], *heads.sizes(block, slides[block])) for block in attending(keys)
    )
    return tuple(
        CacheGroup(
            kind="sliding window" if in_window else "attention",
            n_layers=n_layers * n_passes(keys),
            key_size=key_size,
            value_size=value_size,
            window=window if in_window else 0,
        )
        for (in_window, key_size, value_size), n_layers in shapes.items()
        if key_size or value_size
    )


def _router(keys: ModelKeys, heads: _Heads) -> tuple[CacheGroup, ...]:
    """Return the layer that chooses an adapter (models/granite-switch.cpp)."""
    if keys.rules != "graniteswitch":
        return ()
    group = CacheGroup(
        kind="attention", n_layers=1, key_size=heads.key, value_size=heads.value
    )
    return (group,)


def _indexer(keys: ModelKeys, heads: _Heads) -> tuple[CacheGroup, ...]:
    """Return the keys with which sparse attention chooses tokens; one head."""
    blocks = _indexing(keys)
    if not blocks:
        return ()
    key_size = keys.integer("attention.indexer.key_length")
    if keys.rules == "glm5-next":  # key, gate and pooled value
        key_size *= 3
    # Only MLA makes llama.cpp leave out the values, which no indexer uses.
    keys_only = heads.latent or keys.rules == "qwen4exp"
    group = CacheGroup(
        kind=INDEXER,
        n_layers=len(blocks),
        key_size=key_size,
        value_size=0 if keys_only else heads.value,
    )
    return (group,)


def _indexing(keys: ModelKeys) -> tuple[int, ...]:
    """Return the blocks with an indexer of their own (create_memory)."""
    trunk = range(keys.n_layers)
    if keys.rules == "deepseek32":
        return tuple(trunk)
    if keys.rules == "qwen4exp":
        return attending(keys)
    if keys.rules == "minimax-m3":
        return tuple(range(keys.integer("leading_dense_block_count", 0), keys.n_blocks))
    if keys.rules == "hy_v4" and keys.integer("attention.indexer.top_k", 0) == 0:
        return ()
    if keys.rules not in ("glm-dsa", "glm5-next", "dots3note", "hy_v4"):
        return ()
    full = _full_indexers(keys)
    states = recurrent(keys)
    return tuple(block for block in trunk if full[block] and not states[block])


def _full_indexers(keys: ModelKeys) -> tuple[int, ...]:
    """Return for each layer whether it has an indexer, or uses that of one before."""
    key = "attention.indexer.types"
    if keys.rules == "dots3note":
        return (keys.integers(key) + (0,) * keys.n_layers)[: keys.n_layers]
    if keys.has(key):
        return keys.per_block(key, n=keys.n_layers)
    if keys.rules == "glm-dsa" and keys.integer("context_length") >= 1 << 20:
        # GLM 5.2 (models/glm-dsa.cpp): 0, 1 and every fourth from 2 on, up to 78.
        return tuple(
            int(block < 78 and (block < 2 or block % 4 == 2))
            for block in range(keys.n_layers)
        )
    return (0 if keys.rules == "hy_v4" else 1,) * keys.n_layers


def _compressed(keys: ModelKeys, heads: _Heads) -> tuple[CacheGroup, ...]:
    """Return the four caches of DeepSeek V4 (llama-kv-cache-dsv4.cpp); keys only."""
    ratios = _ratios(keys)
    key_size = heads.sliding_key * max(heads.kv)
    raw = CacheGroup(
        kind="sliding window",
        n_layers=keys.n_blocks,
        key_size=key_size,
        value_size=0,
        window=keys.integer("attention.sliding_window"),
    )
    compressed = CacheGroup(
        kind="compressed",
        n_layers=ratios.count(_CSA_RATIO),
        key_size=key_size,
        value_size=0,
        ratio=_CSA_RATIO,
    )
    groups = (
        raw,
        compressed,
        replace(compressed, n_layers=ratios.count(_HCA_RATIO), ratio=_HCA_RATIO),
        replace(
            compressed,
            kind=INDEXER,
            key_size=keys.integer("attention.indexer.key_length"),
        ),
    )
    return tuple(group for group in groups if group.n_layers)


def _ratios(keys: ModelKeys) -> tuple[int, ...]:
    """Return for each block how many tokens are compressed into one entry."""
    ratios = keys.integers("attention.compress_ratios")
    if len(ratios) < keys.n_blocks:
        raise keys.wrong(
            "attention.compress_ratios",
            f"has {len(ratios)} values, {keys.n_blocks} are needed",
        )
    return ratios[: keys.n_blocks]


def _compressor_states(keys: ModelKeys) -> tuple[StateGroup, ...]:
    """Return what is not yet compressed: key and score, for two entries or one."""
    ratios = _ratios(keys)[: keys.n_layers]
    key_size = _head_sizes(keys)[0]
    indexer_size = keys.integer("attention.indexer.key_length")
    two_entries = 2 * _CSA_RATIO * 2 * (key_size + indexer_size)
    groups = (
        StateGroup(
            n_layers=ratios.count(_CSA_RATIO), n_bytes=2 * _F32_BYTES * two_entries
        ),
        StateGroup(
            n_layers=ratios.count(_HCA_RATIO),
            n_bytes=2 * _F32_BYTES * _HCA_RATIO * key_size,
        ),
    )
    return tuple(group for group in groups if group.n_layers)


def _shift_state(keys: ModelKeys) -> int:
    """Return the values of a convolution's past (n_embd_r in llama-hparams.cpp)."""
    width = keys.integer("embedding_length")
    if keys.integer("wkv.head_size", 0):
        return width * keys.integer("token_shift_count", 2)
    if n_taps := keys.integer("shortconv.l_cache", 0):
        return width * (n_taps - 1)
    if head_size := keys.integer("kda.head_dim", 0):
        n_heads = keys.per_block("attention.head_count")[0]
        past = max(keys.integer("ssm.conv_kernel", 4), 1) - 1
        return 3 * past * n_heads * head_size
    past = max(keys.integer("ssm.conv_kernel", 0), 1) - 1
    groups = 2 * keys.integer("ssm.group_count", 0) * keys.integer("ssm.state_size", 0)
    return past * (keys.integer("ssm.inner_size", 0) + groups)


def _recurrent_state(keys: ModelKeys) -> int:
    """Return the values of the state itself (n_embd_s in llama-hparams.cpp)."""
    n_heads = keys.per_block("attention.head_count")[0]
    if head_size := keys.integer("wkv.head_size", 0):
        return keys.integer("embedding_length") * head_size
    if head_size := keys.integer("kda.head_dim", 0):
        return head_size * head_size * n_heads
    if keys.rules == "minimax-01":
        head_size = _head_sizes(keys)[0]
        return head_size * head_size * n_heads
    return keys.integer("ssm.state_size", 0) * keys.integer("ssm.inner_size", 0)
