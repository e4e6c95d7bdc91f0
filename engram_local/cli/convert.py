"""`engram-local convert`: an engram-peft adapter -> a memory file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from engram_local.cli.status import status_line
from engram_local.errors import UsageError
from engram_local.spec import MEMORY_TYPES, RowType
from engram_local.units import format_bytes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `convert`."""
    parser.add_argument(
        "source", type=Path, metavar="SOURCE", help="folder that save_pretrained wrote"
    )
    parser.add_argument(
        "--backbone",
        type=Path,
        metavar="GGUF",
        help="the model that the adapter was trained on (default: SmolLM2)",
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="GGUF", help="file to write"
    )
    parser.add_argument(
        "--rows-type",
        choices=[row_type.value for row_type in MEMORY_TYPES],
        default=RowType.F16.value,
        help="how rows are stored (default f16)",
    )


def run(args: argparse.Namespace) -> int:
    """Convert; what is written appears under its name when it is complete."""
    try:
        import safetensors  # noqa: F401
    except ImportError:
        raise UsageError(
            "convert reads safetensors files, and that package is not installed",
            hint="pip install safetensors",
        ) from None
    from engram_local.catalog import default_model
    from engram_local.formats.engram_peft import open_adapter
    from engram_local.formats.engram_writer import write_memory
    from engram_local.formats.split import read_model_header

    backbone = read_model_header(args.backbone or default_model())
    row_type = RowType(args.rows_type)
    with open_adapter(args.source, backbone, row_type) as adapter, status_line() as bar:
        write_memory(
            args.output,
            adapter.module,
            adapter.rows,
            architecture=adapter.architecture,
            progress=lambda done, total: bar("writing", done / total),
        )
    n_bytes = args.output.stat().st_size
    print(f"{args.output} · {format_bytes(n_bytes)}", file=sys.stderr)
    return 0
