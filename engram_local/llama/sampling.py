"""llama.cpp's sampler chain."""

from __future__ import annotations

import secrets
from typing import Any

import llama_cpp

from engram_local.settings import Settings

_LEAST_KEPT = 1  # candidates that top-p and min-p always leave


class Sampler:
    """Picks the next token. Owns a native chain: close it, once or more."""

    def __init__(self, settings: Settings) -> None:
        params = llama_cpp.llama_sampler_chain_default_params()
        self._chain: Any = llama_cpp.llama_sampler_chain_init(params)
        for sampler in _samplers(settings):
            llama_cpp.llama_sampler_chain_add(self._chain, sampler)

    def sample(self, context: Any) -> int:
        """Return the next token id, from the logits of the last decoded position."""
        return int(llama_cpp.llama_sampler_sample(self._chain, context, -1))

    def close(self) -> None:
        """Free the chain."""
        if self._chain is not None:
            llama_cpp.llama_sampler_free(self._chain)
            self._chain = None


def _samplers(settings: Settings) -> list[Any]:
    if settings.temperature == 0:
        return [llama_cpp.llama_sampler_init_greedy()]
    # None: the system's randomness, not a time stamp that two runs may share.
    seed = secrets.randbits(31) if settings.seed is None else settings.seed
    return [
        llama_cpp.llama_sampler_init_top_k(settings.top_k),
        llama_cpp.llama_sampler_init_top_p(settings.top_p, _LEAST_KEPT),
        llama_cpp.llama_sampler_init_min_p(settings.min_p, _LEAST_KEPT),
        llama_cpp.llama_sampler_init_temp(settings.temperature),
        llama_cpp.llama_sampler_init_dist(seed),
    ]
