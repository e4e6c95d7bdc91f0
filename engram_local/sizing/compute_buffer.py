"""How large llama.cpp's compute buffer gets: a bound from a model's shape.

llama.cpp reserves one buffer per device for the values that live at the same time while
one micro-batch of tokens passes through the graph. It is the largest of three moments:
attention, feed-forward and logits. What each of them needs follows from the graph; what
the allocator wastes between them does not, so it is bounded. For llama's graph, with or
without experts, none of 16,170 dry runs of random shapes reserved more; half of them
reserved within 11 %, and those of up to 1,024 tokens at most 257 MiB less
(tests/sizing/compute_buffers.json holds runs of real shapes).
"""

from __future__ import annotations

from collections.abc import Sequence

from engram_local.model_spec import CacheGroup, ModelSpec
from engram_local.sizing.cache import cache_cells
from engram_local.units import MIB

_F16, _F32, _INDEX = 2, 4, 8
_SLACK_BYTES = MIB  # alignment, token ids, positions: 0.3 MiB in the worst dry run
_UNKNOWN_HEAD = 256
"""The widest query head of models whose head size is not known: Qwen3.5, Gemma 3."""

_RANKING_BYTES = {"qwen4exp": 10}
"""Per token and cell, by architecture, of indexers that keep their scores: here of 4
heads over groups of 4 cells, twice, and the sums spread over all cells; 9.5 in dry
runs. deepseek4's are fused and keep next to nothing."""


def compute_buffer_bytes(
    spec: ModelSpec,
    *,
    n_ctx: int,
    n_ubatch: int,
    flash_attention: bool,
    n_seqs: int = 1,
    unified: bool = False,
    n_outputs: int | None = None,
    n_copies: int = 1,
    unpacked_cache: bool = False,
    copied_bytes: int = 0,
) -> int:
    """Return what llama.cpp reserves for its graph on each device, at most.

    n_ctx: tokens of all sequences. n_ubatch: tokens computed at once. n_seqs, unified:
    as for `cache_cells`. n_outputs: tokens of a micro-batch that get logits, None = all
    (llama.cpp's default; its server asks for one per sequence). n_copies: micro-batches
    in flight; llama.cpp keeps four where it splits all layers over several GPUs.
    unpacked_cache: whether one layer's cache is kept as float16 too, as flash attention
    on a GPU does with a quantized one. copied_bytes: weights of one operation, for a
    GPU beside layers or experts in RAM; they are copied there for prompts. Without
    flash attention the scores of all heads are kept, which is most of it.
    """
    n_tokens = min(n_ubatch, n_ctx)
    cells = [
        cache_cells(group, n_ctx, n_ubatch, n_seqs=n_seqs, unified=unified)
        for group in spec.caches
    ]
    graph = _Graph(spec, cells, n_tokens, flash_attention)
    n_outputs = n_tokens if n_outputs is None else min(n_outputs, n_tokens)
    attention, feed_forward = graph.attention(), graph.feed_forward()
    if unpacked_cache:
        attention += _F16 * max(map(_layer_values, spec.caches, cells), default=0)
    feed_forward += copied_bytes
    peak = max(attention, feed_forward, graph.logits(n_outputs))
    if n_copies > 1:  # of what comes from another device; one of the inputs is in peak
        # Twice with experts: two published loads took 25 MiB more than one explains.
        n_crossing = n_copies * (2 if spec.n_experts else 1)
        peak += (n_copies - 1) * graph.inputs + n_crossing * graph.hidden
    return peak + _SLACK_BYTES


class _Graph:
    """Bytes of values, float32, for all tokens of a micro-batch."""

    def __init__(
        self,
        spec: ModelSpec,
        cells: Sequence[int],
        n_tokens: int,
        flash_attention: bool,
    ) -> None:
        value = _F32 * n_tokens  # one per token
        most_cells = max(cells, default=0)
        self.n_tokens = n_tokens
        self.spec = spec
        self.hidden = value * spec.hidden_size * spec.n_streams
        self.wide = max(self.hidden, value * _query_width(spec))
        # One mask for all layers whose caches are alike.
        masks = n_tokens * sum(set(cells))
        self.inputs = masks * (_F16 if flash_attention else _F32)
        self.scores = n_tokens * most_cells * _RANKING_BYTES.get(spec.architecture, 0)
        if not flash_attention:
            # Values lie transposed in the cache then, and each gets an index.
            widths = {group.value_size for group in spec.caches}
            self.inputs += _INDEX * n_tokens * sum(widths)
            self.scores += value * spec.n_heads * most_cells

    def attention(self) -> int:
        """Scores, queries, keys, values, perhaps a gate as wide, and two residuals."""
        return self.inputs + self.scores + self.wide + self._holes()

    def feed_forward(self) -> int:
        """Gate, up and their product; what the experts put out, if it is wider."""
        spec = self.spec
        values = 3 * spec.ffn_size + 3 * spec.n_experts
        expert_outputs = spec.n_experts_used * spec.hidden_size
        if spec.n_experts_used == 1:  # copied once more
            values += 2 * expert_outputs
        elif expert_outputs > 2 * spec.ffn_size:  # does not fit where gate and up were
            values += expert_outputs
        return self.inputs + _F32 * self.n_tokens * values + self._holes()

    def logits(self, n_outputs: int) -> int:
        """Logits and two hidden states, behind whatever still lies before them."""
        spec = self.spec
        before = 4 * self.hidden + min(self.inputs + self.hidden, 4 * self.wide)
        return _F32 * n_outputs * (spec.vocab_size + 2 * spec.hidden_size) + before

    def _holes(self) -> int:
        """Two or three residuals and queries, keys and values; the rest lies unused."""
        return 4 * self.hidden + 2 * self.wide


def _layer_values(group: CacheGroup, n_cells: int) -> int:
    return n_cells * (group.key_size + group.value_size)


def _query_width(spec: ModelSpec) -> int:
    """Return the values of a token's queries, all heads."""
    width = 0
    for group in spec.caches:
        if group.value_size == 0:  # latents: every head has a query as wide as them
            head = max(spec.head_size, group.key_size)
        else:
            head = spec.head_size or min(group.key_size, _UNKNOWN_HEAD)
        width = max(width, spec.n_heads * head)
    return width
