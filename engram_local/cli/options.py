"""Flags that several commands share, under llama.cpp's names."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from engram_local.cli.status import status_line
from engram_local.errors import FileError, UsageError
from engram_local.settings import (
    CACHE_TYPES,
    FLASH_ATTENTION,
    MEMORY_WEIGHTS,
    TIERS,
    Settings,
    resolve,
)

if TYPE_CHECKING:
    from engram_local.engine import Engine

_SETTINGS = (
    "n_ctx",
    "n_batch",
    "n_ubatch",
    "n_threads",
    "n_gpu_layers",
    "n_cpu_moe",
    "flash_attention",
    "cache_type_k",
    "cache_type_v",
    "memory_tier",
    "prefetch",
    "mlock",
    "verify_rows",
    "memory_weights",
    "reference",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "seed",
    "max_tokens",
)


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add which model and memory to load, and how."""
    group = parser.add_argument_group("model")
    group.add_argument("-m", "--model", type=Path, metavar="GGUF", dest="model_flag")
    choice = group.add_mutually_exclusive_group()
    choice.add_argument(
        "--memory",
        type=Path,
        metavar="GGUF",
        help="memory file (default: one that fits, beside the model or shipped)",
    )
    choice.add_argument(
        "--no-memory",
        action="store_true",
        help="run the backbone alone (not possible with a table of its own)",
    )
    group.add_argument(
        "--memory-tier",
        choices=TIERS,
        help="where rows are read from; direct = the drive, past the page cache "
        "(auto = mmap; of a model's own table ram, where it fits)",
    )
    group.add_argument(
        "--no-prefetch",
        dest="prefetch",
        action="store_const",
        const=False,
        help="read rows when they are needed, for comparison",
    )
    group.add_argument(
        "--mlock",
        action="store_const",
        const=True,
        help="lock a model's own table in RAM, or refuse (with --memory-tier ram)",
    )
    group.add_argument(
        "--verify-rows",
        action="store_const",
        const=True,
        help="compare what llama.cpp gathers from a model's own table, bit for bit",
    )
    group.add_argument(
        "--memory-weights",
        choices=MEMORY_WEIGHTS,
        help="the memory's projections (default int8; f32 = exact and slower)",
    )
    group.add_argument(
        "--reference",
        action="store_const",
        const=True,
        help="run the memory in plain numpy, for comparison",
    )
    group.add_argument(
        "--no-fit", action="store_true", help="load it even if it does not seem to fit"
    )
    _add_context_arguments(parser.add_argument_group("context"))


def _add_context_arguments(group: argparse._ArgumentGroup) -> None:
    def add(*names: str, **options: object) -> None:
        group.add_argument(*names, **options)  # type: ignore[arg-type]

    add(
        "-c",
        "--ctx-size",
        dest="n_ctx",
        type=int,
        metavar="N",
        help="context length in tokens (default 4096, 0 = as trained)",
    )
    add(
        "-t",
        "--threads",
        dest="n_threads",
        type=int,
        metavar="N",
        help="compute threads (default: physical cores)",
    )
    add(
        "-ngl",
        "--gpu-layers",
        dest="n_gpu_layers",
        type=int,
        metavar="N",
        help="layers on the GPU (default: as many as fit; -1 = all)",
    )
    add(
        "-ncmoe",
        "--n-cpu-moe",
        dest="n_cpu_moe",
        type=int,
        metavar="N",
        help="experts of the first N layers stay in RAM (default 0)",
    )
    add("-b", "--batch-size", dest="n_batch", type=int, metavar="N")
    add("-ub", "--ubatch-size", dest="n_ubatch", type=int, metavar="N")
    add("-fa", "--flash-attn", dest="flash_attention", choices=FLASH_ATTENTION)
    add("-ctk", "--cache-type-k", choices=CACHE_TYPES)
    add("-ctv", "--cache-type-v", choices=CACHE_TYPES)


