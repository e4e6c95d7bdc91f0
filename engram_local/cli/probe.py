"""`engram-local probe`: how fast this computer is, for a sizing report."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from engram_local.cli import options
from engram_local.cli.ending import unwind_when_ended
from engram_local.cli.status import status_line
from engram_local.errors import FileError
from engram_local.settings import default_threads
from engram_local.units import escape_control, format_bytes

if TYPE_CHECKING:
    from engram_local.hardware import Compute
    from engram_local.probe.drive_speed import DriveSpeed
    from engram_local.probe.memory_speed import MemorySpeed
    from engram_local.probe.result import Probe

_NAME_WIDTH = 28


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `probe`."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--file",
        type=Path,
        metavar="FILE",
        help="a large file, whose drive is measured; it is only read",
    )
    where.add_argument(
        "--dir",
        type=Path,
        metavar="DIR",
        help="where files of 1.4 GB are while it is measured (default: beside the "
        "default model)",
    )
    parser.add_argument(
        "--quick", action="store_true", help="20 s in place of 45, with more noise"
    )
    parser.add_argument(
        "--gpu",
        action="store_true",
        help="also run models with all layers on the GPU",
    )
    parser.add_argument("-t", "--threads", dest="n_threads", type=int, metavar="N")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def run(args: argparse.Namespace) -> int:
    """Measure, store and print."""
    with status_line() as status, unwind_when_ended() as check:
        status.announce("starting")
        from engram_local.probe.runner import Scope, run_probe
        from engram_local.probe.store import as_json, here, save_probe
        from engram_local.sizing.machine import look

        scope = Scope(
            folder=_folder(args.dir),
            file=args.file,
            n_threads=options.settings_of(args).n_threads or default_threads(),
            quick=args.quick,
            gpu=args.gpu,
        )
        where = scope.file or scope.folder
        identity = here(where, gpus=tuple(gpu.name for gpu in look(where).gpus))

        def progress(what: str, part: float) -> None:
            check()
            status(what, part)

        probe = run_probe(identity, scope, progress=progress)
        check()
    path = save_probe(probe)
    print(json.dumps(as_json(probe), indent=2) if args.json else as_text(probe))
    for note in probe.notes:
        print(escape_control(f"note: {note}"), file=sys.stderr)
    print(escape_control(f"stored in {path}"), file=sys.stderr)
    return 0


def _folder(named: Path | None) -> Path:
    """Return where files are made: on the drive that holds the default model."""
    if named is not None:
        if not named.is_dir():
            raise FileError(f"{named} is no folder", hint="name one that exists")
        return named
    from engram_local.catalog import default_model

    try:
        folder = default_model().parent
    except FileError:
        return Path.home()
    return folder if os.access(folder, os.W_OK) else Path.home()


def as_text(probe: Probe) -> str:
    """Return a table for people."""
    identity = probe.identity
    mode = ", quick" if probe.quick else ""
    lines = [
        f"{identity.cpu}, {identity.ram_gib} GiB RAM, "
        f"{probe.n_threads} threads; {probe.date}{mode}",
        f"drive {identity.device} ({identity.file_system})",
        "",
    ]
    if probe.memory is not None:
        lines += _memory_lines(probe.memory)
    if probe.drive is not None:
        lines += _drive_lines(probe.drive)
    for what, compute in (("processor", probe.cpu), ("GPU", probe.gpu)):
        if compute is not None:
            lines += _compute_lines(what, compute)
    for name, rate in zip(identity.gpus, probe.host_bytes_per_s, strict=False):
        lines.append(_line(f"RAM to {name}", f"{rate.value / 1e9:.1f} GB/s"))
    return escape_control("\n".join(lines))


def _line(name: str, value: str) -> str:
    return f"{name:<{_NAME_WIDTH}}{value}"


def _memory_lines(memory: MemorySpeed) -> Iterator[str]:
    for stream in memory.streams:
        name = f"RAM, {_threads(stream.n_threads)}"
        yield _line(name, f"{stream.bytes_per_s / 1e9:.1f} GB/s in a row")
    counts = sorted({gather.n_threads for gather in memory.gathers})
    for n_threads in counts:
        rates = ", ".join(
            f"{gather.rows_per_s / 1e6:.1f} of {gather.row_bytes} B"
            for gather in memory.gathers
            if gather.n_threads == n_threads
        )
        yield _line(f"RAM rows, {_threads(n_threads)}", f"{rates} (million/s)")


def _threads(n_threads: int) -> str:
    return f"{n_threads} thread{'s' if n_threads > 1 else ''}"


def _drive_lines(drive: DriveSpeed) -> Iterator[str]:
    for rate in drive.reads:
        latency = "" if rate.latency_s is None else f", {rate.latency_s * 1e6:,.0f} us"
        reads = f"{rate.reads_per_s.value:,.0f} reads of 4 KiB/s{latency}"
        yield _line(f"drive, {rate.depth} at once", reads)
    yield _line("drive, in a row", f"{drive.bytes_per_s.value / 1e9:.2f} GB/s")
    yield _line("drive, measured on", format_bytes(drive.file_bytes))


def _compute_lines(what: str, compute: Compute) -> Iterator[str]:
    for rate in compute.types:
        yield _line(
            f"{what}, {rate.name}",
            f"decode {rate.weight_bytes_per_s.value / 1e9:.1f} GB/s of weights, "
            f"prompt {rate.flops_per_s.value / 1e9:,.0f} GFLOP/s",
        )
    if compute.layer_s is not None:
        yield _line(
            f"{what}, each layer", f"{compute.layer_s.value * 1e6:.0f} us per step"
        )
    decode, prompt = compute.attention_flops_per_s, compute.prompt_attention_flops_per_s
    if decode is not None and prompt is not None:
        yield _line(
            f"{what}, attention",
            f"decode {decode.value / 1e9:.1f}, prompt {prompt.value / 1e9:.1f} GFLOP/s",
        )
