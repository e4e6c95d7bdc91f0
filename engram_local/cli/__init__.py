"""The command line: one module per command, imported only when it is chosen.

stdout is the answer, stderr is the story. Exit codes: 0 fine, 1 failed, 2 usage,
3 a file is missing, broken or of the wrong kind, 4 does not fit, 130 interrupted.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Protocol

from engram_local import __version__
from engram_local.errors import EngramError
from engram_local.units import escape_control

COMMANDS = {
    "run": "answer a prompt, or chat line by line on a terminal",
    "tui": "the chat app: answers, and what the memory does and costs",
    "perplexity": "how well a text is predicted, with and without memory",
    "bench": "speed with and without memory, side by side",
    "probe": "measure this computer: RAM, drive, processor",
    "convert": "turn an engram-peft adapter into a memory file",
    "size": "what a model needs and how fast it will be, before it is downloaded",
    "ls": "models on this computer, also those of Ollama, LM Studio and Hugging Face",
    "show": "what is in a GGUF: architecture, memory, rows, bytes",
}

_INTERRUPTED = 130


class Command(Protocol):
    """A module in this package with the command's name."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's flags."""

    def run(self, args: argparse.Namespace) -> int:
        """Do it; return the exit code."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; the only place that prints errors."""
    try:
        return _do(list(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt:  # also while a command is imported, which takes 0.1 s
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; Python would complain again at exit.
        _drop_stdout()
        return 1
    except OSError as error:
        print(f"error[io]: {error}", file=sys.stderr)
        _drop_stdout()
        return 1


def _do(arguments: list[str]) -> int:
    args, unknown = make_parser(arguments).parse_known_args(arguments)
    if unknown:
        args.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    _set_up_logging(args.debug)
    # numpy's product of a few rows would wake a thread per core, against llama.cpp's.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        code = int(args.run(args))
        if sys.stdout:  # a full disk or a closed pipe is noticed here
            sys.stdout.flush()
        return code
    except EngramError as error:
        if args.debug:
            traceback.print_exc()
        # Names of files and what stands in them are not ours.
        print(f"error[{error.code}]: {escape_control(error.message)}", file=sys.stderr)
        if error.hint:
            print(f"hint: {escape_control(error.hint)}", file=sys.stderr)
        return error.exit_code


class _Parser(argparse.ArgumentParser):
    """Takes flags as spelled; argparse would read `-n` as `-ngl` where no `-n` is."""

    def _get_option_tuples(self, option_string: str) -> list[Any]:
        return []


def _drop_stdout() -> None:
    if sys.stdout:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _set_up_logging(debug: bool) -> None:
    """Our warnings go to stderr; with --debug everything, llama.cpp's log included."""
    level = logging.DEBUG if debug else logging.WARNING
    logging.basicConfig(level=level, format="%(levelname)s: %(message)s")
    logging.getLogger("numba").setLevel(logging.WARNING)
    if not debug:  # its errors come back to us as return codes
        logging.getLogger("llama.cpp").setLevel(logging.CRITICAL)


def make_parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """Return a parser that knows all commands, and the flags of the chosen one.

    Importing only that one keeps `--help` at 0.1 s; numba alone takes 0.3 s.
    """
    parser = _Parser(
        prog="engram-local",
        description="Run language models that carry an n-gram memory.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("--debug", action="store_true", help="tracebacks and logs")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    chosen = next((word for word in arguments if word in COMMANDS), None)
    for name, help_text in COMMANDS.items():
        sub = subparsers.add_parser(name, help=help_text, description=help_text)
        if name == chosen:
            command: Command = import_module(f"{__name__}.{name}")
            command.add_arguments(sub)
            sub.add_argument("--debug", action="store_true", default=argparse.SUPPRESS)
            sub.set_defaults(run=command.run, parser=sub)
    return parser
