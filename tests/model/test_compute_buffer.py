"""The bound of the compute buffer, against dry runs of the installed llama.cpp."""

from __future__ import annotations

import ctypes
import logging
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import llama_cpp
import pytest

from engram_local.bench.synthetic_llama import parse_shape, write_backbone
from engram_local.figures import Source
from engram_local.formats.backbone import read_backbone
from engram_local.formats.header import read_header
from engram_local.llama import logs
from engram_local.model_spec import CacheGroup, ModelSpec, Weights
from engram_local.sizing.compute_buffer import compute_buffer_bytes
from engram_local.units import MIB

pytestmark = pytest.mark.model

LOADS = [(512, 64), (2048, 512), (4096, 512), (4096, 1024)]
"""Context and micro-batch."""


@pytest.fixture(scope="module", params=["default", "512x8", "1024x4"])
def model(
    request: pytest.FixtureRequest,
    quantized: Path,  # its vocabulary is copied
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    if request.param == "default":
        return quantized
    path = tmp_path_factory.mktemp("dry") / "model.gguf"
    write_backbone(path, parse_shape(request.param))
    return path


@pytest.mark.parametrize("flash_attention", [True, False])
def test_bound_holds_and_is_close(
    model: Path, flash_attention: bool, caplog: pytest.LogCaptureFixture
) -> None:
    spec = spec_of(model)
    with loaded(model) as handle, caplog.at_level(logging.INFO, "llama.cpp"):
        for n_ctx, n_ubatch in LOADS:
            caplog.clear()
            open_context(handle, n_ctx, n_ubatch, flash_attention)
            found = re.search(r"compute buffer size = +([\d.]+) MiB", caplog.text)
            assert found is not None
            dry = float(found[1]) * MIB
            bound = compute_buffer_bytes(
                spec, n_ctx=n_ctx, n_ubatch=n_ubatch, flash_attention=flash_attention
            )
            assert dry <= bound <= dry + 64 * MIB


def spec_of(path: Path) -> ModelSpec:
    """Return the shape of a llama backbone."""
    metadata = read_header(path).metadata
    fingerprint = read_backbone(read_header(path)).fingerprint

    def number(name: str) -> int:
        value = metadata[f"llama.{name}"]
        assert isinstance(value, int)
        return value

    n_heads = number("attention.head_count")
    head_size = fingerprint.embedding_length // n_heads
    kv_size = number("attention.head_count_kv") * head_size
    return ModelSpec(
        name=path.name,
        architecture="llama",
        source=Source.EXACT,
        origin=str(path),
        n_params=1,
        n_active_params=1,
        context_length=1,
        vocab_size=fingerprint.vocab_size,
        hidden_size=fingerprint.embedding_length,
        n_layers=fingerprint.block_count,
        n_heads=n_heads,
        head_size=head_size,
        ffn_size=number("feed_forward_length"),
        caches=(
            CacheGroup(
                kind="attention",
                n_layers=fingerprint.block_count,
                key_size=kv_size,
                value_size=kv_size,
            ),
        ),
        weights=(Weights(name="any", file_bytes=0, parts={}, source=Source.EXACT),),
    )


@contextmanager
def loaded(path: Path) -> Iterator[ctypes.c_void_p]:
    """Yield a model whose weights are only counted."""
    logs.capture()
    params = llama_cpp.llama_model_default_params()
    params.no_alloc = True
    params.load_mode = llama_cpp.LLAMA_LOAD_MODE_NONE  # it aborts when it would map
    with ExitStack() as stack:
        handle = llama_cpp.llama_model_load_from_file(os.fsencode(path), params)
        assert handle, logs.last_error()
        stack.callback(llama_cpp.llama_model_free, handle)
        yield handle


def open_context(
    handle: ctypes.c_void_p, n_ctx: int, n_ubatch: int, flash_attention: bool
) -> None:
    """Make a context, for what llama.cpp says about it."""
    params = llama_cpp.llama_context_default_params()
    params.n_ctx, params.n_ubatch, params.n_threads = n_ctx, n_ubatch, 1
    params.flash_attn_type = int(flash_attention)
    context = llama_cpp.llama_init_from_model(handle, params)
    assert context, logs.last_error()
    llama_cpp.llama_free(context)
