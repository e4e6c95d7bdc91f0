"""A model in two files is the model in one, whichever part is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from engram_local.cli import main
from engram_local.engine import Engine
from engram_local.errors import FileError
from engram_local.events import Finished
from engram_local.formats.models import read_model
from engram_local.settings import Settings
from tests.native_models import split_file

pytestmark = pytest.mark.model

SETTINGS = Settings(n_ctx=512, n_threads=1, temperature=0.0, max_tokens=12)
TEXT = "The whale is the largest animal that has ever lived"


@pytest.fixture(scope="module")
def parts(quantized: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The default backbone in two files, as gguf-py splits one."""
    return split_file(quantized, tmp_path_factory.mktemp("split"))


def said_and_scored(path: Path) -> tuple[Path, Finished, list[float]]:
    with Engine.open(path, settings=SETTINGS) as engine:
        *_, last = engine.generate(TEXT)
        assert isinstance(last, Finished)
        assert engine.memory is not None  # the shipped one, by the fingerprint
        return engine.path, last, list(engine.score(engine.tokenize(TEXT)))


def test_any_part_answers_as_the_whole_file(quantized: Path, parts: list[Path]) -> None:
    _, whole, scores = said_and_scored(quantized)
    for part in parts:
        path, answer, part_scores = said_and_scored(part)
        assert path == parts[0]
        assert answer.token_ids == whole.token_ids
        assert part_scores == scores


def test_commands_take_any_part(
    quantized: Path, parts: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    whole, split = read_model(quantized), read_model(parts[1])
    assert split.weights[0].parts == whole.weights[0].parts
    words = ["-p", TEXT, "--raw", "-n", "3", "--temp", "0", "-t", "1"]
    assert main(["run", str(parts[1]), *words]) == 0
    of_parts = capsys.readouterr().out
    assert main(["run", str(quantized), *words]) == 0
    assert capsys.readouterr().out == of_parts
    assert main(["show", str(parts[1])]) == 0


def test_a_missing_part_is_named(parts: list[Path], tmp_path: Path) -> None:
    (tmp_path / parts[1].name).symlink_to(parts[1])
    with pytest.raises(FileError, match=f"{parts[0].name} is missing"):
        Engine.open(tmp_path / parts[1].name, settings=SETTINGS)
