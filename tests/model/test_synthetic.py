"""A synthetic backbone with a synthetic memory, in llama.cpp."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engram_local.bench.synthetic import MemoryShape, write_synthetic_memory
from engram_local.bench.synthetic_llama import parse_shape, write_backbone
from engram_local.engine import Engine
from engram_local.events import Finished
from engram_local.spec import RowType
from engram_local.units import MIB
from tests.model.conftest import EXACT

pytestmark = pytest.mark.model


@pytest.fixture(scope="module", params=[RowType.Q4_0, RowType.Q8_0])
def engine(
    request: pytest.FixtureRequest,
    quantized: Path,  # its vocabulary is copied
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Engine]:
    """Four layers of width 128, a memory at two of them."""
    folder = tmp_path_factory.mktemp("synthetic")
    model, memory = folder / "model.gguf", folder / "memory.gguf"
    write_backbone(model, parse_shape("128x4"), request.param)
    shape = MemoryShape(layer_ids=(1, 3), table_bytes=MIB)
    write_synthetic_memory(memory, model, shape)
    with Engine.open(model, memory=memory, settings=EXACT) as engine:
        yield engine


def test_it_answers(engine: Engine) -> None:
    *_, last = engine.generate("Once upon a time")
    assert isinstance(last, Finished)
    assert len(last.token_ids) > 0
    assert last.memory is not None and last.memory.rows_read > 0


def test_it_decodes_token_by_token(engine: Engine) -> None:
    replay = engine.replay([1, 2, 3], list(range(16)))
    assert len(replay.token_s) == 16


def test_its_memory_changes_a_little(engine: Engine) -> None:
    token_ids = np.random.default_rng(0).integers(0, engine.n_vocab, 64).tolist()
    engine.use_memory(True)
    with_memory = np.array(engine.score(token_ids))
    engine.use_memory(False)
    without = np.array(engine.score(token_ids))
    engine.use_memory(True)
    assert np.isfinite(with_memory).all() and np.isfinite(without).all()
    # The mean of a model that knows nothing is near ln(49,152) = 10.8.
    assert without.mean() == pytest.approx(np.log(engine.n_vocab), abs=1)
    change = np.abs(with_memory - without)
    assert 0 < change.mean() < 0.5
