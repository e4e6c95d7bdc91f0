"""`engram-local size`: what a model needs and how fast it will be. Loads nothing."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from engram_local import __version__
from engram_local.cli.hardware_options import add_hardware_arguments, given_of
from engram_local.cli.options import command_line
from engram_local.errors import FileError, UsageError
from engram_local.settings import CACHE_TYPES, TIERS

if TYPE_CHECKING:
    from engram_local.hardware import Hardware
    from engram_local.model_spec import ModelSpec
    from engram_local.sizing.report import Report
    from engram_local.sizing.request import Request

_DOES_NOT_FIT = 4
_PIPE_COLUMNS, _LEAST_COLUMNS, _MOST_COLUMNS = 100, 60, 140


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `size`."""
    parser.add_argument(
        "models",
        nargs="*",
        metavar="MODEL",
        help="a GGUF (of a split one, any part), a config.json, or a known name like "
        "Qwen3.8-Flash-Next (default: the model that `run` takes)",
    )
    parser.add_argument(
        "--memory",
        type=Path,
        metavar="GGUF",
        help="a memory to attach to the model (default: the one that `run` takes)",
    )
    _add_request_arguments(parser.add_argument_group("how it is run"))
    add_hardware_arguments(parser)
    parser.add_argument(
        "--what-if",
        action="append",
        default=[],
        metavar="GPU",
        help="also with this GPU in the grid; may be given more than once",
    )
    parser.add_argument(
        "--gate", action="store_true", help="exit 4 if a model does not fit"
    )
    _add_output_arguments(parser.add_argument_group("output"))


def _add_request_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-c",
        "--ctx-size",
        dest="n_ctx",
        type=int,
        metavar="N",
        help="context in tokens (default 8192, or what it was trained for if that is "
        "less; 0 = as trained)",
    )
    group.add_argument(
        "-q", "--quant", metavar="NAME", help="one of the model's weights: Q4_K_M"
    )
    group.add_argument("-ub", "--ubatch-size", dest="n_ubatch", type=int, metavar="N")
    group.add_argument("-ctk", "--cache-type-k", choices=CACHE_TYPES)
    group.add_argument("-ctv", "--cache-type-v", choices=CACHE_TYPES)
    group.add_argument(
        "-ngl",
        "--gpu-layers",
        dest="n_gpu_layers",
        type=int,
        metavar="N",
        help="layers on the GPU (default: as many as fit; -1 = all)",
    )
    group.add_argument(
        "--memory-tier",
        choices=[name for name in TIERS if name != "auto"],
        help="where the rows of an n-gram table are (default: as `run`)",
    )


def _add_output_arguments(group: argparse._ArgumentGroup) -> None:
    output = group.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="one JSON object on stdout")
    output.add_argument("--markdown", action="store_true", help="to paste somewhere")
    output.add_argument("--csv", action="store_true", help="the grid")
    group.add_argument(
        "--html", type=Path, metavar="FILE", help="also write one page with charts"
    )


def run(args: argparse.Namespace) -> int:
    """Print the report."""
    from engram_local.sizing.verdict import Outcome

    report = _report(args)
    if args.html is not None:
        _write_html(args.html, report)
    _print(args, report)
    outcomes = [model.verdict.outcome for model in report.models]
    return _DOES_NOT_FIT if args.gate and Outcome.DOES_NOT_FIT in outcomes else 0


def _report(args: argparse.Namespace) -> Report:
    from engram_local.sizing.report import Report, report_model

    specs = _specs(args)
    request = _request(args)
    hardware = _hardware(args, specs)
    what_if = [(name, _with_gpu(hardware, name)) for name in args.what_if]
    return Report(
        hardware=hardware,
        request=request,
        models=tuple(
            report_model(spec, request, hardware, what_if=what_if) for spec in specs
        ),
        date=date.today().isoformat(),
        command=command_line(sys.argv[1:]),
        version=__version__,
    )


def _specs(args: argparse.Namespace) -> list[ModelSpec]:
    from engram_local.catalog import default_model
    from engram_local.sizing.sources import open_spec

    if args.memory is not None and len(args.models) > 1:
        raise UsageError("--memory belongs to one model", hint="name one GGUF")
    words = args.models or [str(default_model())]
    return [open_spec(word, memory=args.memory or "auto") for word in words]


def _request(args: argparse.Namespace) -> Request:
    from engram_local.sizing.request import Request, Tier, gpu_layers

    return Request(
        n_ctx=args.n_ctx,
        n_ubatch=512 if args.n_ubatch is None else args.n_ubatch,
        cache_type_k=args.cache_type_k or "f16",
        cache_type_v=args.cache_type_v or "f16",
        quantization=args.quant,
        n_gpu_layers=gpu_layers(args.n_gpu_layers),
        tier=None if args.memory_tier is None else Tier(args.memory_tier),
    )


def _hardware(args: argparse.Namespace, specs: list[ModelSpec]) -> Hardware:
    """Return this computer as it was measured, with what the flags say in its place."""
    from engram_local.known_hardware import measured_hardware
    from engram_local.sizing.assume import assume_drive
    from engram_local.sizing.given import apply

    given = given_of(args)
    files = [Path(spec.origin) for spec in specs if Path(spec.origin).exists()]
    return assume_drive(apply(measured_hardware(files[0] if files else Path()), given))


def _with_gpu(hardware: Hardware, name: str) -> Hardware:
    from engram_local.sizing.given import Given, apply

    return apply(hardware, Given(gpus=(name,)))


def _print(args: argparse.Namespace, report: Report) -> None:
    if args.json:
        from engram_local.sizing.render.json_report import render_json

        print(render_json(report))
    elif args.markdown:
        from engram_local.sizing.render.markdown import render_markdown

        print(render_markdown(report))
    elif args.csv:
        from engram_local.sizing.render.csv_grid import render_csv

        print(render_csv(report), end="")
    else:
        _print_text(report)


def _print_text(report: Report) -> None:
    from engram_local.sizing.render.text import render_text

    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if is_terminal else _PIPE_COLUMNS
    color = is_terminal and "NO_COLOR" not in os.environ
    width = max(_LEAST_COLUMNS, min(width, _MOST_COLUMNS))
    print(render_text(report, width=width, color=color))


def _write_html(path: Path, report: Report) -> None:
    from engram_local.sizing.render.html_page import render_html

    try:
        path.write_text(render_html(report), "utf-8")
    except OSError as error:
        raise FileError(
            f"{path} cannot be written: {error.strerror or error}",
            hint="name a file in a folder that exists and may be written",
        ) from error
    print(f"wrote {path}", file=sys.stderr)