def add_sampling_arguments(parser: argparse.ArgumentParser) -> None:
    """Add how tokens are picked and how many."""
    group = parser.add_argument_group("sampling")
    group.add_argument(
        "-n",
        "--predict",
        dest="max_tokens",
        type=int,
        metavar="N",
        help="tokens to generate at most (default: until the model ends)",
    )
    group.add_argument(
        "--temp",
        dest="temperature",
        type=float,
        metavar="T",
        help="temperature (default 0.8; 0 = most likely token)",
    )
    group.add_argument("--top-k", type=int, metavar="K", help="default 40")
    group.add_argument("--top-p", type=float, metavar="P", help="default 0.95")
    group.add_argument("--min-p", type=float, metavar="P", help="default 0.05")
    group.add_argument("--seed", type=int, metavar="S", help="default: random")


def settings_of(args: argparse.Namespace, **defaults: object) -> Settings:
    """Return the settings that flags, environment and config file give.

    defaults: of the command, weaker than all of those.
    """
    flags = {name: getattr(args, name, None) for name in _SETTINGS}
    return resolve(flags, defaults=defaults)


def open_engine(args: argparse.Namespace, settings: Settings) -> Engine:
    """Load the model and the memory that were asked for, with progress on stderr."""
    with status_line() as status:
        status.announce("starting")  # 1 s
        from engram_local.kernels import report_compiling

        report_compiling(lambda part: status("compiling, once on this machine", part))
        try:
            from engram_local import opening

            opened = opening.open_engine(
                model_of(args),
                memory=memory_of(args),
                settings=settings,
                asked_n_ctx=args.n_ctx or 0,
                fit=not args.no_fit,
                progress=status,
            )
        finally:
            report_compiling(None)  # the line belongs to the answer now
    for note in opened.notes:
        print(note, file=sys.stderr)
    return opened.engine


def read_text(path: Path) -> str:
    """Return a text file's content; `-` is stdin. Raises FileError."""
    from engram_local.formats.header import open_error  # numpy: 0.1 s

    try:
        if str(path) != "-":
            return path.read_text("utf-8")
        return sys.stdin.read() if sys.stdin else ""
    except OSError as error:
        raise open_error(path, error) from error
    except UnicodeDecodeError as error:
        raise FileError(f"{path} is not text in UTF-8: {error}") from error


def files_of(args: argparse.Namespace) -> tuple[Path, Path]:
    """Return model and memory; raise FileError if there is no memory for the model."""
    from engram_local.catalog import default_model, find_memory
    from engram_local.formats.backbone import read_backbone
    from engram_local.formats.split import read_model_header

    model = model_of(args) or default_model()
    memory = args.memory
    if memory is None:
        fingerprint = read_backbone(read_model_header(model)).fingerprint
        memory = find_memory(model, fingerprint)
    if memory is None:
        raise FileError(
            f"there is no memory for {model}",
            hint="name one with --memory, or make one with `engram-local convert`",
        )
    return model, memory


def command_line(words: Sequence[str]) -> str:
    """Return the command as it was typed, without the folders of files."""
    return shlex.join(["engram-local", *map(_without_folder, words)])


def _without_folder(word: str) -> str:
    is_flag = word.startswith("-")  # --memory=FILE
    flag, equals, path = word.partition("=") if is_flag else ("", "", word)
    return flag + equals + Path(path).name if Path(path).exists() else word


def model_of(args: argparse.Namespace) -> Path | None:
    """Return the model that was named as an argument or with -m: a file, or the name of
    one that is on this computer.
    """
    named = [path for path in (getattr(args, "model", None), args.model_flag) if path]
    if len(named) > 1:
        raise UsageError(f"two models were named: {named[0]} and {named[1]}")
    if named and " " in str(named[0]) and not named[0].exists():
        raise UsageError(f"{named[0]} is no file", hint="a prompt is given with -p")
    return _find(named[0]) if named else None


@cache  # asked for more than once, and the answer should not change
def _find(named: Path) -> Path:
    from engram_local.model_files import find_model  # numpy

    return find_model(named)


def memory_of(args: argparse.Namespace) -> Path | Literal["auto"] | None:
    """Return the memory that was asked for, in the words of `Engine.open`."""
    if args.no_memory:
        return None
    named: Path | None = args.memory
    return named or "auto"
