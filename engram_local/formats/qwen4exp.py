"""Qwen3.8-Flash-Next and its kin (`qwen4exp`): one table, hashed over raw token ids."""

from __future__ import annotations

from dataclasses import replace

from engram_local.errors import FormatError
from engram_local.formats.header import Header, TensorInfo
from engram_local.formats.limits import check_limits
from engram_local.formats.model_keys import ModelKeys
from engram_local.formats.native_table import read_table_spec
from engram_local.formats.plain_model import describe, vocab_size
from engram_local.memory.module import NativeModule
from engram_local.model_spec import ModelSpec, StateGroup, TableShape
from engram_local.spec import Boundary, HashSpec, LayerSpec, MemorySpec, Window
from engram_local.units import format_count

_ARCHITECTURE = "qwen4exp"
_TABLE = "per_layer_token_embd.weight"
_F32_BYTES = 4

# Of llama.cpp: rows have int32 numbers, hash constants lie in arrays of fixed lengths.
_MAX_ROWS = 2**31 - 1
_MAX_NGRAM = 8
_MAX_SLOTS = 64


def matches(header: Header) -> bool:
    """Return whether the model is of this kind; it may have no table."""
    return header.architecture == _ARCHITECTURE


def read_model(header: Header) -> ModelSpec:
    """Return the model; raise FormatError where its numbers contradict each other."""
    keys = ModelKeys.of(header)
    spec = describe(keys)
    if not keys.has("ple.layers"):
        return spec
    constants = _read_hash(keys)
    table = _table(keys, constants.n_rows)
    shape = TableShape(
        layer_id=_layer_id(keys),
        n_rows=table.shape[1],
        width=table.shape[0],
        rows_per_token=constants.n_slots,
        orders=tuple(constants.orders),
        n_heads=constants.n_heads,
    )
    past = StateGroup(n_layers=1, n_bytes=_F32_BYTES * _convolution_past(keys))
    return replace(spec, tables=(shape,), states=(*spec.states, past))


def read_native(header: Header) -> NativeModule | None:
    """Return hash and table, so that rows can be known without llama.cpp.

    None: a model without a table. Raises FormatError where numbers are missing or
    contradict each other, UnsupportedError for row types that are not read here.
    """
    keys = ModelKeys.of(header)
    check_limits(keys)
    if not keys.has("ple.layers"):
        return None
    if (
        keys.integer("ple.conv_kernel") < 2
    ):  # 1 ends llama.cpp with a segmentation fault
        raise keys.wrong("ple.conv_kernel", "should be at least 2")
    constants = _read_hash(keys)
    table = _table(keys, constants.n_rows)
    layer = LayerSpec(
        layer_id=_layer_id(keys),
        hash=constants,
        table=read_table_spec(header, table),
    )
    return NativeModule(
        path=table.path,
        spec=MemorySpec(layers=(layer,), n_canonical=vocab_size(keys)),
        node="ple_embd",
        image_id=keys.integer("ple.image_token_id", 0) or None,  # 0 is none, too
    )


def _layer_id(keys: ModelKeys) -> int:
    layer_ids = keys.integers("ple.layers")
    if len(layer_ids) != 1 or layer_ids[0] >= keys.n_layers:
        raise keys.wrong("ple.layers", f"is {list(layer_ids)}, one layer is needed")
    return layer_ids[0]


def _read_hash(keys: ModelKeys) -> HashSpec:
    constants = HashSpec(
        multipliers=keys.words("ple.layer_multipliers"),
        sizes=keys.words("ple.head_vocab_sizes"),
        offsets=keys.words("ple.head_offsets"),
        n_heads=keys.integer("ple.heads_per_ngram"),
        window=Window.NEWEST_FIRST,
        boundary=Boundary.EOS,
        fill_id=keys.integer("ple.eos_token_id"),
    )
    if constants.max_ngram != keys.integer("ple.ngram_size"):
        raise keys.wrong("ple.layer_multipliers", "has one number per n-gram position")
    if constants.max_ngram > _MAX_NGRAM or constants.n_slots > _MAX_SLOTS:
        raise keys.wrong(
            "ple.ngram_size",
            f"is {constants.max_ngram} with {constants.n_slots} rows per token, "
            f"{_MAX_NGRAM} and {_MAX_SLOTS} can be",
        )
    _check_ids(keys)
    return constants


def _check_ids(keys: ModelKeys) -> None:
    """Tokens that are in no vocabulary would hash to rows that were never trained."""
    n_tokens = vocab_size(keys)
    for key in ("ple.eos_token_id", "ple.image_token_id"):
        if keys.integer(key, 0) >= n_tokens:
            raise keys.wrong(
                key, f"is {keys.integer(key)}, the vocabulary has {n_tokens} tokens"
            )


def _table(keys: ModelKeys, n_rows: int) -> TensorInfo:
    table = keys.header.tensor(_TABLE)
    width = keys.integer("embedding_length_per_layer_input")
    if len(table.shape) != 2 or table.shape[0] != width:
        raise FormatError(
            f"{keys.header.path}: {_TABLE} has the shape {table.shape}, rows of "
            f"{width} values are needed"
        )
    n_slots = len(keys.words("ple.head_offsets"))
    if n_slots * width != keys.integer("embedding_length"):
        raise keys.wrong(
            "embedding_length",
            f"is {format_count(keys.integer('embedding_length'))}, the {n_slots} rows "
            f"of a token have {width} values each",
        )
    if not n_rows <= table.shape[1] <= _MAX_ROWS:
        raise FormatError(
            f"{keys.header.path}: the hash reaches {format_count(n_rows)} rows, "
            f"{_TABLE} has {format_count(table.shape[1])}; "
            f"{format_count(_MAX_ROWS)} can be numbered"
        )
    return table


def _convolution_past(keys: ModelKeys) -> int:
    """Return the values that the table's convolution keeps (ple_conv_state)."""
    taps = keys.integer("ple.conv_kernel")
    width = keys.integer("hyper_connection.count") * keys.integer("embedding_length")
    return max(taps - 1, 0) * keys.integer("ple.ngram_size") * width
