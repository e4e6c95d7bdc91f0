"""`engram-local bench`: decode and prompt speed, each arm in a process of its own."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING

from engram_local.cli import options
from engram_local.cli.ending import unwind_when_ended
from engram_local.cli.status import StatusLine, status_line
from engram_local.errors import UsageError
from engram_local.settings import default_threads
from engram_local.spec import RowType
from engram_local.units import MIB, parse_bytes

if TYPE_CHECKING:
    from engram_local.bench.arms import Suite
    from engram_local.bench.report import Report
    from engram_local.bench.runner import Result
    from engram_local.bench.subject import Subject
    from engram_local.bench.synthetic import MemoryShape
    from engram_local.bench.synthetic_native import NativeShape
    from engram_local.bench.tokens import Plan
    from engram_local.formats.pieces import Progress
    from engram_local.memory.module import NativeModule
    from engram_local.scratch_files import ScratchFolder

_SPARSE_BYTES = 64 * MIB
"""Of each layer's table that is written with --sparse."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `bench`."""
    parser.add_argument("model", nargs="?", type=Path, metavar="MODEL")
    _add_plan_arguments(parser.add_argument_group("what is measured"))
    _add_synthetic_arguments(parser.add_argument_group("models made for measuring"))
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="one JSON object on stdout")
    output.add_argument("--markdown", action="store_true", help="tables for a document")
    options.add_model_arguments(parser)


def _add_plan_arguments(group: argparse._ArgumentGroup) -> None:
    for short, long, default, meaning in (
        ("-p", "--n-prompt", 512, "prompt tokens of a turn"),
        ("-n", "--n-gen", 64, "tokens decoded after them"),
        ("-r", "--repetitions", 5, "turns of each arm"),
    ):
        group.add_argument(
            *(short, long),
            type=int,
            default=default,
            metavar="N",
            help=f"{meaning} (default {default})",
        )
    group.add_argument(
        "--arms",
        metavar="A,B",
        help="of mmap, mmap no prefetch, ram, direct, reference (default: these), "
        "mmap cold, mmap cold no prefetch, direct cold; `none` always runs, twice. Of "
        "a model with its own table: llama.cpp lazy, mmap (default: both), llama.cpp "
        "lazy cold, mmap cold; `resident` always runs, twice, or where it has no room "
        "llama.cpp lazy cold",
    )
    group.add_argument(
        "--cold", action="store_true", help="also with the table evicted from memory"
    )
    group.add_argument(
        "--text",
        type=Path,
        metavar="FILE",
        help="tokens of a text, or - (default: drawn by Zipf's law)",
    )


def _add_synthetic_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--synthetic",
        metavar="SHAPE",
        help="a backbone of random weights: 0.5B, 1.5B or WIDTHxDEPTH; or a model with "
        "a table of its own: qwen4exp, gemma4, qwen4exp:WIDTHxDEPTH",
    )
    group.add_argument(
        "--table",
        type=_size,
        metavar="SIZE",
        help="a memory of random rows, or the size of a made model's own table: 512M, "
        "8G (default with --synthetic: a few megabytes)",
    )
    group.add_argument(
        "--rows",
        type=_row_type,
        metavar="TYPE",
        help="what its rows are stored as: q8_0 (default), q4_0, f16; of a model's own "
        "table any of ggml's types",
    )
    group.add_argument(
        "--memory-layers",
        type=int,
        metavar="N",
        help="layers of that memory (default 2)",
    )
    group.add_argument(
        "--sparse",
        action="store_true",
        help="write only the first 64 MiB of each of its layers; the rest is a hole",
    )
    group.add_argument(
        "--dir",
        type=Path,
        metavar="DIR",
        help="where these files are until the end (default /var/tmp)",
    )


