"""Families of Hugging Face configs by their names."""

from __future__ import annotations

from collections.abc import Callable

from engram_local.errors import UnsupportedError
from engram_local.formats.fields import Fields
from engram_local.formats.hf_dims import Dims, Shape
from engram_local.formats.hf_ngram import deepseek_v41, longcat, qwen4_exp
from engram_local.formats.hf_plain import (
    deepseek_v3,
    gemma3,
    gemma3n,
    gemma4,
    gpt_oss,
    plain,
)


def read_shape(fields: Fields, model_type: str, dims: Dims) -> Shape:
    """Return the shape of a family; one that is not known is taken for a plain one.

    Raises FormatError where a key is wrong or missing, UnsupportedError where the
    family is not known and has not the keys of a plain one either.
    """
    family = _FAMILIES.get(model_type)
    if family is not None:
        return family(fields, dims)
    if "intermediate_size" not in fields:
        raise UnsupportedError(
            f"{fields.path}: model_type {model_type} is not known here, and it has no "
            "intermediate_size to take it for a plain transformer",
            hint="use a GGUF file of the model, its header has all sizes",
        )
    return plain(fields, dims, model_type, unknown=True)


def _named(architecture: str) -> Callable[[Fields, Dims], Shape]:
    return lambda fields, dims: plain(fields, dims, architecture)


_FAMILIES: dict[str, Callable[[Fields, Dims], Shape]] = {
    "llama": _named("llama"),
    "mistral": _named("llama"),
    "qwen2": _named("qwen2"),
    "qwen3": _named("qwen3"),
    "qwen3_moe": _named("qwen3moe"),
    "gemma3": gemma3,
    "gemma3_text": gemma3,
    "gemma3n": gemma3n,
    "gemma3n_text": gemma3n,
    "gemma4": gemma4,
    "gemma4_text": gemma4,
    "gpt_oss": gpt_oss,
    "deepseek_v3": deepseek_v3,
    "deepseek_v41": deepseek_v41,
    "qwen4_exp": qwen4_exp,
    "qwen4_exp_text": qwen4_exp,
    "longcat_flash_ngram": longcat,
}
