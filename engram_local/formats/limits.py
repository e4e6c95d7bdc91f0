"""Numbers that llama.cpp takes from a file unseen, and aborts on: refused before.

GGML_ASSERT ends the whole process, without a sentence of ours and in the middle of a
chat. These are the rules behind those that a file with a table of its own can break
(0.3.36: llama-model.cpp, ggml-cpu/ops.cpp; found by changing every key of small ones).
"""

from __future__ import annotations

from engram_local.errors import FormatError
from engram_local.formats.model_keys import ModelKeys
from engram_local.formats.weights import is_table
from engram_local.units import format_count

_F32 = 0
_NO_WEIGHTS = {24, 25, 26, 27, 28}  # ggml's numbers: integers of 8 to 64 bits, doubles
_MATRICES = "gate_inp_shexp.weight"  # of one row
_MAX_EXPERTS = 1024
_MAX_WINDOW = 2**24
"""More tokens than any model has; 2^31 is a cache of negative length."""

_MAX_RATIO = 2**16
_TOKENS = "tokenizer.ggml.tokens"
_USED = "expert_used_count"
_EPSILON = "attention.layer_norm_rms_epsilon"
_SECTIONS = "rope.dimension_sections"


def check_limits(keys: ModelKeys) -> None:
    """Raise FormatError for a number that llama.cpp would abort on, or wait forever."""
    _check_types(keys)
    _check_tokens(keys)
    _check_experts(keys)
    if not 0 < keys.integer("context_length") < 2**31:
        raise keys.wrong(
            "context_length", f"is {format_count(keys.integer('context_length'))}"
        )
    if keys.has(_EPSILON):
        epsilon = keys.header.number(f"{keys.prefix}.{_EPSILON}")
        if not 0 <= epsilon < 1:  # NaN is neither
            raise keys.wrong(_EPSILON, f"is {epsilon}")
    head = keys.integer("attention.key_length", _even_head(keys))
    rotated = keys.integer("rope.dimension_count", head)
    _check_rotated(keys, "rope.dimension_count", rotated, head)
    if keys.rules == "gemma4":
        _check_gemma4(keys, rotated, head)
    if keys.rules == "qwen4exp":
        _check_qwen4exp(keys, rotated, head)


def _check_types(keys: ModelKeys) -> None:
    """No weight is an integer, and what is added or multiplied has full precision."""
    for tensor in keys.header.tensors.values():
        if is_table(tensor.name):  # any type of rows; see native_table.py
            continue
        is_vector = len(tensor.shape) == 1 and not tensor.name.endswith(_MATRICES)
        full = is_vector or tensor.name.endswith("ssm_conv1d.weight")
        if tensor.type_id in _NO_WEIGHTS or (full and tensor.type_id != _F32):
            raise FormatError(
                f"{keys.header.path}: {tensor.name} {list(tensor.shape)} is of ggml's "
                f"type {tensor.type_id}, which llama.cpp cannot compute with there"
            )


def _check_tokens(keys: ModelKeys) -> None:
    if _TOKENS not in keys.header.metadata:
        return
    named = [text for text in keys.header.texts(_TOKENS) if text]
    n_twice = len(named) - len(set(named))
    if n_twice:
        raise FormatError(
            f"{keys.header.path}: {format_count(n_twice)} tokens are in its vocabulary "
            "twice",
            hint="the file is damaged: download it again",
        )


def _even_head(keys: ModelKeys) -> int:
    return keys.integer("embedding_length") // max(
        keys.largest("attention.head_count"), 1
    )


def _check_experts(keys: ModelKeys) -> None:
    n_experts, n_used = keys.integer("expert_count", 0), keys.largest(_USED)
    if n_experts > _MAX_EXPERTS:
        raise keys.wrong(
            "expert_count", f"is {format_count(n_experts)}, {_MAX_EXPERTS} can be"
        )
    if n_used > n_experts or (n_experts > 0 and n_used == 0):
        raise keys.wrong(_USED, f"is {n_used} of {n_experts} experts")
    n_groups = keys.integer("expert_group_count", 0)
    n_groups_used = keys.integer("expert_group_used_count", 0)
    if n_groups == 0 or n_groups == 1 < n_experts:
        return
    divides = n_groups < n_experts and n_experts % n_groups == 0
    if not divides or not 0 < n_groups_used < n_groups:
        raise keys.wrong(
            "expert_group_count",
            f"is {format_count(n_groups)}, of which {n_groups_used} are used, for "
            f"{n_experts} experts",
        )


def _check_rotated(keys: ModelKeys, key: str, rotated: int, head: int) -> None:
    if rotated == 0 or rotated % 2 or rotated > head:
        raise keys.wrong(
            key, f"is {format_count(rotated)}: even, 2 to {head} is needed"
        )


def _check_gemma4(keys: ModelKeys, rotated: int, head: int) -> None:
    key = "rope.dimension_count_swa"
    narrow = keys.integer("attention.key_length_swa", head)
    _check_rotated(keys, key, keys.integer(key, rotated), narrow)
    window = keys.integer("attention.sliding_window", 0)
    if window > _MAX_WINDOW:
        raise keys.wrong("attention.sliding_window", f"is {format_count(window)}")
    n_shared = keys.integer("attention.shared_kv_layers", 0)
    if keys.n_layers - n_shared < 2:
        raise keys.wrong(
            "attention.shared_kv_layers",
            f"is {format_count(n_shared)} of {keys.n_layers} layers, two must be left",
        )


def _check_qwen4exp(keys: ModelKeys, rotated: int, head: int) -> None:
    if keys.integer("expert_count", 0) == 0:
        raise keys.wrong("expert_count", "is missing or 0")
    indexer = keys.integer("attention.indexer.key_length", rotated)
    _check_rotated(keys, "attention.indexer.key_length", rotated, indexer)
    sections = keys.integers(_SECTIONS) if keys.has(_SECTIONS) else (rotated,)
    if not any(sections[:3]) or sum(sections) > head:
        raise keys.wrong(_SECTIONS, f"is {list(sections)} for heads of {head}")
    _check_state(keys)
    ratio = keys.largest("attention.compress_ratios")
    if ratio > _MAX_RATIO:
        raise keys.wrong("attention.compress_ratios", f"has {format_count(ratio)}")


def _check_state(keys: ModelKeys) -> None:
    names = ("inner_size", "state_size", "time_step_rank")
    if not all(keys.has(f"ssm.{name}") for name in names):
        return  # llama.cpp says so
    inner, state, n_heads = (keys.integer(f"ssm.{name}") for name in names)
    if inner != state * n_heads:
        raise keys.wrong(
            "ssm.inner_size", f"is {format_count(inner)} for {n_heads} heads of {state}"
        )
