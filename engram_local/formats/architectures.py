"""What the pinned llama.cpp knows about architectures and does not write into files.

Facts of llama-cpp-python 0.3.36, from the files named below (in llama.cpp's `src/`).
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_LAYERS = 512  # LLAMA_MAX_LAYERS in llama-hparams.h


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


KNOWN = _names(
    """
    afmoe apertus arcee arctic arwkv7 baichuan bailingmoe bailingmoe2 bailingmoe3
    bert bitnet bloom chameleon chatglm codeshell cogvlm cohere2 cohere2moe
    command-r dbrx deci deepseek deepseek2 deepseek2-ocr deepseek32 deepseek4 dflash
    dots1 dots3note dream eagle3 ernie4_5 ernie4_5-moe eurobert exaone exaone-moe
    exaone4 falcon falcon-h1 gemma gemma-embedding gemma2 gemma3 gemma3n gemma4
    gemma4-assistant glm-dsa glm4 glm4moe glm5-next gpt-oss gpt2 gptj gptneox
    granite granite_swa granitehybrid granitemoe graniteswitch grok grovemoe
    hrm_text hunyuan-dense hunyuan-moe hunyuan_vl hy_v3 hy_v4 internlm2 jais jais2
    jamba jina-bert-v2 jina-bert-v3 kimi-k3 kimi-linear laguna lfm2 lfm2moe llada
    llada-moe llama llama-embed llama4 maincoder mamba mamba2 maple mellum mimo2
    minicpm minicpm3 minimax-01 minimax-m2 minimax-m3 mistral3 mistral4 modern-bert
    mpt muse-glimmer nanbeige nemotron nemotron_h nemotron_h_moe neo-bert nomic-bert
    nomic-bert-moe olmo olmo2 olmoe openelm orion paddleocr pangu-embedded phi2 phi3
    phimoe plamo plamo2 plamo3 plm pockettts qwen qwen2 qwen2moe qwen2vl qwen3
    qwen35 qwen35moe qwen3moe qwen3next qwen3tts qwen3vl qwen3vlmoe qwen4exp refact
    rnd1 rwkv6 rwkv6qwen2 rwkv7 seed_oss smallthinker smollm3 spark2_5 stablelm
    starcoder starcoder2 step35 t5 t5encoder talkie wavtokenizer-dec xverse
    """
)
"""Names of architectures that it runs (llama-arch.cpp)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sliding:
    """Which layers of an architecture look at a window of the context only."""

    period: int
    """Every so many layers, one has the whole context."""

    full_first: bool = False
    """Whether that one is the first of them, not the last."""

    window: int = 0
    """Tokens, where the file does not say; 0 = then there is no window."""

    fixed_window: int = 0
    """Tokens, whatever the file says unless it says 0; 0 = as the file says."""


SLIDING = {
    "afmoe": Sliding(period=4),
    "cohere2": Sliding(period=4),
    "cohere2moe": Sliding(period=4, full_first=True),
    "exaone-moe": Sliding(period=4, window=128),
    "gemma2": Sliding(period=2, window=4096),
    "gemma3": Sliding(period=6),
    "gemma3n": Sliding(period=5),
    "gpt-oss": Sliding(period=2),
    "laguna": Sliding(period=4, full_first=True),
    "llama4": Sliding(period=4, window=8192, fixed_window=8192),
    "mellum": Sliding(period=4),
    "muse-glimmer": Sliding(period=4),
    "olmo2": Sliding(period=4),
    "plamo3": Sliding(period=8),
    "smallthinker": Sliding(period=4, full_first=True, fixed_window=4096),
}
"""Where the pattern follows a rule unless the file has one (models/*.cpp)."""

SLIDING_LISTED = _names(
    "dflash dots3note gemma4 gemma4-assistant granite_swa maple mimo2 spark2_5 step35"
)
"""Where the file lists the layers with a window (models/*.cpp)."""

UNCACHED = _names(
    "bert dream eurobert gemma-embedding jina-bert-v2 jina-bert-v3 llada llada-moe "
    "modern-bert neo-bert nomic-bert nomic-bert-moe rnd1 wavtokenizer-dec"
)
"""Without any cache: encoders and diffusion (llama-model.cpp, create_memory)."""

RECURRENT = _names("mamba mamba2 rwkv6 rwkv6qwen2 rwkv7 arwkv7")
"""Without attention (llama-arch.cpp)."""

RECURRENT_WITHOUT_HEADS = _names(
    "bailingmoe3 glm5-next granitehybrid jamba kimi-k3 kimi-linear lfm2 lfm2moe plamo2"
)
"""A layer with no key-value heads is recurrent (models/*.cpp)."""

RECURRENT_WITHOUT_HEADS_OR_FFN = frozenset({"nemotron_h", "nemotron_h_moe"})
"""Of the others, those with no feed-forward have attention (models/nemotron-h.cpp)."""

FULL_ATTENTION_INTERVAL = {
    "minimax-01": 8,
    "qwen35": 4,
    "qwen35moe": 4,
    "qwen3next": 4,
    "qwen4exp": 4,
}
"""All layers but each n-th are recurrent; n where the file has none (models/*.cpp)."""

DRAFT_LAYERS_CACHED = _names(
    "bailingmoe3 deepseek4 falcon-h1 granitehybrid jamba kimi-k3 kimi-linear lfm2 "
    "lfm2moe minimax-m3 nemotron_h nemotron_h_moe plamo2 hy_v4"
)
"""Where the cache has room for draft layers too (llama-model.cpp, create_memory)."""

DRAFTS = frozenset({"dflash", "eagle3", "gemma4-assistant"})
"""They propose tokens for another model, some with its cache."""

LOOPED = frozenset({"hrm_text", "nanbeige"})
"""They use the same blocks again (models/hrm-text.cpp, models/nanbeige.cpp)."""
