"""What `show` says about a model with a table of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engram_local.cli import main
from engram_local.formats.header import read_header
from engram_local.spec import RowType
from tests.native_models import tiny_qwen4exp

pytestmark = pytest.mark.model

TABLE = "per_layer_token_embd.weight"


def shown(path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[str, dict[str, Any]]:
    """Return what `show` says for people and for programs."""
    assert main(["show", str(path)]) == 0
    text = capsys.readouterr().out
    assert main(["show", str(path), "--json"]) == 0
    return text, json.loads(capsys.readouterr().out)


def test_a_qwen4exp_in_parts(
    qwen4exp_parts: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    text, facts = shown(qwen4exp_parts[1], capsys)
    table = read_header(qwen4exp_parts[2]).tensor(TABLE)
    n_rows = table.shape[1]
    assert facts["layers"] == [
        {
            "layer": 0,
            "orders": [2, 3],
            "heads": 2,
            "n_rows": n_rows,
            "row_width": 32,
            "row_type": "f16",
            "row_bytes": 64,
            "window": "newest_first",
            "boundary": "eos",
            "eos_token_id": 2,
        }
    ]
    assert (facts["rows_per_token"], facts["bytes_per_token"]) == (4, 256)
    assert (facts["table_bytes"], facts["image_token_id"]) == (64 * n_rows, None)
    (found,) = facts["native_tables"]
    assert found["file"] == str(qwen4exp_parts[2])
    assert found["offset_bytes"] == table.offset_bytes
    assert f"layer 0        {n_rows:,} rows of 32 f16 (64 B); n-grams of 2 and" in text
    assert "2 heads, newest_first, eos 2\nper token      4 rows, 256 B\n" in text
    assert f"at byte {table.offset_bytes:,} of {qwen4exp_parts[2].name}" in text
    assert "images" not in text


def test_images_are_hashed_as_a_token(
    quantized: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tiny_qwen4exp(
        tmp_path / "model.gguf", image_token_id=7, row_type=RowType.Q8_0
    )
    text, facts = shown(path, capsys)
    assert "images         hashed as token 7" in text
    assert (facts["image_token_id"], facts["layers"][0]["row_type"]) == (7, "q8_0")


def test_a_gemma4(gemma4: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, facts = shown(gemma4, capsys)
    assert "512 rows of 256 f16 (512 B); the row of a token is its id" in text
    (layer,) = facts["layers"]
    assert (layer["orders"], layer["heads"], layer["eos_token_id"]) == ([1], 1, None)
    assert facts["bytes_per_token"] == 512