def _size(text: str) -> int:
    try:
        return parse_bytes(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _row_type(text: str) -> RowType:
    try:
        return RowType(text.lower())
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no type of rows") from None


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    from engram_local.bench.runner import run_arms
    from engram_local.bench.tokens import Plan

    _check(args)
    suite = _suite(args)
    arms = suite.choose(_names(args.arms), cold=args.cold)
    if args.sparse and any(arm.cold for arm in arms):
        raise UsageError("a hole is not read from the drive: cold arms need all rows")
    plan = Plan(
        n_prompt=args.n_prompt, n_decode=args.n_gen, n_repetitions=args.repetitions
    )
    with status_line() as status, _files(args) as folder:
        files = _model_and_memory(args, folder, status)
        subject = _subject(args, plan, *files)
        result = run_arms(suite, arms, subject, plan, progress=status)
    _print(args, _report(subject, plan, suite, result, folder))
    return 0


def _check(args: argparse.Namespace) -> None:
    if min(args.n_prompt, args.n_gen, args.repetitions) < 1:
        raise UsageError("-p, -n and -r need at least 1")
    fixed = (args.memory_tier, args.prefetch, args.mlock, args.reference)
    if args.no_memory or any(flag is not None for flag in fixed):
        raise UsageError(
            "the arms of a bench say where rows come from, and how",
            hint="choose with --arms",
        )
    made = args.synthetic is not None or args.table is not None
    if made and args.memory is not None:
        raise UsageError("--memory names a memory, --synthetic and --table make one")
    if args.synthetic is not None and (args.model or args.model_flag):
        raise UsageError("a model was named, and --synthetic makes one")
    if not made and (args.memory_layers or args.sparse or args.dir or args.rows):
        raise UsageError("--memory-layers, --rows, --sparse and --dir need --table")
    if made:
        _check_made(args)


def _check_made(args: argparse.Namespace) -> None:
    """Raise UsageError for what cannot be made, before anything is written."""
    from engram_local.bench.synthetic import MemoryShape

    if _native_shape(args) is None:
        MemoryShape(row_type=args.rows or MemoryShape().row_type)
    elif args.memory_layers or args.sparse:
        raise UsageError("--memory-layers and --sparse are for memories in a file")
    if _native(args) is not None:
        raise UsageError(
            "the model has a table of its own, --table would make another",
            hint="leave it out, or let --synthetic make the model too",
        )


def _names(arms: str | None) -> list[str] | None:
    return None if arms is None else [name.strip() for name in arms.split(",")]


def _suite(args: argparse.Namespace) -> Suite:
    """Return the arms for this kind of model, on this computer."""
    import psutil

    from engram_local.bench.arms import ATTACHED, NATIVE, NATIVE_ON_DRIVE
    from engram_local.bench.runner import RAM_PART

    table_bytes = _own_table_bytes(args)
    if table_bytes is None:
        return ATTACHED
    room_bytes = RAM_PART * psutil.virtual_memory().available
    return NATIVE if table_bytes <= room_bytes else NATIVE_ON_DRIVE


def _own_table_bytes(args: argparse.Namespace) -> int | None:
    """Return the size of a table that is a part of the model, named or to be made."""
    if _native_shape(args) is not None:
        return args.table or 0  # a small one
    native = _native(args)
    return None if native is None else native.spec.table_bytes


def _native_shape(args: argparse.Namespace) -> NativeShape | None:
    """Return what --synthetic makes if that has a table of its own."""
    from engram_local.bench.synthetic_native import is_native, parse_native

    if args.synthetic is None or not is_native(args.synthetic):
        return None
    return parse_native(args.synthetic, table_bytes=args.table, row_type=args.rows)


def _native(args: argparse.Namespace) -> NativeModule | None:
    from engram_local.bench.subject import native_of

    named = options.model_of(args)  # the default one has no table
    return None if args.synthetic or named is None else native_of(named)


def _model(args: argparse.Namespace) -> Path:
    from engram_local.catalog import default_model

    return options.model_of(args) or default_model()


def _subject(
    args: argparse.Namespace, plan: Plan, model: Path, memory: Path | None
) -> Subject:
    from engram_local.bench.subject import Subject, find_rows

    return Subject(
        model=model,
        rows=find_rows(model, memory),
        settings=options.settings_of(args, temperature=0.0, n_ctx=plan.n_tokens),
        text=None if args.text is None else options.read_text(args.text),
    )


@contextmanager
def _files(args: argparse.Namespace) -> Iterator[ScratchFolder]:
    """Give a folder for files that are made; they are gone at the end."""
    from engram_local.scratch_files import scratch_folder

    with unwind_when_ended(), scratch_folder(args.dir or _large_files()) as folder:
        yield folder


def _large_files() -> Path:
    # /tmp is RAM on many systems.
    folder = Path("/var/tmp")
    return folder if folder.is_dir() else Path(gettempdir())


def _model_and_memory(
    args: argparse.Namespace, folder: ScratchFolder, status: StatusLine
) -> tuple[Path, Path | None]:
    """Return those that were named, or made ones.

    The memory is None where the table is a part of the model.
    """
    if args.synthetic is None and args.table is None:
        is_native = _native(args) is not None
        return (_model(args), None) if is_native else options.files_of(args)
    return _make_files(args, folder, status)


def _make_files(
    args: argparse.Namespace, folder: ScratchFolder, status: StatusLine
) -> tuple[Path, Path | None]:
    from engram_local.bench.synthetic import write_synthetic_memory
    from engram_local.bench.synthetic_native import write_native

    def progress(done: int, total: int) -> None:
        status("writing", done / total)

    native = _native_shape(args)
    if native is not None:
        model = folder.new_file(_file_name(args.synthetic))
        write_native(model, native, progress=progress)
        return model, None
    model = _backbone(args, folder, progress)
    memory = folder.new_file("synthetic-memory.gguf")
    shape = _memory_shape(args, model)
    write_synthetic_memory(memory, model, shape, progress=progress)
    return model, memory


def _backbone(
    args: argparse.Namespace, folder: ScratchFolder, progress: Progress
) -> Path:
    from engram_local.bench.synthetic_llama import parse_shape, write_backbone

    if args.synthetic is None:
        return _model(args)
    model = folder.new_file(_file_name(args.synthetic))
    write_backbone(model, parse_shape(args.synthetic), progress=progress)
    return model


def _file_name(shape: str) -> str:
    return f"synthetic-{shape.replace(':', '-')}.gguf"


def _memory_shape(args: argparse.Namespace, model: Path) -> MemoryShape:
    """Return the shape that was asked for; what was not is as in the shipped memory."""
    from engram_local.bench.synthetic import MemoryShape, spread_layers
    from engram_local.formats.backbone import read_backbone
    from engram_local.formats.split import read_model_header

    depth = read_backbone(read_model_header(model)).fingerprint.block_count
    plain = MemoryShape()
    return MemoryShape(
        layer_ids=spread_layers(args.memory_layers or len(plain.layer_ids), depth),
        table_bytes=args.table or plain.table_bytes,
        row_type=args.rows or plain.row_type,
        real_bytes=_SPARSE_BYTES if args.sparse else None,
    )


def _report(
    subject: Subject, plan: Plan, suite: Suite, result: Result, folder: ScratchFolder
) -> Report:
    from engram_local.bench import machine
    from engram_local.bench.report import Report
    from engram_local.bench.summary import summarize_runs

    memory = subject.rows.memory
    return Report(
        machine=machine.look(),
        command=options.command_line(sys.argv[1:]),
        date=date.today().isoformat(),
        model=folder.name_of(subject.model),
        memory="its own table" if memory == "auto" else folder.name_of(memory),
        table_bytes=subject.rows.table_bytes,
        n_threads=subject.settings.n_threads or default_threads(),
        plan=plan,
        groups=tuple(summarize_runs(result.runs, suite)),
        notes=tuple(folder.readable(note) for note in result.notes),
        runs=tuple(result.runs),
    )


def _print(args: argparse.Namespace, report: Report) -> None:
    from engram_local.bench.report import as_json, as_markdown, as_text

    if args.json:
        print(json.dumps(as_json(report), indent=2))
    else:
        print(as_markdown(report) if args.markdown else as_text(report))
