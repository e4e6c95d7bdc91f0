"""The hook on real graphs: it reads the layer's input, and what it writes counts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
import pytest
from numpy.typing import NDArray

from engram_local.errors import BackboneError, EngramError
from engram_local.llama.hook import OnHidden, PythonFunction
from engram_local.llama.runtime import Backbone
from tests.model.conftest import EXACT

pytestmark = pytest.mark.model

TOKEN_IDS = [504, 2365, 282, 4649]


@pytest.fixture(scope="module")
def backbone(exact: Path) -> Iterator[Backbone]:
    """The float32 backbone with a callback."""
    backbone = Backbone(exact, EXACT, hook_width=576)
    yield backbone
    backbone.close()


@pytest.fixture
def plain(backbone: Backbone) -> NDArray[np.float32]:
    """Logits when nothing is changed."""
    return logits(backbone)


def logits(backbone: Backbone) -> NDArray[np.float32]:
    """Evaluate TOKEN_IDS as a new sequence."""
    backbone.reset()
    backbone.decode(TOKEN_IDS, 0)
    return backbone.logits().copy()


def in_python(on_hidden: OnHidden) -> PythonFunction:
    return PythonFunction(on_hidden, 576)


def test_layer_0_reads_the_token_embedding(backbone: Backbone, exact: Path) -> None:
    seen = {}
    look = in_python(lambda line, hidden: seen.update({line: hidden.copy()}))
    backbone.hook_layers([0], look)
    logits(backbone)
    reader = gguf.GGUFReader(exact)
    table = next(t for t in reader.tensors if t.name == "token_embd.weight")
    assert np.array_equal(seen[0], table.data[TOKEN_IDS])


def test_every_layer_can_be_hooked_in_order(backbone: Backbone) -> None:
    lines: list[int] = []
    shapes = set()

    def look(line: int, hidden: NDArray[np.float32]) -> None:
        lines.append(line)
        shapes.add(hidden.shape)

    backbone.hook_layers(range(30), in_python(look))
    logits(backbone)
    assert lines == list(range(30))
    assert shapes == {(len(TOKEN_IDS), 576)}


def test_looking_changes_nothing(
    plain: NDArray[np.float32], backbone: Backbone
) -> None:
    backbone.hook_layers([0, 7, 29], in_python(lambda line, hidden: None))
    assert np.array_equal(logits(backbone), plain)


@pytest.mark.parametrize("layer_id", [0, 1, 29])
def test_what_is_written_reaches_the_logits(
    plain: NDArray[np.float32], backbone: Backbone, layer_id: int
) -> None:
    def change(line: int, hidden: NDArray[np.float32]) -> None:
        hidden[-1] += 1

    backbone.hook_layers([layer_id], in_python(change))
    assert np.abs(logits(backbone) - plain).max() > 0.1
    assert backbone.hook is not None
    backbone.hook.enable(False)
    assert np.array_equal(logits(backbone), plain)


def test_an_error_in_the_hook_is_raised_by_decode_once(backbone: Backbone) -> None:
    def fail(line: int, hidden: NDArray[np.float32]) -> None:
        if line == 1:
            raise EngramError("the drive is gone")

    calls: list[int] = []
    assert backbone.hook is not None
    backbone.hook.install([b"l_out-1", b"l_out-2", b"l_out-9"], in_python(fail))
    with pytest.raises(EngramError, match="the drive is gone"):
        logits(backbone)
    note = in_python(lambda line, hidden: calls.append(line))
    backbone.hook.install([b"l_out-1"], note)
    logits(backbone)
    assert calls == [0]


def test_a_node_that_is_no_hidden_state_is_an_error(backbone: Backbone) -> None:
    called: list[int] = []
    assert backbone.hook is not None
    note = in_python(lambda line, hidden: called.append(line))
    backbone.hook.install([b"ffn_up-3"], note)
    with pytest.raises(BackboneError, match=r"a node has \d+ bytes"):
        logits(backbone)
    assert called == []
