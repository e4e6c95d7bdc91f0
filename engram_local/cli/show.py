"""`engram-local show`: what a GGUF is. Reads the header only."""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `show`."""
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def run(args: argparse.Namespace) -> int:
    """Print the facts."""
    from engram_local.formats.facts import as_text, collect  # numba: 0.4 s
    from engram_local.formats.split import read_model_header

    facts = collect(read_model_header(args.file))
    print(json.dumps(facts, indent=2) if args.json else as_text(facts))
    return 0
