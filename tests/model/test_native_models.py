"""Synthetic models with a table of their own, in llama.cpp."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engram_local.bench.random_bytes import RANDOM_TYPES
from engram_local.bench.synthetic_native import parse_native, write_native
from engram_local.engine import Engine
from engram_local.spec import RowType
from engram_local.units import MIB
from tests.model.conftest import EXACT
from tests.native_models import N_TOKENS, module_of, tiny_gemma4, tiny_qwen4exp

pytestmark = pytest.mark.model

TEXT = "Once upon a time a fox met a whale."
TOLERANCE = 1e-3
"""Of the likelihoods of one text that is read in other chunks."""


def scores_of(path: Path, text: str = TEXT) -> NDArray[np.float64]:
    """Return the negative log-likelihood of each token of a text."""
    with Engine.open(path, settings=EXACT) as engine:
        return np.array(list(engine.score(engine.tokenize(text))))


def check_noise(scores: NDArray[np.float64], n_vocab: int) -> None:
    """The mean of a model that knows nothing; its logits have a deviation near 1."""
    assert np.isfinite(scores).all()
    assert scores.mean() == pytest.approx(np.log(n_vocab), abs=1.5)


def test_it_answers_in_its_own_tokens(native_model: Path) -> None:
    with Engine.open(native_model, settings=EXACT) as engine:
        token_ids = engine.tokenize(TEXT)
        assert max(token_ids) < N_TOKENS and len(token_ids) < len(TEXT)
        chat = engine.encode([{"role": "user", "content": TEXT}])
        assert 1 in chat and 2 in chat  # <|im_start|>, <|im_end|> of its template
        check_noise(np.array(list(engine.score(token_ids))), N_TOKENS)


@pytest.mark.parametrize("name", ["qwen4exp", "gemma4"])
def test_in_parts_it_is_the_same(name: str, request: pytest.FixtureRequest) -> None:
    whole = request.getfixturevalue(name)
    parts = request.getfixturevalue(f"{name}_parts")
    assert module_of(parts[0]).path == parts[-1] != parts[0]
    np.testing.assert_array_equal(scores_of(whole), scores_of(parts[0]))


@pytest.mark.parametrize("row_type", RANDOM_TYPES)
def test_every_row_type_runs(
    quantized: Path, tmp_path: Path, row_type: RowType
) -> None:
    """Of a gemma4; those of a qwen4exp are verified row by row elsewhere."""
    path = tiny_gemma4(tmp_path / "model.gguf", row_type=row_type)
    one, other = scores_of(path), scores_of(path, TEXT.replace("fox", "cat"))
    check_noise(one, N_TOKENS)
    assert not np.array_equal(one[-5:], other[-5:])


def test_rows_matter(native_model: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(native_model, tmp_path / "model.gguf"))
    module = module_of(path)
    table = module.spec.layers[0].table
    before = scores_of(path)
    raw = np.memmap(path, np.uint8, "r+", table.offset_bytes, (table.n_bytes,))
    raw[:] = np.roll(raw, table.row_bytes)  # each row becomes its neighbour
    raw.flush()
    assert np.abs(scores_of(path) - before).mean() > 0.01


@pytest.mark.parametrize("chunk_sizes", [[1], [7, 1, 2, 30]])
def test_chunks_change_nothing_but_rounding(
    native_model: Path, chunk_sizes: list[int]
) -> None:
    token_ids = np.random.default_rng(0).integers(3, N_TOKENS, 200).tolist()
    with Engine.open(native_model, settings=EXACT) as engine:
        whole = np.array(list(engine.score(token_ids)))
        chunks = np.array(list(engine.score(token_ids, chunk_sizes=chunk_sizes)))
    np.testing.assert_allclose(chunks, whole, rtol=TOLERANCE)


@pytest.mark.parametrize("weight_type", ["q4_0", "q8_0", "f16"])
@pytest.mark.parametrize("write", [tiny_qwen4exp, tiny_gemma4])
def test_matrices_of_other_types_run(
    quantized: Path, tmp_path: Path, write: Any, weight_type: str
) -> None:
    path = write(tmp_path / "model.gguf", weight_type=RowType(weight_type))
    check_noise(scores_of(path), N_TOKENS)


@pytest.mark.parametrize(
    "changes",
    [
        {"max_ngram": 8, "n_heads": 2, "row_width": 16, "wide_multipliers": True},
        {"n_layers": 6, "full_every": 3, "table_layer": 4, "conv_kernel": 2},
        {"indexer_top_k": 16, "indexer_block": 4, "image_token_id": 9},
        {"indexer_block": 0, "tied_output": True, "eos_token_id": 0},
        {"n_streams": 2, "stream_rank": 3, "n_experts": 1, "n_experts_used": 1},
        {"n_value_heads": 4, "n_kv_heads": 2, "state_size": 16, "n_rotated": 8},
    ],
)
def test_other_numbers_run(
    quantized: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    path = tiny_qwen4exp(tmp_path / "model.gguf", **changes)
    tolerance = 4.0 if "tied_output" in changes else 1.5
    scores = scores_of(path, TEXT * 4)
    assert np.isfinite(scores).all()
    assert scores.mean() == pytest.approx(np.log(N_TOKENS), abs=tolerance)


@pytest.mark.parametrize(
    "text", ["qwen4exp", "qwen4exp:256x9", "gemma4:128x7", "gemma4:64x3"]
)
def test_shapes_for_measuring_run(quantized: Path, tmp_path: Path, text: str) -> None:
    path = tmp_path / "model.gguf"
    write_native(path, replace(parse_native(text), n_tokens=4096))
    check_noise(scores_of(path), 4096)


def test_a_grown_vocabulary_is_a_larger_table(quantized: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    shape = parse_native("gemma4:64x2", table_bytes=32 * MIB)
    write_native(path, shape)
    module = module_of(path)
    assert module.spec.table_bytes == pytest.approx(32 * MIB, rel=1e-3)
    with Engine.open(path, settings=EXACT) as engine:
        assert engine.n_vocab == shape.n_tokens == 32 * MIB // 544 > 49_152
        token_ids = engine.tokenize(TEXT)
        scores = np.array(list(engine.score([*token_ids, engine.n_vocab - 1])))
    check_noise(scores, engine.n_vocab)
